"""Judged collections from hub and mirror: the BEIR layout, and MS MARCO's own.

BEIR (Thakur et al. 2021, arXiv 2104.08663): ``corpus`` (``_id, title, text``), ``queries``
(``_id, text``) and ``qrels`` (``query-id, corpus-id, score``) for each split.  MS MARCO's own
(Bajaj et al. 2016, arXiv 1611.09268): queries with about ten passages each, some selected.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from bench.data import columns
from bench.data.base import DatasetRef, Source
from bench.data.fingerprint import digest
from bench.data.hub_refs import BEIR_CORPUS, BEIR_QRELS, BEIR_QUERIES, MS_MARCO
from bench.data.judged import Judged, assemble
from bench.data.order import fixed_order
from bench.errors import BenchError, nearest

AUTOMATIC = "auto"
VERSIONS = ("v1.1", "v2.1")
CARVED = 1000  # validation queries carved from training ones
CHOICE = "usable"  # which queries a limit counts in MS MARCO's own layout


@dataclass(frozen=True)
class Beir:
    """A collection in the BEIR layout.

    On the hub MS MARCO's own validation queries (6,980, "dev") are the test, as in publications,
    and validation is carved from training; elsewhere the splits are those of the files.

    Args:
        source: hub or mirror.
        name: the data set's name; on the hub only MS MARCO is pinned.
    """

    source: Source
    name: str

    def __post_init__(self) -> None:
        if self.source.kind == "hub" and self.name != BEIR_CORPUS.name:
            raise BenchError(
                f"'{self.name}' is not among the pinned sets of the hub",
                f"{BEIR_CORPUS.name} or {MS_MARCO.name}; any other from a mirror",
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the qrels that are read."""
        own = ("train", "validation", "test")
        if self.source.kind == "mirror" and self.source.has(self._qrels(), "validation"):
            return own
        return ("train", "validation") if self.source.kind == "hub" else ("train", "test")

    def parts(self) -> list[tuple[DatasetRef, tuple[str, ...]]]:
        """Return the references that are read, with their splits."""
        corpus, queries = (
            ref if self.source.kind == "hub" else replace(ref, name=self.name)
            for ref in (BEIR_CORPUS, BEIR_QUERIES)
        )
        return [(corpus, ("corpus",)), (queries, ("queries",)), (self._qrels(), self.splits)]

    def read(self) -> Judged:
        """Read and clean everything, and return the collection."""
        (corpus, _), (queries, _), (qrels, splits) = self.parts()
        pairs = {split: self._pairs(qrels, split) for split in splits}
        if "test" not in pairs:
            pairs["test"] = pairs.pop("validation")
        if "validation" not in pairs:
            pairs["train"], pairs["validation"] = carve_queries(pairs["train"], CARVED)
        return assemble(self._passages(corpus), self._queries(queries), pairs)

    def _qrels(self) -> DatasetRef:
        if self.source.kind == "hub":
            return BEIR_QRELS
        return replace(BEIR_QRELS, name=self.name, config="qrels")

    def _passages(self, ref: DatasetRef) -> Iterator[tuple[str, str]]:
        table, where = _read(self.source, ref, "corpus")
        columns_of = (columns.texts(table, name, where) for name in ("title", "text"))
        for name, title, text in zip(columns.names(table, "_id", where), *columns_of, strict=True):
            yield name, joined(title, text)

    def _queries(self, ref: DatasetRef) -> Iterator[tuple[str, str]]:
        table, where = _read(self.source, ref, "queries")
        asked = columns.texts(table, "text", where)
        for name, text in zip(columns.names(table, "_id", where), asked, strict=True):
            yield name, text or ""

    def _pairs(self, ref: DatasetRef, split: str) -> list[tuple[str, str]]:
        """Return the positive pairs: grades above 0 count as relevant, all alike."""
        table, where = _read(self.source, ref, split)
        queries, passages = (columns.names(table, f"{of}-id", where) for of in ("query", "corpus"))
        relevant = columns.integers(table, "score", where) > 0
        return [
            (query, passage)
            for query, passage, positive in zip(queries, passages, relevant, strict=True)
            if positive
        ]


