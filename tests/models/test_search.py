"""Exact search: the same ranking as a stable sort of all scores, whatever the tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import BenchError
from bench.models import search
from bench.models.search import ExactSearch, ranked_positions


def by_sorting(scores: torch.Tensor, depth: int) -> np.ndarray:
    """Return the best positions of each row, the lower one first where scores are equal."""
    return np.argsort(-scores.double().numpy(), axis=1, kind="stable")[:, :depth]


@given(
    st.integers(1, 5), st.integers(1, 40), st.integers(1, 50), st.integers(0, 3), st.integers(0, 99)
)
@settings(max_examples=60, deadline=None)
def test_ranking_is_a_stable_sort(
    rows: int, count: int, depth: int, decimals: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, count, generator=generator).mul(10**decimals).round()  # many ties
    found = ranked_positions(scores, depth)
    assert found.shape == (rows, min(depth, count))
    np.testing.assert_array_equal(found.numpy(), by_sorting(scores, depth))


def test_signs_zeros_and_infinity_are_ordered() -> None:
    scores = torch.tensor([[-1.0, 0.0, -0.0, 1e-30, -1e-30, -torch.inf, 3e38, -3e38, 2.0]])
    assert ranked_positions(scores, 9).tolist() == [[6, 8, 3, 1, 2, 4, 0, 7, 5]]


@pytest.mark.parametrize("tile", [1, 7, 64, 1000])
@pytest.mark.parametrize("queries", [3, 512])
def test_tiles_change_nothing(tile: int, queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TILE", tile)
    monkeypatch.setattr(search, "QUERIES", queries)
    generator = torch.Generator().manual_seed(3)
    # whole numbers, so that tiled products are equal bit for bit and ties are many
    asked = torch.randint(-2, 3, (8, 4), generator=generator).float()
    passages = torch.randint(-2, 3, (150, 4), generator=generator).float()
    exact = ExactSearch(asked, 60)
    for part in passages.split(40):
        exact.add(part)
    np.testing.assert_array_equal(exact.ranking().numpy(), by_sorting(asked @ passages.T, 60))


def test_fewer_passages_than_depth() -> None:
    exact = ExactSearch(torch.ones(2, 3), 10)
    exact.add(torch.ones(4, 3))
    assert exact.ranking().tolist() == [[0, 1, 2, 3]] * 2


def test_scores_are_float32_under_autocast() -> None:
    asked = torch.tensor([[1.0, 1.0]])
    near = torch.tensor([[1.0, 0.001], [1.0, 0.002]])  # the same number in bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        exact = ExactSearch(asked, 2)
        exact.add(near)
    assert exact.ranking().tolist() == [[1, 0]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nothing_is_ranked_by_what_is_not_finite(bad: float) -> None:
    with pytest.raises(BenchError, match="not finite"):
        ExactSearch(torch.tensor([[bad]]), 1)
    exact = ExactSearch(torch.ones(1, 1), 1)
    with pytest.raises(BenchError, match="not finite"):
        exact.add(torch.tensor([[bad]]))
