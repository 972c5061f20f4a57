from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.stats import (
    Gain,
    Interval,
    Spread,
    bootstrap_interval,
    difference_interval,
    gap_closed,
    holm,
    improvement,
    mean_and_sd,
    paired_gain,
    paired_p,
    paired_test,
)


def test_mean_and_sample_standard_deviation_by_hand() -> None:
    spread = mean_and_sd([0.80, 0.82, 0.87])
    assert spread.mean == pytest.approx(0.83)
    # squared deviations 0.0009 + 0.0001 + 0.0016, divided by n - 1 = 2
    assert spread.sd == pytest.approx(math.sqrt(0.0013))
    assert spread.n == 3


def test_one_value_has_no_standard_deviation() -> None:
    assert mean_and_sd([0.5]) == Spread(0.5, None, 1)


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [math.inf]])
def test_mean_refuses_what_has_none(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no values|finite"):
        mean_and_sd(values)


def test_paired_gain_uses_common_seeds_only() -> None:
    gain = paired_gain({0: 0.82, 1: 0.85, 7: 0.10}, {0: 0.80, 1: 0.81, 2: 0.99}, "max")
    assert gain is not None
    assert gain.mean == pytest.approx(0.03)
    assert gain.sd == pytest.approx(math.sqrt(0.0002))
    assert gain.pairs == 2


def test_paired_gain_is_positive_when_a_smaller_score_is_better() -> None:
    assert paired_gain({0: 1.0}, {0: 1.5}, "min") == Gain(0.5, None, 1)


def test_no_common_seed_gives_no_gain() -> None:
    assert paired_gain({0: 0.8}, {1: 0.7}, "max") is None


def test_shared_luck_of_a_seed_cancels() -> None:
    gain = paired_gain({0: 0.5, 1: 0.75, 2: 0.25}, {0: 0.25, 1: 0.5, 2: 0.0}, "max")
    assert gain == Gain(0.25, 0.0, 3)


@pytest.mark.parametrize(
    ("method", "reference", "teacher", "direction", "share"),
    [
        (0.85, 0.80, 0.90, "max", 0.5),
        (0.78, 0.80, 0.90, "max", -0.2),
        (0.95, 0.80, 0.90, "max", 1.5),
        (1.25, 2.0, 1.0, "min", 0.75),
    ],
)
def test_gap_closed(
    method: float, reference: float, teacher: float, direction: str, share: float
) -> None:
    assert gap_closed(method, reference, teacher, direction) == pytest.approx(share)


@pytest.mark.parametrize(("teacher", "direction"), [(0.8, "max"), (0.7, "max"), (0.9, "min")])
def test_no_gap_when_the_teacher_does_not_lead(teacher: float, direction: str) -> None:
    assert gap_closed(0.85, 0.8, teacher, direction) is None


def test_unknown_direction_and_missing_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="direction"):
        improvement(1.0, 0.0, "up")
    with pytest.raises(ValueError, match="finite"):
        gap_closed(math.nan, 0.5, 0.9, "max")


@pytest.mark.parametrize("count", [5, 6, 12])
def test_the_interval_is_about_as_wide_as_students(count: int) -> None:
    values = np.random.default_rng(count).normal(0.8, 0.02, count)
    interval = bootstrap_interval(values)
    assert interval is not None
    half = scipy_stats.t.ppf(0.975, count - 1) * scipy_stats.sem(values)
    assert (interval.high - interval.low) / (2 * half) == pytest.approx(1.0, abs=0.2)
    assert interval.low < values.mean() < interval.high


def test_the_interval_covers_the_truth_far_more_often_than_the_plain_percentiles() -> None:
    rng = np.random.default_rng(1)
    runs = rng.normal(0.0, 1.0, (400, 5))
    hits = sum(i.low <= 0 <= i.high for i in map(bootstrap_interval, runs) if i)
    plain = [np.quantile(rng.choice(run, (500, 5)).mean(axis=1), (0.025, 0.975)) for run in runs]
    assert hits / 400 > 0.90
    assert hits > sum(low <= 0 <= high for low, high in plain) + 20


def test_the_interval_knows_neither_order_nor_chance_and_few_values_have_none() -> None:
    values = [0.81, 0.79, 0.84, 0.80, 0.82, 0.85]
    assert bootstrap_interval(values) == bootstrap_interval(values[::-1])
    assert bootstrap_interval([0.1] * 7) == Interval(0.1, 0.1)
    assert bootstrap_interval(values[:4]) is None


def test_the_paired_test_is_scipys() -> None:
    ours, theirs = [0.81, 0.85, 0.79, 0.84, 0.90], [0.80, 0.81, 0.80, 0.80, 0.86]
    expected = scipy_stats.ttest_rel(ours, theirs).pvalue
    found = paired_p(a - b for a, b in zip(ours, theirs, strict=True))
    assert found == pytest.approx(expected)
    assert paired_p([0.1, 0.2, 0.3, 0.2]) is None
    assert paired_p([0.0] * 5) == 1.0
    assert paired_p([0.1] * 5) == 2 / 2**5  # all signs alike, which is all that is known


def test_holms_correction_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    raw = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": 0.9}
    expected = multitest.multipletests(list(raw.values()), method="holm")[1]
    assert [holm(raw)[name] for name in raw] == pytest.approx(list(expected))
    assert holm({}) == {}


def test_holm_keeps_the_false_alarms_of_a_family_at_five_percent() -> None:
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(400):
        p = {str(at): paired_p(rng.normal(0, 1, 5)) or 1.0 for at in range(8)}
        alarms += min(holm(p).values()) < 0.05
    assert alarms / 400 < 0.08


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_randomisation_test_is_the_exact_one(seed: int) -> None:
    """Against all 2^12 sign flips, as scipy counts them."""
    values = np.random.default_rng(seed).normal(0.3, 0.6, 12)
    values[3] = 0.0
    exact = scipy_stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=2**12 + 1
    )
    found = paired_test(values)
    assert found.p == pytest.approx(exact.pvalue, abs=0.02)
    low, high = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((low, high))
    assert (found.better, found.worse) == (int((values > 0).sum()), int((values < 0).sum()))
    assert found == paired_test(values)  # the same flips every time
    mirrored = paired_test(-values)
    assert mirrored.mean == -found.mean and mirrored.p == found.p


def test_equal_rows_do_not_differ_and_one_sided_ones_do() -> None:
    assert paired_test(np.zeros(50)).p == 1.0
    ranks = [1, 1, 1 / 3]
    rounded = sum(ranks) / 3 - sum(ranks[::-1]) / 3
    equal = paired_test(np.array([rounded, 0.5, 0.0]))
    assert rounded != 0 and (equal.better, equal.worse) == (1, 0)
    assert paired_test(np.full(50, 0.1)).p == pytest.approx(1 / 10_000)
    assert paired_test(np.array([0.5, -0.5])).p == 1.0


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf], [[1.0], [2.0]]])
def test_what_cannot_be_tested_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="two or more finite"):
        paired_test(np.array(values))


def test_few_differences_have_the_interval_of_students_t() -> None:
    assert difference_interval([]) is None and difference_interval([0.3]) is None
    values = [0.02, 0.05, 0.01]
    low, high = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = difference_interval(values)
    assert found is not None and (found.low, found.high) == pytest.approx((low, high))
    many = [0.02, 0.05, 0.01, 0.03, 0.04]
    assert difference_interval(many) == bootstrap_interval(many)
