"""Metrics of a retriever from its rankings, as trec_eval defines them for binary judgements."""

from __future__ import annotations

import numpy as np

CUT = 10
RECALLS = (100, 1000)


def retrieval_metrics(ranking: np.ndarray, relevant: np.ndarray) -> dict[str, float]:
    """Score rankings; each metric is the mean over queries.

    Args:
        ranking: ``(N, depth)`` passages from first to last; −1 where a list is shorter.
        relevant: ``(N, P)`` passages judged relevant, filled up with −1.

    Returns:
        mrr@10, ndcg@10, recall@100 and recall@1000, all in [0, 1].  Only what was judged counts:
        a passage that answers the query but was never judged counts as wrong.

    Raises:
        ValueError: when the lengths differ or a query has no relevant passage.
    """
    return {name: float(each.mean()) for name, each in per_query(ranking, relevant).items()}


def per_query(ranking: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    """Return every metric of :func:`retrieval_metrics` for each query, ``(N,)`` float64."""
    if len(ranking) != len(relevant):
        raise ValueError(f"{len(ranking)} rankings for {len(relevant)} queries")
    judged = (relevant >= 0).sum(axis=1)
    if not judged.all():
        raise ValueError(f"query {int(np.flatnonzero(judged == 0)[0])} has no relevant passage")
    hits = np.zeros(ranking.shape, dtype=bool)
    for column in relevant.T:  # one at a time: the full comparison would be (N, depth, P)
        hits |= (ranking == column[:, None]) & (column[:, None] >= 0)
    found = {f"mrr@{CUT}": reciprocal_rank(hits), f"ndcg@{CUT}": ndcg(hits, judged)}
    for depth in RECALLS:
        found[f"recall@{depth}"] = hits[:, :depth].sum(axis=1) / judged
    return found


def reciprocal_rank(hits: np.ndarray, *, depth: int = CUT) -> np.ndarray:
    """Return ``1/rank`` of the first hit among the first ``depth``, 0 where there is none.

    Args:
        hits: ``(N, depth)`` bool.
        depth: how far down the list counts.
    """
    top = hits[:, :depth]
    first = top.argmax(axis=1)
    return np.where(top.any(axis=1), 1.0 / (first + 1.0), 0.0)


def ndcg(hits: np.ndarray, judged: np.ndarray, *, depth: int = CUT) -> np.ndarray:
    """Return the normalised discounted cumulative gain with gains 0 and 1.

    Discount ``1/log2(1 + rank)``, normalised by the best possible list (Järvelin and Kekäläinen
    2002, as in trec_eval's ``ndcg_cut``).

    Args:
        hits: ``(N, depth)`` bool.
        judged: ``(N,)`` relevant passages of each query.
        depth: how far down the list counts.
    """
    discount = 1.0 / np.log2(np.arange(depth) + 2.0)
    top = hits[:, :depth]
    gain = top @ discount[: top.shape[1]]
    best = np.cumsum(discount)[np.minimum(judged, depth) - 1]
    return np.asarray(gain / best)
