"""Hard negatives: each training query's list of candidates, made once and cached."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.config import content_hash
from bench.data.cache import cache_dir
from bench.data.order import SEED
from bench.locks import locked
from bench.store import DAMAGED, write_atomically

Rankings = Mapping[str, Callable[[Sequence[int], int], np.ndarray]]


@dataclass(frozen=True)
class Negatives:
    """How many negatives a list holds, by where they come from.

    Attributes:
        counts: by source, in the order they are put into the list.
        pool: number of first passages that a ranked source draws from.
    """

    counts: Mapping[str, int]
    pool: int

    @property
    def total(self) -> int:
        """Return the number of negatives in a list."""
        return sum(self.counts.values())


def mine(
    *,
    query_of: np.ndarray,
    positive: np.ndarray,
    relevant: Sequence[Sequence[int]],
    passages: int,
    negatives: Negatives,
    rankings: Rankings,
) -> np.ndarray:
    """Return candidate lists ``(N, 1 + K)`` int64: the positive, then its negatives.

    Negatives of a ranked source are drawn at random from the query's first passages there, those of
    "random" from the whole collection; none is judged relevant to the query and none comes twice.
    Missing ones are filled up from the whole collection, and then with −1.

    Args:
        query_of: query of each sample, ``(N,)``.
        positive: its positive passage, ``(N,)``.
        relevant: by query, all passages judged relevant.
        passages: size of the collection.
        negatives: how many from each source.
        rankings: by ranked source, (queries, depth) → their first passages.
    """
    queries = np.unique(query_of)
    # as deep as the pool once the query's own answers are left out
    depth = min(negatives.pool + max(len(relevant[query]) for query in queries), passages)
    wanted = [name for name, count in negatives.counts.items() if count and name != "random"]
    ranked = {name: rankings[name](queries.tolist(), depth) for name in wanted}
    row_of = {int(query): row for row, query in enumerate(queries)}
    lists = np.full((len(query_of), 1 + negatives.total), -1, dtype=np.int64)
    for at, (query, right) in enumerate(zip(query_of, positive, strict=True)):
        generator = np.random.Generator(np.random.PCG64([SEED, int(query), int(right)]))
        excluded = set(relevant[query])
        chosen: list[int] = []
        for name in wanted:
            first = [int(p) for p in ranked[name][row_of[int(query)]] if int(p) not in excluded]
            drawn = generator.permutation(first[: negatives.pool])[: negatives.counts[name]]
            chosen += drawn.tolist()
            excluded.update(chosen)
        chosen += _anywhere(generator, passages, negatives.total - len(chosen), excluded)
        lists[at, 0] = right
        lists[at, 1 : 1 + len(chosen)] = chosen
    return lists


def _anywhere(
    generator: np.random.Generator, passages: int, count: int, excluded: set[int]
) -> list[int]:
    """Draw ``count`` different passages outside ``excluded``, fewer where there are fewer."""
    if passages <= 4 * (count + len(excluded)):  # few are left: no use in trying
        left = [at for at in range(passages) if at not in excluded]
        return [int(at) for at in generator.permutation(left)[:count]]
    found: list[int] = []
    while len(found) < count:
        drawn = int(generator.integers(passages))
        if drawn not in excluded and drawn not in found:
            found.append(drawn)
    return found


def kept_lists(parts: Sequence[Any], make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return lists from the cache, or make and keep them.

    Args:
        parts: everything that shapes the lists.
        make: makes them; two processes that ask at once make them once.
    """
    import bm25s

    key = content_hash([*parts, SEED, bm25s.__version__])[:32]
    path = cache_dir() / "lists" / f"{key}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")):
        try:
            with np.load(path, allow_pickle=False) as arrays:  # each member's CRC is checked
                return np.asarray(arrays["lists"])
        except DAMAGED:
            lists = make()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, lists=lists)
        write_atomically(path, buffer.getvalue())
    return lists
