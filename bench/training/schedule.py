"""Learning-rate schedules as plain functions of the position in a stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.errors import BenchError


def learning_rate_factor(
    step: int, steps: int, *, schedule: str, warmup: float = 0.0, milestones: Sequence[float] = ()
) -> float:
    """Return the factor on the base learning rate at ``step`` of ``steps``.

    Args:
        step: 0-based step in the stage.
        steps: steps of the stage.
        schedule: "cosine" (to zero) or "step" (×0.1 at each milestone).
        warmup: share of the steps over which the rate rises linearly.
        milestones: positions in (0, 1) for "step".
    """
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "step":
        return float(0.1 ** sum(step >= position * steps for position in milestones))
    position = (step - rising) / max(steps - rising, 1)
    return 0.5 * (1.0 + math.cos(math.pi * position))


def stage_epochs(shares: Sequence[float], epochs: int) -> list[int]:
    """Return the epochs of each stage, split by their shares, each at least one.

    >>> stage_epochs([0.25, 0.75], 10)
    [2, 8]
    >>> stage_epochs([1.0], 3)
    [3]

    Raises:
        BenchError: for shares that are not positive or do not add up to 1, or too few epochs.
    """
    if not shares or min(shares) <= 0 or abs(sum(shares) - 1.0) > 1e-9:
        raise BenchError(f"stage shares {list(shares)} must be positive and add up to 1")
    if epochs < len(shares):
        raise BenchError(f"{epochs} epochs for {len(shares)} stages", "at least one per stage")
    counts = [max(1, round(share * epochs)) for share in shares[:-1]]
    while sum(counts) > epochs - 1:
        counts[counts.index(max(counts))] -= 1
    return [*counts, epochs - sum(counts)]
