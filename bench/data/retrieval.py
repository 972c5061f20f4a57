"""Retrieval splits: candidate lists to train on, queries over a whole collection to test on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.data.splits import Split, TextSplit, View
from bench.types import Batch, Output

if TYPE_CHECKING:
    from bench.models.base import Model
    from bench.models.retriever import Retriever

LISTED_SEED = 20241120


class TokenTable:
    """Token ids of many texts in one array.

    Args:
        tokens: one int array per text, special tokens included.
        pad: id of the padding token.
    """

    def __init__(self, tokens: Sequence[np.ndarray], pad: int) -> None:
        self.pad = pad
        self.lengths = np.array([len(row) for row in tokens], dtype=np.int64)
        largest = max((int(row.max()) for row in tokens), default=0)
        kind = np.uint16 if max(largest, pad) < 2**16 else np.int32
        self.ids = np.full((len(tokens), int(self.lengths.max(initial=1))), pad, dtype=kind)
        for at, row in enumerate(tokens):
            self.ids[at, : len(row)] = row

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of the content, padding aside."""
        sums = hashlib.sha256(self.lengths.tobytes())
        sums.update(self.ids.astype(np.int32).tobytes())
        return sums.hexdigest()

    def batch(self, index: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return ids int64 and mask bool, ``(n, L)`` each, cut to the longest text at ``index``."""
        longest = int(self.lengths[index].max())
        ids = torch.from_numpy(self.ids[index, :longest].astype(np.int64))
        mask = torch.from_numpy(np.arange(longest)[None, :] < self.lengths[index][:, None])
        return ids.to(device), mask.to(device)


class ListSplit(Split):
    """Training queries, each with a fixed list of candidates.

    Inputs of a batch: ``query_ids``, ``query_mask`` ``(n, L)``; ``passage_ids``, ``passage_mask``
    ``(n, K, L)``; ``real`` ``(n, K)``, false at places that only fill a list up.  The positive is
    candidate 0 (which is what the margin loss of ``kd`` relies on); nothing in a retriever depends
    on a candidate's place.  In a training batch with in-batch negatives also ``foreign``
    ``(n, n·K)``, true at the batch's candidates that are negatives for a query of another list.

    Args:
        queries: of this split.
        passages: of the collection.
        query_of: the query of each sample, ``(N,)``.
        relevant: all relevant passages of each sample's query, ``(N, P)`` filled up with −1.
        lists: gives the candidates ``(N, K)``, −1 where there is none; called when first needed.
        candidates: ``K``.
        in_batch: whether the other lists of a batch give negatives too.
        device: where batches are put.
    """

    def __init__(
        self,
        queries: TokenTable,
        passages: TokenTable,
        *,
        query_of: np.ndarray,
        relevant: np.ndarray,
        lists: Callable[[], np.ndarray],
        candidates: int,
        in_batch: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.queries, self.passages = queries, passages
        self.query_of, self.relevant = query_of, relevant
        self._lists, self.candidates, self.in_batch = lists, candidates, in_batch
        self.labels = torch.zeros(len(query_of), dtype=torch.int64, device=device)

    @cached_property
    def lists(self) -> np.ndarray:
        """Return the candidates of every sample, ``(N, K)``."""
        return self._lists()

    @cached_property
    def part(self) -> str:  # type: ignore[override]
        """Return a digest of all lists, so that cached scores are never used for others."""
        sums = hashlib.sha256(np.ascontiguousarray(self.lists, dtype=np.int64).tobytes())
        sums.update(self.query_of.astype(np.int64).tobytes())
        sums.update(f"{self.queries.digest} {self.passages.digest}".encode())
        return sums.hexdigest()[:16]

    def batch(self, index: np.ndarray, view: View | None = None) -> Batch:
        device = self.labels.device
        listed = self.lists[index]
        query_ids, query_mask = self.queries.batch(self.query_of[index], device)
        # a place that is filled up holds any passage: its score is masked
        ids, mask = self.passages.batch(np.maximum(listed, 0).ravel(), device)
        inputs = {
            "query_ids": query_ids,
            "query_mask": query_mask,
            "passage_ids": ids.view(*listed.shape, -1),
            "passage_mask": mask.view(*listed.shape, -1),
            "real": torch.from_numpy(listed >= 0).to(device),
        }
        if self.in_batch and view is not None:
            usable = torch.from_numpy(foreign_negatives(listed, self.relevant[index]))
            inputs["foreign"] = usable.to(device)
        position = torch.from_numpy(index.astype(np.int64)).to(device)
        return Batch(inputs, self.labels[position], position, part=self.part)

    def texts(self) -> TextSplit:
        """Return the queries, one per sample, with the samples' labels."""
        return query_texts(self.queries, self.query_of, self.labels)

    def with_texts(
        self, inputs: Mapping[str, Tensor], texts: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        queries = {"query_ids": texts["input_ids"], "query_mask": texts["attention_mask"]}
        return {**inputs, **queries}

    def rewritten(self, tokens: Sequence[np.ndarray]) -> ListSplit:
        """Return the same lists for other queries, one per sample, without in-batch negatives.

        Labels are −1: a rewritten query may no longer have the same answer.
        """
        made = ListSplit(
            TokenTable(tokens, self.queries.pad),
            self.passages,
            query_of=np.arange(len(self)),
            relevant=self.relevant,
            lists=lambda: self.lists,
            candidates=self.candidates,
            device=self.labels.device,
        )
        made.labels.fill_(-1)
        return made

    def outputs(
        self, model: Model, view: View | None, hidden: Sequence[int], size: int
    ) -> Iterator[tuple[np.ndarray, Output]]:
        """Do as the base class, but run a fixed dual encoder once per text, not per list."""
        from bench.models.dual import DualEncoder
        from bench.models.encode import encode

        if hidden or not isinstance(model, DualEncoder) or not model.fixed:
            yield from super().outputs(model, view, hidden, size)
            return
        queries = encode(model, self.queries, "query", size)
        passages = encode(model, self.passages, "passage", size)
        for index in self.evaluation_order(size):
            listed = torch.from_numpy(self.lists[index])
            both = [
                queries[torch.from_numpy(self.query_of[index])][:, None],
                passages[listed.clamp(min=0)],
            ]
            yield index, model.scored(torch.cat(both, dim=1), listed >= 0)

    def absent(self, index: np.ndarray) -> np.ndarray | None:
        return np.asarray(self.lists[index] < 0)

    def signal_shape(self, model: Model) -> tuple[int, int]:
        return self.candidates, retriever(model).vectors(self.candidates) * model.width


def query_texts(queries: TokenTable, query_of: np.ndarray, labels: Tensor) -> TextSplit:
    """Return queries as texts, one per sample.

    Args:
        queries: of the split.
        query_of: the query of each sample, ``(N,)``.
        labels: ``(N,)``.
    """
    rows = [queries.ids[at, : queries.lengths[at]].astype(np.int64) for at in query_of]
    return TextSplit(rows, labels.cpu().numpy(), pad=queries.pad, device=labels.device)


def foreign_negatives(listed: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Return which candidates of a batch are in-batch negatives of which query.

    Neither a query's own candidates nor any passage judged relevant to it is one.

    Args:
        listed: candidates ``(n, K)``, −1 where there is none.
        relevant: passages relevant to each query, ``(n, P)`` filled up with −1.

    Returns:
        ``(n, n·K)`` bool, row = query, column = candidate of the flattened lists.
    """
    flat = listed.ravel()
    usable = np.repeat((flat >= 0)[None, :], len(listed), axis=0)
    for row, (own, right) in enumerate(zip(listed, relevant, strict=True)):
        usable[row] &= ~np.isin(flat, own) & ~np.isin(flat, right)
    return usable


class SearchSplit(Split):
    """Held-out queries that are answered from the whole collection.

    ``predict`` gives rankings: ``(N, depth)`` int32 positions of passages, best first.

    Args:
        queries: of this split.
        passages: of the collection.
        relevant: passages judged relevant, ``(N, P)`` filled up with −1.
        depth: how many passages a ranking holds.
        rerank: how many passages of the first stage a cross-encoder ranks again.
        first_stage: gives the first stage's ranking of all queries, ``(N, depth)``.
        device: where batches are put.
    """

    def __init__(
        self,
        queries: TokenTable,
        passages: TokenTable,
        relevant: np.ndarray,
        *,
        depth: int,
        rerank: int,
        first_stage: Callable[[], np.ndarray],
        device: torch.device | str = "cpu",
    ) -> None:
        self.queries, self.passages = queries, passages
        self.labels = torch.from_numpy(relevant.astype(np.int64)).to(device)
        self.depth, self.rerank = min(depth, len(passages)), rerank
        self._first_stage = first_stage

    @cached_property
    def first_stage(self) -> np.ndarray:
        """Return the first stage's ranking, ``(N, depth)``."""
        return self._first_stage()

    def batch(self, index: np.ndarray, view: View | None = None) -> Batch:
        device = self.labels.device
        ids, mask = self.queries.batch(index, device)
        position = torch.from_numpy(index.astype(np.int64)).to(device)
        return Batch({"query_ids": ids, "query_mask": mask}, self.labels[position], position)

    def texts(self) -> TextSplit:
        """Return the queries; their labels are 0, the place of the answer in :meth:`listed`."""
        return query_texts(self.queries, np.arange(len(self)), torch.zeros_like(self.labels[:, 0]))

    def listed(self, candidates: int) -> ListSplit:
        """Return the queries with fixed lists of one answer and random other passages.

        Args:
            candidates: ``K``; a collection that is too small leaves places empty (−1).
        """
        relevant = self.labels.cpu().numpy()
        random = np.random.Generator(np.random.PCG64(LISTED_SEED))
        rows = np.full((len(self), candidates), -1, dtype=np.int64)
        for at, right in enumerate(relevant):
            drawn = random.permutation(len(self.passages))[: candidates + len(right)]
            others = drawn[~np.isin(drawn, right)][: candidates - 1]
            rows[at, : 1 + len(others)] = [right[0], *others]
        return ListSplit(
            self.queries,
            self.passages,
            query_of=np.arange(len(self)),
            relevant=relevant,
            lists=lambda: rows,
            candidates=candidates,
            device=self.labels.device,
        )

    def predict(self, model: Model, size: int, shared: dict[str, Any]) -> np.ndarray:
        return retriever(model).rank(self, size, shared)

    def serving(self, model: Model) -> Callable[[Batch], object]:
        return retriever(model).server(self)

    def serving_costs(self, model: Model, size: int) -> dict[str, Any]:
        return retriever(model).serving_costs(self, size)


def retriever(model: Model) -> Retriever:
    """Return ``model`` if it is a retriever, which can rank a collection; else ``TypeError``."""
    from bench.models.retriever import Retriever

    if not isinstance(model, Retriever):
        raise TypeError(f"{type(model).__name__} cannot rank passages")
    return model
