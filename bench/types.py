"""What flows between data, models and methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One batch on the training device.

    Attributes:
        inputs: what the model is called with, by name, first axis ``N``.
        labels: class indices, ``(N,)`` int64; in retrieval the positive's place among the
            candidates.
        index: each sample's position in its split, ``(N,)`` int64.
        mask: for sequences, ``(N, L)`` bool, true at real tokens; ``None`` for images.
        part: which part of the training data ``index`` counts in; empty for a whole split.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor
    index: Tensor
    mask: Tensor | None = None
    part: str = ""


@dataclass(frozen=True)
class Output:
    """What a model (student or teacher) returns for a batch.

    Attributes:
        logits: ``(N, C)``; in retrieval a query's scores over its candidates.
        embedding: ``(N, D)``, the input of the last linear layer; in retrieval ``(N, 1 + K, D)``,
            the query's and then its ``K`` candidates', or ``(N, K, D)`` for a cross-encoder, one
            for each pair.
        hidden: feature maps by layer number, ``(N, C, H, W)`` or ``(N, L, D)``; only those that
            were asked for.
    """

    logits: Tensor | None = None
    embedding: Tensor | None = None
    hidden: Mapping[int, Tensor] = field(default_factory=dict)

    def float(self) -> Output:
        """Return the same output in float32: all losses are computed there."""
        return Output(
            None if self.logits is None else self.logits.float(),
            None if self.embedding is None else self.embedding.float(),
            {layer: value.float() for layer, value in self.hidden.items()},
        )

    @property
    def scores(self) -> torch.Tensor:
        """Return the logits; ``ValueError`` when there are none."""
        if self.logits is None:
            raise ValueError("this output has no logits")
        return self.logits
