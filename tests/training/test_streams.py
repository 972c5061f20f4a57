"""Random streams: a draw is a function of (seed, name, position, sample) and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from bench.training.streams import permutation, stream_seed, uniform

seeds = st.integers(0, 2**40)
indices = st.lists(st.integers(0, 100_000), min_size=1, max_size=30, unique=True)
few = settings(max_examples=50, deadline=None)


@given(seeds, st.integers(0, 300), indices, st.integers(1, 6), st.randoms(use_true_random=False))
@few
def test_draws_do_not_depend_on_the_rest_of_the_batch(seed, epoch, index, draws, random) -> None:
    whole = uniform(seed, "augment", epoch, index=np.array(index), draws=draws)
    assert whole.shape == (len(index), draws)
    order = random.sample(range(len(index)), len(index))
    shuffled = uniform(seed, "augment", epoch, index=np.array(index)[order], draws=draws)
    np.testing.assert_array_equal(shuffled, whole[order])
    for row, position in enumerate(index):
        alone = uniform(seed, "augment", epoch, index=np.array([position]), draws=draws)
        np.testing.assert_array_equal(alone[0], whole[row])


@given(seeds, indices, st.integers(1, 6))
@few
def test_draws_lie_in_the_unit_interval(seed: int, index: list[int], draws: int) -> None:
    found = uniform(seed, "augment", 0, index=np.array(index), draws=draws)
    assert (found >= 0).all() and (found < 1).all()
    assert len(np.unique(found)) == found.size


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_draws_are_uniform_and_independent(seed: int) -> None:
    found = uniform(seed, "augment", 3, index=np.arange(20_000), draws=3)
    assert kstest(found.ravel(), "uniform").pvalue > 1e-3
    columns = np.corrcoef(found.T)
    neighbours = np.corrcoef(found[:-1, 0], found[1:, 0])[0, 1]
    assert np.abs(columns[~np.eye(3, dtype=bool)]).max() < 0.03
    assert abs(neighbours) < 0.03


def test_epochs_and_seeds_are_independent_of_each_other() -> None:
    index = np.arange(20_000)
    base = uniform(0, "augment", 0, index=index, draws=1)[:, 0]
    for seed, name, epoch in ((1, "augment", 0), (0, "order", 0), (0, "augment", 1)):
        other = uniform(seed, name, epoch, index=index, draws=1)[:, 0]
        assert not (other == base).any()
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.03


@given(seeds, st.sampled_from(["init", "order", "dropout"]), st.integers(0, 300))
@few
def test_streams_differ_by_seed_name_and_position(seed: int, name: str, epoch: int) -> None:
    own = stream_seed(seed, name, epoch)
    assert own == stream_seed(seed, name, epoch)
    assert 0 <= own < 2**63
    others = {
        stream_seed(seed + 1, name, epoch),
        stream_seed(seed, "method", epoch),
        stream_seed(seed, name, epoch + 1),
        stream_seed(seed, name),
        stream_seed(seed, name, epoch, 0),
    }
    assert len(others) == 5 and own not in others


def test_positions_are_not_run_together() -> None:
    assert stream_seed(0, "dropout", 1, 11) != stream_seed(0, "dropout", 11, 1)
    assert stream_seed(1, "x", 11) != stream_seed(11, "x", 1)


@given(seeds, st.integers(0, 300), st.integers(0, 200))
@few
def test_permutation_is_one(seed: int, epoch: int, length: int) -> None:
    found = permutation(seed, "order", epoch, length=length)
    assert sorted(found.tolist()) == list(range(length))
    np.testing.assert_array_equal(found, permutation(seed, "order", epoch, length=length))


def test_permutations_differ_by_seed_name_and_epoch() -> None:
    found = [
        permutation(0, "order", 0, length=50).tolist(),
        permutation(1, "order", 0, length=50).tolist(),
        permutation(0, "order", 1, length=50).tolist(),
        permutation(0, "other", 0, length=50).tolist(),
    ]
    assert len({tuple(order) for order in found}) == 4


def test_draws_do_not_move_with_numpys_or_torchs_global_state() -> None:
    import torch

    index = np.arange(5)
    before = uniform(0, "augment", 0, index=index, draws=2), permutation(0, "order", length=9)
    np.random.seed(3)
    torch.manual_seed(3)
    after = uniform(0, "augment", 0, index=index, draws=2), permutation(0, "order", length=9)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
