"""Statistics over seeds: pure functions of numbers, no files and no tables.

Scores are in the metric's own unit (an accuracy is a share between 0 and 1, not a percentage) and
so is every difference.  A difference is positive when the method is *better*, whichever way the
metric points, so a reader never has to remember the direction.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

DIRECTIONS = ("max", "min")

# A teacher that leads by no more than this has no gap to close: the share would divide noise by
# rounding error.  In the metric's unit, so 1e-6 is a ten-thousandth of a point of accuracy.
GAP_EPSILON = 1e-6

FLIPS = 1_000  # sign flips drawn at once


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of ``n`` values, both in the values' unit.

    ``sd`` is None for one value: a single run says nothing about the spread between runs.
    """

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Gain:
    """Mean and sample standard deviation of ``pairs`` same-seed differences, positive is better."""

    mean: float
    sd: float | None
    pairs: int


def mean_and_sd(values: Iterable[float]) -> Spread:
    """Return mean and sample standard deviation (n - 1 in the denominator) of ``values``.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise ValueError("mean of no values")
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"values must be finite, got {numbers}")
    sd = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Spread(statistics.fmean(numbers), sd, len(numbers))


def improvement(value: float, over: float, direction: str) -> float:
    """Return how much better ``value`` is than ``over``, in their unit; negative when worse.

    Raises:
        ValueError: ``direction`` is neither "max" nor "min".
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {DIRECTIONS}, got {direction!r}")
    return value - over if direction == "max" else over - value


def paired_gain(
    method: Mapping[int, float], reference: Mapping[int, float], direction: str
) -> Gain | None:
    """Return the gain of ``method`` over ``reference`` on the seeds that both have.

    A seed fixes the initialisation and the batch order, so differences are taken within a seed
    before they are averaged; the spread between seeds that both share cancels out.

    Args:
        method: score by seed, in the metric's unit.
        reference: the same for the reference.
        direction: "max" when larger scores are better, "min" when smaller ones are.

    Returns:
        The gain in the metric's unit, or None when no seed is common.

    Raises:
        ValueError: unknown ``direction`` or a score that is not finite.
    """
    seeds = sorted(method.keys() & reference.keys())
    differences = [improvement(method[seed], reference[seed], direction) for seed in seeds]
    if not differences:
        return None
    spread = mean_and_sd(differences)
    return Gain(spread.mean, spread.sd, spread.n)


def gap_closed(method: float, reference: float, teacher: float, direction: str) -> float | None:
    """Return the share of the way from reference to teacher that ``method`` has gone.

    0 is the reference, 1 the teacher; the share is negative below the reference and exceeds 1
    above the teacher.  All three scores are in the metric's unit, the share has none.

    Returns:
        The share, or None ("no gap") when the teacher does not beat the reference by more than
        :data:`GAP_EPSILON`.

    Raises:
        ValueError: unknown ``direction`` or a score that is not finite.
    """
    if not all(math.isfinite(score) for score in (method, reference, teacher)):
        raise ValueError(f"scores must be finite, got {(method, reference, teacher)}")
    gap = improvement(teacher, reference, direction)
    if gap <= GAP_EPSILON:
        return None
    return improvement(method, reference, direction) / gap


class PairedTest(NamedTuple):
    """A difference over many samples, tested sample by sample.

    Attributes:
        mean: of the differences, in their unit.
        interval: its 95 % interval (Student's t over samples).
        p: two-sided, of the hypothesis that a difference's sign is as likely either way.
        better: samples whose difference is above zero.
        worse: samples below zero.
        draws: random sign flips behind ``p``.
    """

    mean: float
    interval: tuple[float, float]
    p: float
    better: int
    worse: int
    draws: int


def paired_test(differences: np.ndarray, *, draws: int = 9_999) -> PairedTest:
    """Test paired differences by randomisation (Fisher 1935; Smucker et al. 2007 for retrieval).

    The same differences give the same ``p``: the flips are drawn from a fixed seed.

    Args:
        differences: ``(N,)``, positive is better; at least two, all finite.
        draws: sign flips; the least ``p`` is ``1/(draws + 1)``.

    Raises:
        ValueError: fewer than two differences, or one that is not finite.
    """
    from scipy import stats

    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError("needs two or more finite differences")
    mean, better, worse = float(values.mean()), int((values > 0).sum()), int((values < 0).sum())
    if better + worse == 0:
        return PairedTest(0.0, (0.0, 0.0), 1.0, 0, 0, draws)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1))
    half /= len(values) ** 0.5
    signed = values[values != 0]  # a difference of zero has no sign to flip
    # scipy.stats.permutation_test does the same thirty times as slowly
    generator = np.random.Generator(np.random.PCG64(20240913))
    least = abs(signed.sum()) * (1 - 1e-12)  # sums in another order are equal up to rounding
    extreme = 0
    for at in range(0, draws, FLIPS):
        flips = generator.integers(0, 2, (min(FLIPS, draws - at), len(signed)), dtype=np.int8)
        sums = signed.sum() - 2 * (flips @ signed)
        extreme += int((np.abs(sums) >= least).sum())
    p = (1 + extreme) / (1 + draws)
    return PairedTest(mean, (mean - half, mean + half), p, better, worse, draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return ``p_values`` corrected for their number (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min((len(p_values) - rank) * p_values[at], 1.0))
        corrected[at] = largest
    return corrected
