"""Dual encoders: one embedding a text, scores as inner products (Karpukhin et al. 2020)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.models.encode import KEPT_BYTES, Tower, encode, encoded_tiles
from bench.models.retriever import Retriever
from bench.models.search import ExactSearch
from bench.types import Batch, Output

if TYPE_CHECKING:
    from bench.data.retrieval import SearchSplit

COSINE_SCALE = 20.0  # what sentence-transformers multiplies cosines by in training
MEASURED_PASSAGES = 512  # encoded to measure how fast an index is built


class DualEncoder(Retriever):
    """A transformer that embeds queries and passages; the score is ``scale·⟨e_q, e_p⟩``.

    With cosine, embeddings have length one and scale is 20; with dot it is 1.  The embedding of an
    output is ``(N, 1 + K, D)``: the query's, then its candidates', as they are searched with.

    Args:
        encoder: a transformers encoder.
        pooling: mean over real tokens, or the first token's state.
        similarity: "cosine" or "dot".
        shared: one tower for both, or one each that start equal.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        pooling: Literal["mean", "cls"] = "mean",
        similarity: Literal["cosine", "dot"] = "cosine",
        shared: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.query_encoder = None if shared else copy.deepcopy(encoder)
        config: Any = encoder.config
        self.depth, self.width = int(config.num_hidden_layers), int(config.hidden_size)
        self.pooling: Literal["mean", "cls"] = pooling
        self.similarity: Literal["cosine", "dot"] = similarity
        self.scale = COSINE_SCALE if similarity == "cosine" else 1.0

    def vectors(self, candidates: int) -> int:
        return 1 + candidates

    @property
    def config(self) -> Any:
        return self.encoder.config

    def widened(self, factor: int) -> DualEncoder:
        """Build the same dual encoder with embeddings ``factor`` times as wide.

        An embedding repeated ``factor`` times has the same cosines; inner products grow by
        ``factor``, which the scale takes back.
        """
        from bench.models.text import wider_encoder

        wide = DualEncoder(
            wider_encoder(self.encoder, factor),
            pooling=self.pooling,
            similarity=self.similarity,
            shared=self.query_encoder is None,
        )
        wide.scale = self.scale / (factor if self.similarity == "dot" else 1)
        return wide

    def encode(self, ids: Tensor, mask: Tensor, tower: Tower) -> Tensor:
        """Return embeddings ``(M, D)`` float32 of token ids ``(M, L)`` with their mask."""
        chosen = self.query_encoder if tower == "query" and self.query_encoder else self.encoder
        states = _full(chosen(input_ids=ids, attention_mask=mask).last_hidden_state)
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            weight = mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        return F.normalize(pooled, dim=-1) if self.similarity == "cosine" else pooled

    def forward(
        self, inputs: Mapping[str, Tensor], *, hidden: Sequence[int] = (), until: int | None = None
    ) -> Output:
        if hidden or until is not None:
            raise NotApplicable("a dual encoder gives embeddings, not hidden layers")
        query = self.encode(inputs["query_ids"], inputs["query_mask"], "query")
        ids, mask = inputs["passage_ids"], inputs["passage_mask"]
        passages = self.encode(ids.flatten(0, 1), mask.flatten(0, 1), "passage")
        embedding = torch.cat([query[:, None], passages.view(*ids.shape[:2], -1)], dim=1)
        return self.scored(embedding, inputs["real"], inputs.get("foreign"))

    def scored(self, embedding: Tensor, real: Tensor, foreign: Tensor | None = None) -> Output:
        """Return the output for embeddings.

        Args:
            embedding: ``(N, 1 + K, D)``, the query first.
            real: ``(N, K)`` bool, false where a list is only filled up.
            foreign: ``(N, N·K)`` bool, the in-batch negatives; their scores follow the list's own.
        """
        query, passages = _full(embedding[:, 0]), _full(embedding[:, 1:])
        with torch.autocast(embedding.device.type, enabled=False):  # scores are float32 always
            own = self.scale * (passages @ query[:, :, None]).squeeze(-1)
            logits = own.masked_fill(~real, -torch.inf)
            if foreign is not None:
                others = self.scale * query @ passages.flatten(0, 1).T
                logits = torch.cat([logits, others.masked_fill(~foreign, -torch.inf)], dim=1)
        return Output(logits=logits, embedding=embedding)

    def rank(self, search: SearchSplit, size: int, shared: dict[str, Any]) -> np.ndarray:
        device = search.labels.device
        exact = ExactSearch(encode(self, search.queries, "query", size).to(device), search.depth)
        for tile in encoded_tiles(self, search.passages, size, shared):
            exact.add(tile.to(device))
        return exact.ranking().cpu().numpy().astype(np.int32)

    def server(self, search: SearchSplit) -> Callable[[Batch], object]:
        """Return encoding and exact search in an index of the right size.

        The index holds random vectors: search takes as long whatever they are, and encoding the
        collection would take longer than all measurements.  Of a collection too large to be held
        there is one part, which is searched again until all passages are counted.
        """
        generator = torch.Generator().manual_seed(0)
        passages = len(search.passages)
        held = min(passages, max(KEPT_BYTES // (4 * self.width), 1))
        index = torch.randn(held, self.width, generator=generator)
        index = F.normalize(index, dim=-1).to(search.labels.device)

        def answer(batch: Batch) -> Tensor:
            query = self.encode(batch.inputs["query_ids"], batch.inputs["query_mask"], "query")
            exact = ExactSearch(query, search.depth)
            while exact.count < passages:
                exact.add(index[: passages - exact.count])
            return exact.ranking()

        return answer

    def serving_costs(self, search: SearchSplit, size: int) -> dict[str, Any]:
        """Return the index: passages, bytes in float32 and passages encoded a second."""
        from bench.measure.timing import time_calls

        device = search.labels.device
        count = min(MEASURED_PASSAGES, size, len(search.passages))
        chosen = np.linspace(0, len(search.passages) - 1, count).astype(np.int64)
        ids, mask = search.passages.batch(chosen, device)
        timing = time_calls(
            lambda at: self.encode(ids, mask, "passage"),
            samples=count,
            device=device,
            repetitions=3,
            warmup=1,
        )
        passages = len(search.passages)
        return {
            "index": {
                "passages": passages,
                "bytes": passages * self.width * 4,
                "build": timing.summary(),
            }
        }


def _full(value: Tensor) -> Tensor:
    """Return ``value`` in float32 at least."""
    return value if value.dtype == torch.float64 else value.float()
