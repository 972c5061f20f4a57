"""Prediction: a model's logits on a split, in the split's own order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
    """Put ``module`` in evaluation mode without gradients; give back the mode it was in."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for child, mode in modes:
            child.training = mode


def predict(model: Model, split: Split, *, batch_size: int, precision: str) -> np.ndarray:
    """Return logits ``(N, C)`` float32 on the CPU, row ``i`` for sample ``i`` of ``split``."""
    rows: list[torch.Tensor] = []
    order = split.evaluation_order(batch_size)
    device = next(model.parameters()).device
    with evaluating(model), autocast(device, precision):
        for index in order:
            rows.append(model(split.batch(index).inputs).scores.float())
    stacked = torch.cat(rows).cpu().numpy()
    logits = np.empty_like(stacked)
    logits[np.concatenate(order)] = stacked
    return logits
