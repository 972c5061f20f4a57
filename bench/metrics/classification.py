"""Metrics of a classifier from its logits."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import f1_score


def classification_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score a classifier.

    Args:
        logits: ``(N, C)``; log-probabilities will do.
        labels: ``(N,)`` class indices.

    Returns:
        accuracy and macro_f1 in [0, 1], nll (mean negative log-likelihood, nats) and ece.

    Raises:
        ValueError: when a logit is not finite or the lengths differ.
    """
    if len(logits) != len(labels):
        raise ValueError(f"{len(logits)} predictions for {len(labels)} labels")
    if not np.isfinite(logits).all():
        raise ValueError("a prediction is not finite")
    log_probability = log_softmax(logits.astype(np.float64), axis=1)
    predicted = logits.argmax(axis=1)
    # the mean is over the classes of the labels: the same for every model
    f1 = f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(f1),
        "nll": float(-log_probability[np.arange(len(labels)), labels].mean()),
        "ece": expected_calibration_error(np.exp(log_probability), labels),
    }


def expected_calibration_error(
    probability: np.ndarray, labels: np.ndarray, *, bins: int = 15
) -> float:
    """Return the expected calibration error over equal-width bins (Guo et al. 2017, §2).

    Args:
        probability: ``(N, C)``, rows sum to 1.
        labels: ``(N,)`` class indices.
        bins: number of confidence bins.
    """
    confidence = probability.max(axis=1)
    correct = probability.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    gap = np.abs(
        np.bincount(which, weights=correct, minlength=bins)
        - np.bincount(which, weights=confidence, minlength=bins)
    )
    return float(gap[count > 0].sum() / len(labels))
