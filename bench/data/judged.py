"""Judged collections: passages, queries and which passage answers which query.

Rows that cannot be used are dropped, counted by reason and listed in the record.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.errors import BenchError

Pairs = Sequence[tuple[str, str]]
HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Judged:
    """A collection with judgements, by position.

    Attributes:
        passages: texts; positions in this list name passages everywhere.
        queries: texts by split, each query once.
        relevant: by split, for each of its queries the passages judged relevant, at least one.
        dropped: what could not be used, counted by the reason.
    """

    passages: list[str]
    queries: dict[str, list[str]]
    relevant: dict[str, list[list[int]]]
    dropped: dict[str, int] = field(default_factory=dict)


def assemble(
    passages: Iterable[tuple[str, str]],
    queries: Iterable[tuple[str, str]],
    pairs: Mapping[str, Pairs],
) -> Judged:
    """Build a judged collection out of rows that may be damaged.

    Rules: of several rows with one id the first counts; empty texts are dropped; a pair counts
    when both of its ids exist; a query without a pair is dropped.  A query is dropped from
    validation if its text is also in test, and from training if it is in either, or if one of its
    passages, or another with the same words, answers a held-out query.

    Args:
        passages: (id, text) rows.
        queries: (id, text) rows of all splits.
        pairs: by split, (query id, passage id) of positive judgements.

    Raises:
        BenchError: when a split ends up empty; the message counts what was dropped.
    """
    dropped: Counter[str] = Counter()
    texts = _unique(passages, "passage", dropped)
    asked = _unique(queries, "query", dropped)
    place = {name: at for at, name in enumerate(texts)}
    found = {
        split: _usable(split, pairs.get(split, ()), place, asked, dropped)
        for split in ("train", *HELD_OUT)
    }
    named = {query for listed in pairs.values() for query, _ in listed}
    dropped["queries without a positive"] += len(asked.keys() - named)
    _keep_apart(found, asked, list(texts.values()), dropped)
    for split, kept in found.items():
        if not kept:
            reasons = ", ".join(f"{count} {why}" for why, count in sorted(dropped.items()))
            raise BenchError(f"split '{split}' has no usable query", reasons or "it has no pairs")
    return Judged(
        list(texts.values()),
        {split: [asked[name] for name in kept] for split, kept in found.items()},
        {split: list(kept.values()) for split, kept in found.items()},
        dict(sorted(dropped.items())),
    )


def _unique(rows: Iterable[tuple[str, str]], kind: str, dropped: Counter[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    plural = {"passage": "passages", "query": "queries"}[kind]
    for name, text in rows:
        if name in found:
            dropped[f"{plural} with an id seen before"] += 1
        elif not (text or "").strip():
            dropped[f"empty {plural}"] += 1
        else:
            found[name] = text.strip()
    return found


def _usable(
    split: str,
    pairs: Pairs,
    place: Mapping[str, int],
    asked: Mapping[str, str],
    dropped: Counter[str],
) -> dict[str, list[int]]:
    """Return the relevant passages by query id, in the order of first appearance."""
    found: dict[str, list[int]] = {}
    lost: set[str] = set()
    for query, passage in dict.fromkeys(pairs):
        if query not in asked:
            dropped["pairs whose query is missing"] += 1
        elif passage not in place:
            dropped["pairs whose passage is missing"] += 1
            lost.add(query)
        else:
            found.setdefault(query, []).append(place[passage])
    repeated = len(pairs) - len(dict.fromkeys(pairs))
    dropped["repeated pairs"] += repeated
    dropped[f"{split} queries without a positive"] += len(lost - found.keys())
    return found


def _keep_apart(
    found: dict[str, dict[str, list[int]]],
    asked: Mapping[str, str],
    passages: Sequence[str],
    dropped: Counter[str],
) -> None:
    """Drop from train what is also in validation or test, and from validation what is in test."""
    seen: set[str] = set()
    held: set[str] = set()  # by their words: a collection may hold a text twice
    for split in ("test", "validation", "train"):
        own: set[str] = set()
        for name in list(found[split]):
            text = normalised(asked[name])
            if text in seen:
                dropped[f"{split} queries that a later split asks too"] += 1
                del found[split][name]
            elif split != "train" and text in own:
                dropped[f"{split} queries asked twice"] += 1
                del found[split][name]
            own.add(text)
        seen |= own
        if split == "train":
            _drop_answers(found[split], passages, held, dropped)
        else:
            held.update(normalised(passages[at]) for each in found[split].values() for at in each)


def _drop_answers(
    training: dict[str, list[int]],
    passages: Sequence[str],
    held: set[str],
    dropped: Counter[str],
) -> None:
    # the whole query goes: with the pair alone gone, the passage could be mined as its negative
    for name, relevant in list(training.items()):
        if held.isdisjoint(normalised(passages[at]) for at in relevant):
            continue
        dropped["train queries whose passage answers a held-out query"] += 1
        del training[name]


def normalised(text: str) -> str:
    """Return ``text`` in lower case, words only: what two spellings of a query share."""
    return " ".join(re.findall(r"\w+", text.lower())) or text


def padded(lists: Sequence[Sequence[int]]) -> np.ndarray:
    """Return lists of positions as one array ``(N, longest)`` int64, filled up with −1."""
    filled = np.full((len(lists), max((len(row) for row in lists), default=0)), -1, dtype=np.int64)
    for at, row in enumerate(lists):
        filled[at, : len(row)] = row
    return filled
