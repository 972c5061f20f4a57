"""Cross-encoders: query and passage read together (Nogueira and Cho 2019, arXiv 1901.04085)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.errors import BenchError, NotApplicable
from bench.models.hub import hub_name, unreachable
from bench.models.retriever import Retriever
from bench.models.search import ranked_positions
from bench.models.text import minilm_path, quiet
from bench.types import Batch, Output

if TYPE_CHECKING:
    from bench.data.retrieval import SearchSplit


class CrossEncoder(Retriever):
    """A BERT with one output that reads ``[CLS] query [SEP] passage [SEP]``.

    The embedding of an output is ``(N, K, D)``, the input of its last layer for each pair.

    Args:
        network: a ``BertForSequenceClassification`` with one label.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        config: Any = network.config
        self.depth, self.width = int(config.num_hidden_layers), int(config.hidden_size)

    def vectors(self, candidates: int) -> int:
        return candidates

    @property
    def config(self) -> Any:
        return self.network.config

    def longest_input(self, query: int, passage: int) -> int:
        return query + passage - 1  # without the passage's own first token

    def forward(
        self, inputs: Mapping[str, Tensor], *, hidden: Sequence[int] = (), until: int | None = None
    ) -> Output:
        if hidden or until is not None:
            raise NotApplicable("a cross-encoder gives no hidden layers")
        if "foreign" in inputs:
            raise NotApplicable(
                "a cross-encoder cannot score in-batch negatives", "set in_batch=false"
            )
        network: Any = self.network
        encoded = joined_pairs(inputs)
        real = inputs["real"]
        pooled = network.dropout(network.bert(**encoded).pooler_output)
        logits = network.classifier(pooled).view(real.shape).float()
        return Output(
            logits=logits.masked_fill(~real, -torch.inf),
            embedding=pooled.view(*real.shape, self.width),
        )

    def rank(self, search: SearchSplit, size: int, shared: dict[str, Any]) -> np.ndarray:
        """Rank the first passages of the first stage again; the rest keep its order."""
        first, count = search.first_stage, search.rerank
        queries = max(size // count, 1)
        rows = []
        for at in range(0, len(search), queries):
            index = np.arange(at, min(at + queries, len(search)))
            scores = self(self._inputs(search, index)).scores.float()
            best = ranked_positions(scores, count).cpu().numpy()
            rows.append(np.take_along_axis(first[index, :count], best, axis=1))
        return np.concatenate([np.concatenate(rows), first[:, count:]], axis=1).astype(np.int32)

    def server(self, search: SearchSplit) -> Callable[[Batch], object]:
        """Return ranking the first passages of a query again; the first stage is not counted."""
        return lambda batch: self(self._inputs(search, batch.index.cpu().numpy()))

    def serving_costs(self, search: SearchSplit, size: int) -> dict[str, Any]:
        """Return how many passages are ranked again for a query."""
        return {"reranked": search.rerank}

    def _inputs(self, search: SearchSplit, index: np.ndarray) -> dict[str, Tensor]:
        device = search.labels.device
        listed = search.first_stage[index, : search.rerank].astype(np.int64)
        query_ids, query_mask = search.queries.batch(index, device)
        ids, mask = search.passages.batch(listed.ravel(), device)
        return {
            "query_ids": query_ids,
            "query_mask": query_mask,
            "passage_ids": ids.view(*listed.shape, -1),
            "passage_mask": mask.view(*listed.shape, -1),
            "real": torch.ones(listed.shape, dtype=torch.bool, device=device),
        }


def joined_pairs(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return BERT's inputs for every (query, candidate) pair, ``(N·K, L_q + L_p − 1)``.

    The passage's own first token is left out; padding may stand between the two, so positions are
    counted over real tokens.
    """
    passages = inputs["passage_ids"][:, :, 1:]
    count, listed = passages.shape[:2]

    def repeated(value: Tensor) -> Tensor:
        return value[:, None].expand(count, listed, value.shape[1])

    ids = torch.cat([repeated(inputs["query_ids"]), passages], dim=2).flatten(0, 1)
    mask = torch.cat([repeated(inputs["query_mask"]), inputs["passage_mask"][:, :, 1:]], dim=2)
    mask = mask.flatten(0, 1)
    kinds = torch.zeros_like(ids)
    kinds[:, inputs["query_ids"].shape[1] :] = 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": kinds,
        "position_ids": (mask.long().cumsum(dim=1) - 1).clamp(min=0),
    }


def build_cross(name: str) -> CrossEncoder:
    """Build a cross-encoder: "minilm" with a fresh head, or "hub:NAME" as published.

    Raises:
        BenchError: for another name, or a checkpoint that is no BERT with one output.
    """
    from transformers import BertForSequenceClassification

    quiet()
    if name == "minilm":
        path, revision = minilm_path(), "main"
    elif name.startswith("hub:"):
        path, revision = hub_name(name)
    else:
        raise BenchError(f"unknown cross-encoder '{name}'", "minilm or hub:NAME")
    try:
        loaded: Any = BertForSequenceClassification.from_pretrained(
            path,
            revision=revision,
            num_labels=1,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # told below
            output_loading_info=True,
        )
        network, told = loaded
    except Exception as error:
        raise unreachable(f"cross-encoder '{name}'", error) from error
    if name.startswith("hub:"):
        mismatched = [each[0] for each in told["mismatched_keys"]]
        absent = sorted({*told["missing_keys"], *mismatched})
        if absent:
            raise BenchError(
                f"'{name}' is no published cross-encoder: it has no usable {absent[0]}",
                "a BERT for sequence classification with one output",
            )
    return CrossEncoder(network.float())
