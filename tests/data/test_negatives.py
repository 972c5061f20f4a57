"""Candidate lists: one positive, no judged answer among the negatives, the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.negatives import Negatives, kept_lists, mine


def by_distance(rows: Sequence[int], depth: int) -> np.ndarray:
    """Rank passages by the distance of their position to ten times the query."""
    return np.stack([np.argsort(np.abs(np.arange(60) - 10 * row), kind="stable") for row in rows])[
        :, :depth
    ]


def reverse(rows: Sequence[int], depth: int) -> np.ndarray:
    return np.stack([np.arange(60)[::-1][:depth] for _ in rows])


RANKINGS = {"bm25": by_distance, "miner": reverse}
QUERY_OF, POSITIVE = np.array([0, 1, 2, 2]), np.array([0, 11, 20, 22])
RELEVANT = [[0], [11, 12], [20, 22, 59]]


def lists(passages: int = 60, pool: int = 8, **counts: int) -> np.ndarray:
    return mine(
        query_of=QUERY_OF,
        positive=POSITIVE,
        relevant=RELEVANT,
        passages=passages,
        negatives=Negatives({"bm25": 2, "miner": 2, "random": 1, **counts}, pool),
        rankings=RANKINGS,
    )


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_lists_hold_one_positive_and_no_other_answer(
    bm25: int, miner: int, anywhere: int, pool: int
) -> None:
    found = lists(pool=pool, bm25=bm25, miner=miner, random=anywhere)
    assert found.shape == (4, 1 + bm25 + miner + anywhere)
    np.testing.assert_array_equal(found[:, 0], POSITIVE)
    for query, row in zip(QUERY_OF, found, strict=True):
        assert len(set(row.tolist())) == len(row) and row.min() >= 0
        assert not set(row[1:].tolist()) & set(RELEVANT[query])


def test_ranked_negatives_come_from_the_first_of_their_source() -> None:
    found = lists(pool=5, random=0)
    for query, row in zip(QUERY_OF, found, strict=True):
        near = [p for p in by_distance([query], 60)[0] if p not in RELEVANT[query]][:5]
        assert set(row[1:3].tolist()) <= set(near)
        far = [p for p in range(59, -1, -1) if p not in {*RELEVANT[query], *row[1:3].tolist()}][:5]
        assert set(row[3:5].tolist()) <= set(far)


def test_lists_are_the_same_every_time_and_no_neighbour_moves_them() -> None:
    np.testing.assert_array_equal(lists(), lists())
    alone = mine(
        query_of=QUERY_OF[1:2],
        positive=POSITIVE[1:2],
        relevant=RELEVANT,
        passages=60,
        negatives=Negatives({"bm25": 2, "miner": 2, "random": 1}, 8),
        rankings=RANKINGS,
    )
    np.testing.assert_array_equal(alone[0], lists()[1])


def test_a_collection_that_is_too_small_leaves_places_empty() -> None:
    found = mine(
        query_of=np.array([0]),
        positive=np.array([1]),
        relevant=[[1, 2]],
        passages=4,
        negatives=Negatives({"bm25": 2, "random": 3}, 10),
        rankings={"bm25": lambda rows, depth: np.array([[2, 1, 0, 3]])[:, :depth]},
    )
    assert found[0, 0] == 1
    assert sorted(found[0, 1:].tolist()) == [-1, -1, -1, 0, 3]
    assert found[0, 3:].tolist() == [-1, -1, -1]


def test_a_source_that_is_not_used_is_not_asked() -> None:
    def never(rows: Sequence[int], depth: int) -> Any:
        raise AssertionError("asked")

    found = mine(
        query_of=QUERY_OF,
        positive=POSITIVE,
        relevant=RELEVANT,
        passages=60,
        negatives=Negatives({"bm25": 1, "miner": 0, "random": 2}, 5),
        rankings={"bm25": by_distance, "miner": never},
    )
    assert found.shape == (4, 4)


def test_lists_are_kept_by_what_shapes_them(own_cache: Path) -> None:
    made: list[int] = []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(6).reshape(2, 3)

    for parts, expected in ((["a"], 1), (["a"], 1), (["b"], 2)):
        np.testing.assert_array_equal(kept_lists(parts, make), np.arange(6).reshape(2, 3))
        assert len(made) == expected
    for path in (own_cache / "lists").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-40])
    np.testing.assert_array_equal(kept_lists(["a"], make), np.arange(6).reshape(2, 3))
    assert len(made) == 3
    for path in (own_cache / "lists").glob("*.npz"):
        path.write_bytes(b"")
    np.testing.assert_array_equal(kept_lists(["a"], make), np.arange(6).reshape(2, 3))
    assert len(made) == 4


@pytest.mark.parametrize("pool", [1, 2])
def test_a_pool_smaller_than_the_count_is_filled_up_from_anywhere(pool: int) -> None:
    found = lists(pool=pool, bm25=4, miner=0, random=0)
    assert (found >= 0).all() and found.shape == (4, 5)
