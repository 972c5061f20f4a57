from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bench.across import (
    critical_difference,
    friedman,
    interquartile_interval,
    interquartile_mean,
    mean_ranks,
    probability_of_improvement,
    profile,
)


def test_equal_scores_share_their_rank() -> None:
    scores = pd.DataFrame({"a": [0.9, 0.5], "b": [0.8, 0.5], "c": [0.7, 0.4]})
    assert mean_ranks(scores).to_dict() == {"a": 1.25, "b": 1.75, "c": 3.0}
    rounded = pd.DataFrame({"a": [0.1 + 0.2], "b": [0.3], "c": [0.2]})
    assert mean_ranks(rounded).to_dict() == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_friedman_by_hand() -> None:
    # five tasks that all agree but one, which swaps the last two
    scores = pd.DataFrame([[3, 2, 1]] * 4 + [[3, 1, 2]], columns=list("abc"))
    found = friedman(scores)
    assert found is not None
    # mean ranks 1, 2.2, 2.8: chi2 = 12·5/(3·4)·(1 + 4.84 + 7.84 - 12) = 8.4, F = 4·8.4/(10 - 8.4)
    assert found.statistic == pytest.approx(21.0)
    assert found.p == pytest.approx(0.000659, abs=2e-5)


def test_friedman_at_its_ends() -> None:
    agree = pd.DataFrame([[3, 2, 1]] * 5, columns=list("abc"))
    found, equal = friedman(agree), friedman(agree * 0)
    assert found is not None and found.p == 0.0 and math.isinf(found.statistic)
    assert equal is not None and equal.p == 1.0
    assert friedman(agree.iloc[:4]) is None
    assert friedman(agree[["a", "b"]]) is None


def test_the_critical_difference_is_the_published_one() -> None:
    # Demšar 2006, section 3.2.2: four methods, fourteen data sets
    assert critical_difference(4, 14) == pytest.approx(
        2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=0.002
    )


def test_the_interquartile_mean_drops_a_quarter_at_each_end() -> None:
    runs = [np.array([-100.0, 1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0, 100.0])]
    assert interquartile_mean(runs) == pytest.approx(3.5)
    assert interquartile_interval(runs) is None


def test_intervals_need_runs_and_tasks_and_hold_the_mean() -> None:
    rng = np.random.default_rng(0)
    runs = [rng.normal(level, 0.1, 5) for level in (0.2, 0.5, 0.8)]
    interval = interquartile_interval(runs)
    assert interval is not None and interval.low < interquartile_mean(runs) < interval.high
    assert interquartile_interval(runs[:2]) is None
    assert interquartile_interval([values[:4] for values in runs]) is None


def test_nineteen_intervals_of_twenty_hold_the_true_value() -> None:
    """Of the middle half of five tasks with five runs each, and of the chance to beat another."""
    rng = np.random.default_rng(3)
    levels = rng.normal(0, 3, 5)
    middle = interquartile_mean([rng.normal(level, 1, 100_000) for level in levels])
    held = {"middle": 0, "chance": 0}
    for _ in range(200):
        ours, theirs = ([rng.normal(level, 1, 5) for level in levels] for _ in range(2))
        found = interquartile_interval(ours)
        assert found is not None
        held["middle"] += found.low <= middle <= found.high
        _, chance = probability_of_improvement(ours, theirs)
        assert chance is not None
        held["chance"] += chance.low <= 0.5 <= chance.high
    assert all(count >= 180 for count in held.values()), held


def test_a_profile_counts_every_task_alike() -> None:
    runs = [np.array([0.5] * 10), np.array([0.0])]
    assert profile(runs, np.array([-1.0, 0.2, 0.5])).tolist() == [1.0, 0.5, 0.0]


def test_the_probability_of_improvement() -> None:
    better, worse = [np.array([2.0, 3.0])] * 3, [np.array([0.0, 1.0])] * 3
    assert probability_of_improvement(better, worse) == (1.0, None)
    assert probability_of_improvement([np.arange(4.0)] * 3, [np.arange(4.0)] * 3) == (0.5, None)
    chance, interval = probability_of_improvement([np.arange(5.0)] * 3, [np.arange(5.0)] * 3)
    assert chance == 0.5
    assert interval is not None and interval.low < 0.5 < interval.high
    always = [np.arange(5.0, 10.0)] * 3, [np.arange(5.0)] * 3
    assert probability_of_improvement(*always) == (1.0, None)  # every resample says the same
    one, other = [np.array([1.0, 2.0])], [np.array([1.0, 0.0])]
    assert probability_of_improvement(one, other)[0] == pytest.approx((0.5 + 1 + 1 + 1) / 4)
