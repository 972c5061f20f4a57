"""Statistics over seeds: pure functions of numbers, no files and no tables.

Scores are in the metric's own unit (an accuracy is a share between 0 and 1, not a percentage) and
so is every difference.  A difference is positive when the method is *better*, whichever way the
metric points, so a reader never has to remember the direction.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

DIRECTIONS = ("max", "min")

# Below this many seeds no interval is given and nothing is tested: the noise cannot be told.
SEEDS_FOR_TEST = 5
LEVEL = 0.05

# A teacher that leads by no more than this has no gap to close: the share would divide noise by
# rounding error.  In the metric's unit, so 1e-6 is a ten-thousandth of a point of accuracy.
GAP_EPSILON = 1e-6

# Two means of the same scores differ by less than this: they were added up in another order.
DIGITS = 12
ROUNDING = 10.0**-DIGITS
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


def paired_differences(
    method: Mapping[int, float], reference: Mapping[int, float], direction: str
) -> list[float]:
    """Return how much better ``method`` is than ``reference`` on each seed that both have.

    A seed fixes the initialisation and the batch order, so differences are taken within a seed:
    the spread between seeds that both share cancels out.

    Args:
        method: score by seed, in the metric's unit.
        reference: the same for the reference.
        direction: "max" when larger scores are better, "min" when smaller ones are.

    Returns:
        The differences in the metric's unit, by seed.

    Raises:
        ValueError: unknown ``direction``.
    """
    seeds = sorted(method.keys() & reference.keys())
    return [improvement(method[seed], reference[seed], direction) for seed in seeds]


def paired_gain(
    method: Mapping[int, float], reference: Mapping[int, float], direction: str
) -> Gain | None:
    """Return mean and spread of :func:`paired_differences`, or None when no seed is common.

    Raises:
        ValueError: unknown ``direction`` or a score that is not finite.
    """
    differences = paired_differences(method, reference, direction)
    if not differences:
        return None
    spread = mean_and_sd(differences)
    return Gain(spread.mean, spread.sd, spread.n)


def gap_closed(method: float, reference: float, teacher: float, direction: str) -> float | None:
    """Return the share of the gap between reference and teacher that ``method`` closes.

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


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, in the values' unit."""

    low: float
    high: float


