"""Embeddings of a split from one pass of a model."""

from __future__ import annotations

import numpy as np

from bench.data.splits import Split
from bench.models.base import Model
from bench.training.evaluate import autocast, evaluating


def embed(model: Model, split: Split, *, batch_size: int, precision: str) -> np.ndarray:
    """Return the embeddings of ``split``, ``(N, D)`` float32, in the split's order.

    Raises:
        ValueError: when one is not finite.
    """
    device = next(model.parameters()).device
    result = np.empty((len(split), model.width), dtype=np.float32)
    with evaluating(model), autocast(device, precision):
        for index in split.evaluation_order(batch_size):
            output = model(split.batch(index).inputs)
            result[index] = output.embedding.float().cpu().numpy()
    if not np.isfinite(result).all():
        raise ValueError("an embedding is not finite")
    return result
