"""Retrieval: queries answered from a whole collection, students trained on candidate lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench.data.order import fixed_order
from bench.errors import BenchError
from bench.tasks.base import Data, Task
from bench.tasks.preset import Preset

if TYPE_CHECKING:
    from bench.data.bm25 import BM25
    from bench.data.judged import Judged
    from bench.data.negatives import Negatives
    from bench.data.retrieval import TokenTable
    from bench.models.base import Model
    from bench.models.retriever import Retriever
    from bench.teachers.signals import TeacherSource

DEPTH = 1000  # passages in a ranking


class RetrievalPreset(Preset):
    """One size of a retrieval task; ``max_length`` is that of passages.

    Attributes:
        dataset: the judged set's name; "auto" is the source's own.
        held_out_limit: at most so many queries in validation and in test; the first of a fixed
            shuffled order.
        query_length: tokens a query is cut to.
        bm25_negatives: negatives in a list that BM25 ranks high.
        mined_negatives: negatives that the miner ranks high.
        random_negatives: negatives from anywhere.
        negative_pool: ranked negatives are drawn from the first so many.
        miner: the frozen retriever that mines; by default the teacher as it was published.
        in_batch: whether other queries' candidates in a batch are negatives too.
        rerank: passages of BM25 that a cross-encoder ranks again.
    """

    dataset: str = "auto"
    held_out_limit: int | None = Field(default=None, gt=0)
    query_length: int = Field(default=32, gt=2, le=512)
    bm25_negatives: int = Field(default=0, ge=0)
    mined_negatives: int = Field(default=0, ge=0)
    random_negatives: int = Field(default=0, ge=0)
    negative_pool: int = Field(default=30, gt=0)
    miner: str = "dual:minilm"
    in_batch: bool = False
    rerank: int = Field(default=20, gt=0)


@dataclass(frozen=True)
class RetrievalData(Data):
    """The splits and the collection they share.

    Attributes:
        passages: size of the collection.
    """

    passages: int = 0

    def rows(self) -> dict[str, int]:
        return {**super().rows(), "passages": self.passages}


class RetrievalTask(Task):
    """Queries, passages and judgements; a model is scored by ranking the whole collection."""

    family: ClassVar[str] = "retrieval"
    metric: ClassVar[str] = "mrr@10"
    signals: ClassVar[frozenset[str]] = frozenset({"logits", "embedding", "generator"})
    depth: ClassVar[int] = DEPTH
    preset: RetrievalPreset

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        from bench.models.retriever import encoder_name, is_cross

        preset = self.preset
        self.num_classes = 1 + self.negatives().total
        if self.num_classes < 2:
            raise BenchError(f"task '{self.name}': lists without negatives teach nothing")
        fresh = is_cross(preset.teacher) and not encoder_name(preset.teacher).startswith("hub:")
        if fresh and preset.frozen_teacher and preset.teacher_checkpoint is None:
            raise BenchError(
                f"teacher '{preset.teacher}' must be trained: its head is fresh",
                "set frozen_teacher=false",
            )

    def judged(self) -> Judged:
        """Return the collection with its judgements; read once."""
        raise NotImplementedError

    def negatives(self) -> Negatives:
        """Return what a list is made of."""
        from bench.data.negatives import Negatives

        preset = self.preset
        counts = {
            "bm25": preset.bm25_negatives,
            "miner": preset.mined_negatives,
            "random": preset.random_negatives,
        }
        return Negatives(counts, preset.negative_pool)

    @cached_property
    def _index(self) -> BM25:
        from bench.data.bm25 import BM25

        return BM25(self.judged().passages)

    def bm25(self) -> BM25:
        """Return the BM25 index of the collection; built once."""
        return self._index

    def _first_stage(self, queries: Sequence[str]) -> np.ndarray:
        return self.bm25().ranking(queries, self.depth)

    @property
    def text_length(self) -> int:
        """Return the tokens of a query: that is what a generator writes."""
        return self.preset.query_length

    def class_names(self) -> tuple[str, ...]:
        """Return the places of a list: the answer's, then those of other passages."""
        return ("answer", *(f"other {at}" for at in range(1, self.num_classes)))

    def vocabulary(self) -> str:
        from bench.models.retriever import encoder_name

        name = encoder_name(self.preset.teacher)
        return name if name.startswith("hub:") else "minilm"

    def build_model(self, name: str, *, data: Data | None = None) -> Model:
        return self._retriever(name)

    def _retriever(self, name: str) -> Retriever:
        """Build a retriever that can read the collection's token ids."""
        from bench.models.fit import check_length, check_vocabulary
        from bench.models.retriever import build_retriever, encoder_name

        check_vocabulary(encoder_name(name), self.vocabulary())
        model = build_retriever(name)
        longest = model.longest_input(self.preset.query_length, self.preset.max_length)
        check_length(model.config, longest, name)
        return model

    def evaluate(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Score rankings ``(N, depth)`` against relevant passages ``(N, P)``."""
        from bench.metrics.retrieval import retrieval_metrics

        return retrieval_metrics(logits, labels)

    def each(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        from bench.metrics.retrieval import per_query

        return per_query(logits, labels)[self.metric]

    def teacher_source(self, source: TeacherSource) -> TeacherSource:
        from bench.teachers.lists import OwnLists

        return OwnLists(source) if self.preset.in_batch else source

    def load(self, device: str = "cpu") -> RetrievalData:
        from bench.data.judged import padded
        from bench.data.retrieval import ListSplit, SearchSplit

        judged = taught(self.judged(), self.preset.train_limit)
        passages = self._table(judged.passages, self.preset.max_length)
        queries = {
            name: self._table(texts, self.preset.query_length)
            for name, texts in judged.queries.items()
        }
        query_of, positive = samples(judged)[:, : self.preset.train_limit]
        train = ListSplit(
            queries["train"],
            passages,
            query_of=query_of,
            relevant=padded(judged.relevant["train"])[query_of],
            lists=lambda: self._lists(
                judged, query_of, positive, passages, queries["train"], device
            ),
            candidates=self.num_classes,
            in_batch=self.preset.in_batch,
            device=device,
        )
        held = {
            name: SearchSplit(
                queries[name],
                passages,
                padded(judged.relevant[name]),
                depth=self.depth,
                rerank=min(self.preset.rerank, len(passages)),
                first_stage=partial(self._first_stage, judged.queries[name]),
                device=device,
            )
            for name in ("validation", "test")
        }
        return RetrievalData(
            train,
            held["validation"],
            held["test"],
            dropped=judged.dropped,
            passages=len(passages),
        )

    def _table(self, texts: Sequence[str], length: int) -> TokenTable:
        from bench.data.retrieval import TokenTable
        from bench.data.tokens import cached_tokens

        return TokenTable(*cached_tokens(texts, self.vocabulary(), length))

    def _lists(
        self,
        judged: Judged,
        query_of: np.ndarray,
        positive: np.ndarray,
        passages: TokenTable,
        queries: TokenTable,
        device: str,
    ) -> np.ndarray:
        from bench.data.fingerprint import digest
        from bench.data.negatives import kept_lists, mine

        def by_words(rows: Sequence[int], depth: int) -> np.ndarray:
            return self.bm25().ranking([judged.queries["train"][row] for row in rows], depth)

        def by_miner(rows: Sequence[int], depth: int) -> np.ndarray:
            return self._mined(passages, queries, rows, depth, device)

        negatives, preset = self.negatives(), self.preset
        precision, kind = preset.teacher_recipe.precision, device.partition(":")[0]
        mined = (preset.miner, precision, kind, passages.digest, queries.digest)
        parts = (
            digest([judged.passages, judged.queries["train"], judged.relevant["train"]]),
            query_of.tolist(),
            positive.tolist(),
            [dict(negatives.counts), negatives.pool],
            mined if preset.mined_negatives else None,
        )
        return kept_lists(
            parts,
            lambda: mine(
                query_of=query_of,
                positive=positive,
                relevant=judged.relevant["train"],
                passages=len(judged.passages),
                negatives=negatives,
                rankings={"bm25": by_words, "miner": by_miner},
            ),
        )

    def _mined(
        self,
        passages: TokenTable,
        queries: TokenTable,
        rows: Sequence[int],
        depth: int,
        device: str,
    ) -> np.ndarray:
        """Return the miner's first passages for training queries ``rows``."""
        import torch

        from bench.models.dual import DualEncoder
        from bench.models.encode import encode, encoded_tiles
        from bench.models.search import ExactSearch
        from bench.training.evaluate import autocast, evaluating

        # building a model draws random numbers: the caller's stream must not move by it
        with torch.random.fork_rng(devices=[]):
            miner = self._retriever(self.preset.miner).fix().to(device)
        if not isinstance(miner, DualEncoder):
            raise BenchError(f"miner '{self.preset.miner}' cannot search", "a dual encoder can")
        size = self.preset.evaluation_batch
        precision = self.preset.teacher_recipe.precision
        with evaluating(miner), autocast(torch.device(device), precision):
            asked = encode(miner, queries, "query", size)[torch.as_tensor(rows)]
            exact = ExactSearch(asked.to(device), depth)
            for tile in encoded_tiles(miner, passages, size, {}):
                exact.add(tile.to(device))
        return exact.ranking().cpu().numpy().astype(np.int32)


def limited(judged: Judged, count: int | None) -> Judged:
    """Return ``judged`` with at most ``count`` queries in validation and in test.

    Those are the first of a fixed shuffled order; the collection stays whole.
    """
    if count is None:
        return judged
    queries, relevant = dict(judged.queries), dict(judged.relevant)
    for name in ("validation", "test"):
        order = fixed_order(len(queries[name]))
        kept = np.sort(order[:count])
        queries[name] = [queries[name][at] for at in kept]
        relevant[name] = [relevant[name][at] for at in kept]
    return replace(judged, queries=queries, relevant=relevant)


def samples(judged: Judged) -> np.ndarray:
    """Return query and positive passage of each training pair, ``(2, N)``, by query."""
    pairs = [(at, p) for at, row in enumerate(judged.relevant["train"]) for p in row]
    return np.array(pairs, dtype=np.int64).T


def taught(judged: Judged, count: int | None) -> Judged:
    """Return ``judged`` with the queries of at most ``count`` training pairs.

    Those come in a fixed shuffled order; a query keeps all its answers, as none may be its own
    negative.
    """
    order = fixed_order(len(judged.queries["train"]))
    answers = np.array([len(judged.relevant["train"][at]) for at in order])
    if count is not None:  # as many queries as it takes to have that many pairs
        order = order[: int(np.searchsorted(np.cumsum(answers), count)) + 1]
    queries, relevant = dict(judged.queries), dict(judged.relevant)
    queries["train"] = [queries["train"][at] for at in order]
    relevant["train"] = [relevant["train"][at] for at in order]
    return replace(judged, queries=queries, relevant=relevant)
