"""Predictions of a model on a split, in the split's own order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from bench.data.splits import Split
from bench.models.base import Model

if TYPE_CHECKING:
    from bench.training.loop import Trained


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


def predict_last_and_best(
    trained: Trained, splits: Mapping[str, Split], *, batch_size: int, precision: str
) -> dict[str, np.ndarray]:
    """Return the predictions of the last and the best epoch, ``last_NAME`` and ``best_NAME``.

    The model is left in the state of its best epoch.
    """
    last = predict_all(trained.model, splits, batch_size=batch_size, precision=precision)
    trained.model.load_state_dict(trained.best_state)
    if trained.best_epoch == trained.epochs[-1]["epoch"]:  # the same state: nothing to run
        best = last
    else:
        best = predict_all(trained.model, splits, batch_size=batch_size, precision=precision)
    found = {"last": last, "best": best}
    return {f"{when}_{name}": value for when, each in found.items() for name, value in each.items()}
