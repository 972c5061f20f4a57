"""Statistics across tasks: pure functions of numbers, no files and no tables.

Scores are arrays, one per task, with one number per run (seed); larger is always better.
The interquartile mean, performance profiles and the probability of improvement with intervals
from a bootstrap stratified by task are those of Agarwal et al. 2021 (arXiv 2108.13264).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.stats import DIGITS, ROUNDING, SEEDS_FOR_TEST, Interval, expanded_tails

# Fewer tasks than this are too few blocks for a test of ranks.
TASKS_FOR_TEST = 5
# A bootstrap stratified by task needs something to resample: over several tasks, and in each of
# them SEEDS_FOR_TEST runs, since of three it holds the true value in as few as half of all cases.
TASKS_FOR_INTERVAL = 3
RESAMPLES = 1000

Runs = Sequence[np.ndarray]


@dataclass(frozen=True)
class Friedman:
    """Friedman's test with the correction of Iman and Davenport (1980), as in Demšar 2006.

    Attributes:
        statistic: F, with ``methods - 1`` and ``(methods - 1)·(tasks - 1)`` degrees of freedom.
        p: p-value of the hypothesis that no two methods differ.
        tasks: number of blocks.
        methods: number of things ranked.
    """

    statistic: float
    p: float
    tasks: int
    methods: int


def mean_ranks(scores: pd.DataFrame) -> pd.Series:
    """Return the mean rank of each column of ``scores`` (rows tasks, larger is better; 1 is best).

    Scores that are equal up to rounding share the mean of their ranks.
    """
    return scores.round(DIGITS).rank(axis=1, ascending=False, method="average").mean(axis=0)


def friedman(scores: pd.DataFrame) -> Friedman | None:
    """Test whether the columns of ``scores`` differ over its rows.

    Returns:
        None with fewer than :data:`TASKS_FOR_TEST` rows or three columns, too few for a test.
    """
    tasks, methods = scores.shape
    if tasks < TASKS_FOR_TEST or methods < 3:
        return None
    from scipy import stats

    scores = scores.round(DIGITS)
    if not (scores.nunique(axis=1) > 1).any():
        return Friedman(0.0, 1.0, tasks, methods)
    chi2 = float(stats.friedmanchisquare(*(scores[name] for name in scores)).statistic)
    rest = tasks * (methods - 1) - chi2
    if rest <= 1e-9:  # every task agrees on the whole order
        return Friedman(math.inf, 0.0, tasks, methods)
    statistic = (tasks - 1) * chi2 / rest
    p = float(stats.f.sf(statistic, methods - 1, (methods - 1) * (tasks - 1)))
    return Friedman(statistic, p, tasks, methods)


def critical_difference(methods: int, tasks: int) -> float:
    """Return Nemenyi's critical difference of mean ranks at 5 % (Demšar 2006, section 3.2.2)."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(0.95, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * tasks))


def interquartile_mean(runs: Runs) -> float:
    """Return the mean of the middle half of all runs of all tasks."""
    from scipy.stats import trim_mean

    return float(trim_mean(np.concatenate(runs), 0.25))


def interquartile_interval(runs: Runs) -> Interval | None:
    """Return the 95 % stratified bootstrap interval of the interquartile mean.

    None with fewer than :data:`TASKS_FOR_INTERVAL` tasks or
    :data:`~bench.stats.SEEDS_FOR_TEST` runs of one.
    """
    from scipy.stats import trim_mean

    if not _enough(runs):
        return None
    rng = np.random.default_rng(0)
    drawn = [values[rng.integers(0, len(values), (RESAMPLES, len(values)))] for values in runs]
    means = trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1)
    return _interval(means, runs)


def profile(runs: Runs, thresholds: np.ndarray) -> np.ndarray:
    """Return the share of runs above each threshold, with equal weight for every task."""
    shares = [(values[:, None] > thresholds).mean(axis=0) for values in runs]
    return np.asarray(np.mean(shares, axis=0))


def probability_of_improvement(ours: Runs, theirs: Runs) -> tuple[float, Interval | None]:
    """Return the chance that a run of ``ours`` beats one of ``theirs``, averaged over tasks.

    Ties count half.  The interval resamples both within each task; None with too few runs, or
    where every resample says the same.
    """
    wins = [_wins(one, other) for one, other in zip(ours, theirs, strict=True)]
    chance = float(np.mean([each.mean() for each in wins]))
    if not _enough(ours) or not _enough(theirs):
        return chance, None
    drawn = np.zeros(RESAMPLES)
    for task, each in enumerate(wins):
        rows, columns = each.shape
        left, right = _weights(rows, 2 * task), _weights(columns, 2 * task + 1)
        drawn += np.einsum("ij,ij->i", left @ each, right) / len(wins)
    return chance, _interval(drawn, ours)


@functools.cache
def _weights(count: int, stream: int) -> np.ndarray:
    """Return the share of each run in every resample, ``(RESAMPLES, count)``."""
    rng = np.random.default_rng((count, stream))
    shares: np.ndarray = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count
    return shares


def _wins(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    difference = one[:, None] - other[None, :]
    return np.asarray((difference > 0) + 0.5 * (difference == 0))


def _enough(runs: Runs) -> bool:
    return len(runs) >= TASKS_FOR_INTERVAL and min(map(len, runs)) >= SEEDS_FOR_TEST


def _interval(resampled: np.ndarray, runs: Runs) -> Interval | None:
    """Return the expanded percentile interval; None where there is no spread to judge by."""
    fewest, freedom = min(map(len, runs)), sum(len(values) - 1 for values in runs)
    low, high = np.quantile(resampled, expanded_tails(fewest, freedom))
    return Interval(float(low), float(high)) if high - low > ROUNDING else None
