from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.stats import (
    Gain,
    Spread,
    gap_closed,
    holm,
    improvement,
    mean_and_sd,
    paired_gain,
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


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_randomisation_test_is_the_exact_one(seed: int) -> None:
    """Against all 2^12 sign flips, as scipy counts them."""
    values = np.random.default_rng(seed).normal(0.3, 0.6, 12)
    values[3] = 0.0
    exact = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=2**12 + 1
    )
    found = paired_test(values)
    assert found.p == pytest.approx(exact.pvalue, abs=0.02)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((low, high))
    assert (found.better, found.worse) == (int((values > 0).sum()), int((values < 0).sum()))
    assert found == paired_test(values)  # the same flips every time
    mirrored = paired_test(-values)
    assert mirrored.mean == -found.mean and mirrored.p == found.p


def test_equal_rows_do_not_differ_and_one_sided_ones_do() -> None:
    assert paired_test(np.zeros(50)).p == 1.0
    assert paired_test(np.full(50, 0.1)).p == pytest.approx(1 / 10_000)
    assert paired_test(np.array([0.5, -0.5])).p == 1.0


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf], [[1.0], [2.0]]])
def test_what_cannot_be_tested_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="two or more finite"):
        paired_test(np.array(values))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.2]) == pytest.approx([0.04, 0.09, 0.09, 0.2])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03] and holm([]) == []