@dataclass(frozen=True)
class Selected:
    """MS MARCO in its own layout; the collection is the passages of the queries that are used.

    Its validation queries are the test (those of the test split were chosen by others' systems in
    later versions); validation is carved from training.

    Args:
        source: hub or mirror.
        limits: largest numbers of training, validation and test queries; ``None`` for all.
        ref: which version.
    """

    source: Source
    limits: tuple[int | None, int | None, int | None] = (None, None, None)
    ref: DatasetRef = MS_MARCO

    @property
    def name(self) -> str:
        """Return the data set's name."""
        return f"{self.ref.name} {self.ref.config}"

    def parts(self) -> list[tuple[DatasetRef, tuple[str, ...]]]:
        """Return the reference that is read, with its splits."""
        return [(self.ref, ("train", "validation"))]

    def read(self) -> Judged:
        """Read and clean everything, merging equal passages, and return the collection."""
        passages: dict[str, str] = {}
        queries: list[tuple[str, str]] = []
        pairs: dict[str, list[tuple[str, str]]] = {}
        for part, split in (("train", "train"), ("validation", "test")):
            table, where = _read(self.source, self.ref, part)
            names = columns.names(table, "query_id", where)
            asked = columns.texts(table, "query", where)
            if split == "train":
                carved = min(self.limits[1] or CARVED, len(set(names)) // 10)
            listed = _Lists(table, where)
            kept = _usable(names, asked, listed, self._limit(split, carved))
            found = pairs.setdefault(split, [])
            for at, (name, text) in enumerate(zip(names, asked, strict=True)):
                if name in kept:
                    queries.append((f"{part}-{name}", text or ""))
                    found += _selected(f"{part}-{name}", listed[at], passages)
        pairs["train"], pairs["validation"] = carve_queries(pairs["train"], carved, share=2)
        return assemble(passages.items(), queries, pairs)

    def _limit(self, split: str, carved: int) -> int | None:
        training, _, test = self.limits
        if split == "test":
            return test
        return None if training is None else training + carved


class _Lists:
    """The passages of each query by row, each with whether it was selected."""

    def __init__(self, table: pa.Table, where: str) -> None:
        self._column, self._where = table.column("passages"), where

    def __getitem__(self, at: int) -> list[tuple[str | None, bool]]:
        return _listed(self._column[at].as_py(), f"{self._where}, row {at}")


def _usable(
    names: Sequence[str], asked: Sequence[str | None], listed: _Lists, limit: int | None
) -> set[str]:
    """Return the first ``limit`` queries of a fixed shuffled order, of those that can be used.

    A query without text, or of which no passage was selected, would be dropped later on.  Without
    a limit all are returned, to be dropped and counted there.
    """
    if limit is None:
        return set(names)
    rows: dict[str, list[int]] = {}
    for at, (name, text) in enumerate(zip(names, asked, strict=True)):
        if text and text.strip():
            rows.setdefault(name, []).append(at)
    usable = (
        name
        for name in _shuffled(names)
        if any(flag and text for at in rows.get(name, ()) for text, flag in listed[at])
    )
    return set(itertools.islice(usable, limit))


def _listed(passages: Any, where: str) -> list[tuple[str | None, bool]]:
    """Return a query's passages, each with whether it was selected.

    Raises:
        BenchError: when they are not lists of texts and flags of one length.
    """
    try:
        texts, selected = passages["passage_text"], passages["is_selected"]
        found = [(text, bool(flag)) for text, flag in zip(texts, selected, strict=True)]
        if all(text is None or isinstance(text, str) for text, _ in found):
            return found
    except (KeyError, TypeError, ValueError):
        pass
    raise BenchError(
        f"{where}: passages are not lists of texts and flags",
        "passage_text and is_selected, of one length",
    )


def _selected(
    query: str, listed: Iterable[tuple[str | None, bool]], passages: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Add a query's passages to ``passages`` and yield its positive pairs."""
    for text, selected in listed:
        name = hashlib.sha256((text or "").encode()).hexdigest()[:32]
        passages.setdefault(name, text or "")
        if selected:
            yield query, name


def open_judged(
    source: Source, name: str, limits: tuple[int | None, int | None, int | None]
) -> Beir | Selected:
    """Return the reader of the data set called ``name``.

    "auto" is MS MARCO's own layout on the hub, and the BEIR layout in a mirror.  A version may
    follow the name of MS MARCO's own: "microsoft/ms_marco v2.1".

    Raises:
        BenchError: for another version.
    """
    if name == AUTOMATIC:
        name = MS_MARCO.name if source.kind == "hub" else BEIR_CORPUS.name
    own, _, version = name.partition(" ")
    if own != MS_MARCO.name:
        return Beir(source, name)
    if version and version not in VERSIONS:
        raise BenchError(f"{own} has no version '{version}'", nearest(version, VERSIONS))
    return Selected(source, limits, replace(MS_MARCO, config=version or MS_MARCO.config))


def fingerprint(reader: Beir | Selected) -> str:
    """Return a hash that changes when the data does, or what is chosen of it."""
    parts = [reader.source.fingerprint(ref, splits) for ref, splits in reader.parts()]
    return digest([*parts, CHOICE] if isinstance(reader, Selected) else parts)


def problem(reader: Beir | Selected) -> str | None:
    """Return in one line why the data cannot be read here; ``None`` if it can."""
    found = (reader.source.problem(ref, splits) for ref, splits in reader.parts())
    return next((line for line in found if line), None)


def joined(title: str | None, text: str | None) -> str:
    """Return title and text as one passage; either may be missing."""
    return " ".join(part.strip() for part in (title, text) if part and part.strip())


def carve_queries(
    pairs: Sequence[tuple[str, str]], count: int, *, share: int = 10
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Split off all pairs of ``count`` queries (at most one in ``share``), alike for every seed.

    Returns:
        The pairs that are kept and those that are split off.
    """
    names = _shuffled([query for query, _ in pairs])
    held = set(names[: min(count, len(names) // share)])
    return (
        [pair for pair in pairs if pair[0] not in held],
        [pair for pair in pairs if pair[0] in held],
    )


def _shuffled(names: Iterable[str]) -> list[str]:
    distinct = sorted(set(names))
    order = fixed_order(len(distinct))
    return [distinct[at] for at in order]


def _read(source: Source, ref: DatasetRef, split: str) -> tuple[pa.Table, str]:
    """Return a split and its name in messages."""
    return source.read(ref, split), f"{ref.name}, {split}"
