"""Retrieval metrics, held equal to trec_eval's (through ir-measures) and to values by hand."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from bench.metrics.retrieval import per_query, retrieval_metrics


def draw(seed: int, *, queries: int = 6, passages: int = 1400, depth: int = 1000, most: int = 15):
    """Return rankings without repetition and relevant passages, −1 filled up."""
    generator = np.random.default_rng(seed)
    ranking = np.stack([generator.permutation(passages)[:depth] for _ in range(queries)])
    relevant = np.full((queries, most), -1)
    for row in range(queries):
        count = generator.integers(1, most + 1)
        # half of them high up, so that the cut at ten has something to see
        high = ranking[row, generator.permutation(30)[: (count + 1) // 2]]
        others = generator.permutation(passages)
        relevant[row, :count] = list(dict.fromkeys([*high, *others]))[:count]
    return ranking, relevant


@given(st.integers(0, 10_000))
@settings(max_examples=12, deadline=None)
def test_equal_to_trec_eval(seed: int) -> None:
    ranking, relevant = draw(seed)
    judged = [
        ir_measures.Qrel(str(q), str(p), 1) for q, row in enumerate(relevant) for p in row if p >= 0
    ]
    run = [
        ir_measures.ScoredDoc(str(q), str(p), float(-rank))
        for q, row in enumerate(ranking)
        for rank, p in enumerate(row)
    ]
    named = {
        "mrr@10": ir_measures.RR @ 10,
        "ndcg@10": ir_measures.nDCG @ 10,
        "recall@100": ir_measures.R @ 100,
        "recall@1000": ir_measures.R @ 1000,
    }
    expected = ir_measures.calc_aggregate(list(named.values()), judged, run)
    found = retrieval_metrics(ranking, relevant)
    assert found.keys() == named.keys()
    for name, measure in named.items():
        assert found[name] == pytest.approx(expected[measure], abs=1e-9), name


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_ndcg_is_that_of_scikit_learn(seed: int) -> None:
    ranking, relevant = draw(seed, passages=60, depth=60)
    truth, scores = np.zeros((6, 60)), np.zeros((6, 60))
    for row in range(6):
        truth[row, relevant[row][relevant[row] >= 0]] = 1
        scores[row, ranking[row]] = -np.arange(60.0)
    assert retrieval_metrics(ranking, relevant)["ndcg@10"] == pytest.approx(
        ndcg_score(truth, scores, k=10), abs=1e-12
    )


def test_values_by_hand() -> None:
    ranking = np.array([[7, 3, 5, 1], [0, 1, 2, 3], [4, 5, 6, 8]])
    relevant = np.array([[5, 3], [0, -1], [9, -1]])
    each = per_query(ranking, relevant)
    np.testing.assert_allclose(each["mrr@10"], [1 / 2, 1, 0])
    best = 1 + 1 / np.log2(3)
    np.testing.assert_allclose(each["ndcg@10"], [(1 / np.log2(3) + 1 / np.log2(4)) / best, 1, 0])
    np.testing.assert_allclose(each["recall@100"], [1, 1, 0])
    assert retrieval_metrics(ranking, relevant)["mrr@10"] == pytest.approx(0.5)


def test_only_the_first_ten_count_for_mrr() -> None:
    ranking = np.arange(12)[None, :]
    assert retrieval_metrics(ranking, np.array([[9]]))["mrr@10"] == pytest.approx(0.1)
    assert retrieval_metrics(ranking, np.array([[10]]))["mrr@10"] == 0.0
    assert retrieval_metrics(ranking, np.array([[10]]))["recall@100"] == 1.0


def test_recall_is_of_what_was_judged() -> None:
    ranking = np.arange(200)[None, :]
    found = retrieval_metrics(ranking, np.array([[5, 150, 300, -1]]))
    assert found["recall@100"] == pytest.approx(1 / 3)
    assert found["recall@1000"] == pytest.approx(2 / 3)


def test_a_gap_in_a_ranking_is_no_hit() -> None:
    # −1 fills up both sides and must never match itself
    found = per_query(np.array([[-1, -1, 4]]), np.array([[4, -1]]))
    assert found["mrr@10"] == pytest.approx([1 / 3])
    assert found["recall@100"] == pytest.approx([1.0])


def test_a_query_that_cannot_be_scored_is_no_silent_zero() -> None:
    with pytest.raises(ValueError, match="query 1 has no relevant passage"):
        retrieval_metrics(np.zeros((2, 3), dtype=int), np.array([[0], [-1]]))
    with pytest.raises(ValueError, match="2 rankings for 1 queries"):
        retrieval_metrics(np.zeros((2, 3), dtype=int), np.array([[0]]))