def bootstrap_interval(values: Iterable[float]) -> Interval | None:
    """Return the 95 % bootstrap interval of the mean, or None below :data:`SEEDS_FOR_TEST`.

    A percentile interval is too narrow for few values: it lacks the factor √(n / (n - 1)) and the
    heavier tail of Student's t.  The *expanded* percentile interval (Hesterberg 2015, arXiv
    1411.5279) takes the quantiles Φ(±√(n / (n - 1))·t) instead, t being the 97.5 %
    point of Student's distribution with n - 1 degrees of freedom.  Five values are the fewest
    whose resamples reach that far into the tail.  The same values give the same interval.
    """
    numbers = np.sort(np.fromiter(values, dtype=np.float64))  # resamples do not know an order
    if len(numbers) < SEEDS_FOR_TEST:
        return None
    # around the middle, so that a constant is its own interval to the last bit
    middle = numbers[len(numbers) // 2]
    means = middle + _resamples(len(numbers)) @ (numbers - middle)
    low, high = np.quantile(means, expanded_tails(len(numbers), len(numbers) - 1))
    return Interval(float(low), float(high))


def difference_interval(differences: Iterable[float]) -> Interval | None:
    """Return the 95 % interval of a mean difference over paired runs, None for a single pair.

    The bootstrap's from :data:`SEEDS_FOR_TEST` pairs on; for fewer that of Student's t, which
    assumes normal differences and is wide for so few.
    """
    numbers = np.fromiter(differences, dtype=np.float64)
    count = len(numbers)
    if count < 2 or count >= SEEDS_FOR_TEST:
        return bootstrap_interval(numbers)
    from scipy.special import stdtrit

    mean = float(numbers.mean())
    half = float(stdtrit(count - 1, 0.975)) * float(numbers.std(ddof=1)) / math.sqrt(count)
    return Interval(mean - half, mean + half)


@functools.cache
def _resamples(count: int) -> np.ndarray:
    """Return weights ``(B, count)`` of all resamples, or of five thousand random ones."""
    if count <= SEEDS_FOR_TEST:
        drawn = np.array(list(itertools.product(range(count), repeat=count)))
        weights = (drawn[:, :, None] == np.arange(count)).sum(axis=1)
    else:
        weights = np.random.default_rng(count).multinomial(count, np.full(count, 1 / count), 5000)
    shares: np.ndarray = weights / count
    return shares


@functools.cache
def expanded_tails(count: int, freedom: int) -> tuple[float, float]:
    """Return the quantiles of resampled means that bound a 95 % interval (Hesterberg 2015).

    Args:
        count: values in a resample, of each stratum where there are several.
        freedom: degrees of freedom of their spread.
    """
    from scipy.special import ndtr, stdtrit

    tail = float(ndtr(-math.sqrt(count / (count - 1)) * stdtrit(freedom, 0.975)))
    return tail, 1 - tail


def paired_p(differences: Iterable[float]) -> float | None:
    """Return the two-sided p of a paired t-test, or None below :data:`SEEDS_FOR_TEST` pairs.

    Differences that are all alike (to rounding), as of small tests, have no spread to test against:
    p is 1 when they are zero, and otherwise the chance that all signs agree.
    """
    numbers = np.fromiter(differences, dtype=np.float64)
    count = len(numbers)
    if count < SEEDS_FOR_TEST:
        return None
    mean, sd = float(numbers.mean()), float(numbers.std(ddof=1))
    if sd <= ROUNDING * max(abs(mean), 1.0):
        return 1.0 if abs(mean) <= ROUNDING else 2.0 ** (1 - count)
    from scipy.special import stdtr

    return float(2 * stdtr(count - 1, -abs(mean) / (sd / math.sqrt(count))))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's step-down adjusted p-values (Holm 1979) of one family of tests."""
    adjusted, running = {}, 0.0
    ordered = sorted(p_values.items(), key=lambda item: (item[1], item[0]))
    for at, (name, p) in enumerate(ordered):
        running = max(running, min(1.0, (len(ordered) - at) * p))
        adjusted[name] = running
    return adjusted


class PairedTest(NamedTuple):
    """A difference over many samples, tested sample by sample.

    Attributes:
        mean: of the differences, in their unit.
        interval: its 95 % interval (Student's t over samples).
        p: two-sided, of the hypothesis that both signs of a difference are equally likely.
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
        draws: random sign flips; the smallest ``p`` is ``1/(draws + 1)``.

    Raises:
        ValueError: fewer than two differences, or one that is not finite.
    """
    from scipy import stats

    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError("needs two or more finite differences")
    values = np.where(np.abs(values) > ROUNDING, values, 0.0)  # means of equals in another order
    mean, better, worse = float(values.mean()), int((values > 0).sum()), int((values < 0).sum())
    if better + worse == 0:
        return PairedTest(0.0, (0.0, 0.0), 1.0, 0, 0, draws)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1))
    half /= len(values) ** 0.5
    signed = values[values != 0]  # a difference of zero has no sign to flip
    # scipy.stats.permutation_test does the same thirty times as slowly
    generator = np.random.Generator(np.random.PCG64(20240913))
    least = abs(signed.sum()) * (1 - ROUNDING)  # sums in another order are equal up to rounding
    extreme = 0
    for at in range(0, draws, FLIPS):
        flips = generator.integers(0, 2, (min(FLIPS, draws - at), len(signed)), dtype=np.int8)
        sums = signed.sum() - 2 * (flips @ signed)
        extreme += int((np.abs(sums) >= least).sum())
    p = (1 + extreme) / (1 + draws)
    return PairedTest(mean, (mean - half, mean + half), p, better, worse, draws)
