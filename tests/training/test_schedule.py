"""Learning-rate schedules and the split of a budget among stages."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import BenchError
from bench.training.schedule import learning_rate_factor, stage_epochs


def test_cosine_at_its_corners() -> None:
    assert learning_rate_factor(0, 100, schedule="cosine") == 1.0
    assert learning_rate_factor(50, 100, schedule="cosine") == pytest.approx(0.5)
    assert learning_rate_factor(25, 100, schedule="cosine") == pytest.approx(
        (1 + math.cos(math.pi / 4)) / 2
    )
    assert learning_rate_factor(99, 100, schedule="cosine") == pytest.approx(2.467e-4, rel=1e-3)
    assert learning_rate_factor(100, 100, schedule="cosine") == pytest.approx(0.0, abs=1e-12)


def test_warm_up_rises_linearly_to_the_full_rate() -> None:
    factors = [
        learning_rate_factor(step, 100, schedule="cosine", warmup=0.1) for step in range(100)
    ]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert all(factors[at] > factors[at + 1] for at in range(10, 99))


def test_steps_fall_at_the_published_epochs() -> None:
    # Tian et al. 2020: ×0.1 at 150, 180 and 210 of 240; here with 7 steps an epoch
    milestones = (150 / 240, 180 / 240, 210 / 240)

    def factor(epoch: int, step: int = 0) -> float:
        return learning_rate_factor(
            epoch * 7 + step, 240 * 7, schedule="step", milestones=milestones
        )

    assert factor(0) == factor(149, 6) == 1.0
    assert factor(150) == factor(179, 6) == pytest.approx(0.1)
    assert factor(180) == factor(209, 6) == pytest.approx(0.01)
    assert factor(210) == factor(239, 6) == pytest.approx(0.001)


@given(
    st.integers(1, 500),
    st.floats(0, 0.9),
    st.sampled_from(["cosine", "step"]),
)
@settings(max_examples=60, deadline=None)
def test_a_rate_is_positive_and_never_above_the_base(
    steps: int, warmup: float, schedule: str
) -> None:
    for step in {0, steps // 3, steps // 2, steps - 1}:
        factor = learning_rate_factor(
            step, steps, schedule=schedule, warmup=warmup, milestones=(0.5, 0.75)
        )
        assert 0 < factor <= 1


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5), st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_stages_share_all_epochs_and_each_gets_one(parts: list[float], spare: int) -> None:
    shares = [part / sum(parts) for part in parts]
    epochs = len(parts) + spare
    counts = stage_epochs(shares, epochs)
    assert len(counts) == len(shares)
    assert sum(counts) == epochs
    assert min(counts) >= 1
    if epochs * min(shares) >= len(shares):  # large enough for rounding alone
        for count, share in zip(counts, shares, strict=True):
            assert abs(count - share * epochs) <= len(shares) / 2


@pytest.mark.parametrize(
    ("shares", "epochs", "expected"),
    [
        ([1.0], 7, [7]),
        ([0.25, 0.75], 8, [2, 6]),
        ([0.25, 0.75], 2, [1, 1]),
        ([0.99, 0.01], 10, [9, 1]),
        ([0.01, 0.99], 10, [1, 9]),
        ([0.4, 0.4, 0.2], 3, [1, 1, 1]),
    ],
)
def test_some_splits(shares: list[float], epochs: int, expected: list[int]) -> None:
    assert stage_epochs(shares, epochs) == expected


@pytest.mark.parametrize("shares", [[], [0.5], [0.5, 0.6], [1.0, 0.0], [1.5, -0.5], [2.0]])
def test_shares_that_are_no_split_are_refused(shares: list[float]) -> None:
    with pytest.raises(BenchError, match="add up to 1"):
        stage_epochs(shares, 10)


@pytest.mark.parametrize(("shares", "epochs"), [([0.5, 0.5], 1), ([1.0], 0)])
def test_fewer_epochs_than_stages_are_refused(shares: list[float], epochs: int) -> None:
    with pytest.raises(BenchError, match=f"{epochs} epochs for {len(shares)} stages"):
        stage_epochs(shares, epochs)
