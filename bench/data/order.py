"""The one shuffled order in which data is taken, the same for every seed and method."""

from __future__ import annotations

import numpy as np

SEED = 20240913


def fixed_order(count: int) -> np.ndarray:
    """Return the numbers from 0 to ``count`` − 1, shuffled once and for all, ``(count,)``."""
    return np.random.Generator(np.random.PCG64(SEED)).permutation(count)
