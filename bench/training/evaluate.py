"""Predictions of a model on a split, in the split's own order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.data.splits import Split
from bench.models.base import Model


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context for ``precision`` ("float32" switches it off)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put ``module`` in evaluation mode without gradients; restore its modes afterwards."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for child, mode in modes:
            child.training = mode


def predict(model: Model, split: Split, *, batch_size: int, precision: str) -> np.ndarray:
    """Return the model's predictions on ``split``, row ``i`` for sample ``i``.

    Logits ``(N, C)`` float32; for a retrieval split the ranking, see
    :class:`bench.data.retrieval.SearchSplit`.
    """
    return predict_all(model, {"": split}, batch_size=batch_size, precision=precision)[""]


def predict_all(
    model: Model, splits: Mapping[str, Split], *, batch_size: int, precision: str
) -> dict[str, np.ndarray]:
    """Return the predictions on each split; what they have in common is computed once."""
    device = next(model.parameters()).device
    shared: dict[str, Any] = {}
    with evaluating(model), autocast(device, precision):
        return {name: split.predict(model, batch_size, shared) for name, split in splits.items()}
