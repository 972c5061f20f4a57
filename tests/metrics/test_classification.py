"""Metrics of a classifier, held against values by hand and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

from bench.metrics.classification import classification_metrics, expected_calibration_error


def test_values_by_hand() -> None:
    probability = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
    found = classification_metrics(np.log(probability), np.array([0, 1, 1, 0]))
    assert found["accuracy"] == 0.5
    # class 0: precision 1/2, recall 1/2; class 1: 1, 1/2; class 2: predicted, never true
    assert found["macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)  # nothing is of class 2
    assert found["nll"] == pytest.approx(-np.log([0.7, 0.3, 0.7, 0.1]).mean())
    # bin (2/3, 11/15]: two of two right at 0.7; bin [3/5, 2/3): none of two at 0.6
    assert found["ece"] == pytest.approx((2 * abs(1.0 - 0.7) + 2 * abs(0.0 - 0.6)) / 4)


def test_equal_to_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    logits, labels = 3 * generator.normal(size=(400, 5)), generator.integers(0, 5, 400)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = classification_metrics(logits.astype(np.float32), labels)
    assert found["nll"] == pytest.approx(log_loss(labels, probability), rel=1e-5)
    assert found["macro_f1"] == pytest.approx(
        f1_score(labels, logits.argmax(axis=1), average="macro")
    )


def test_a_classifier_that_is_as_sure_as_right_is_calibrated() -> None:
    probability = np.tile([0.75, 0.25], (400, 1))
    assert expected_calibration_error(probability, np.repeat([0, 0, 0, 1], 100)) == pytest.approx(0)
    assert expected_calibration_error(np.eye(2)[[0, 1]], np.array([1, 0])) == 1.0  # sure and wrong


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_cannot_be_scored_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        classification_metrics(np.array([[0.0, bad]]), np.array([0]))
    with pytest.raises(ValueError, match="2 predictions for 1 labels"):
        classification_metrics(np.zeros((2, 3)), np.array([0]))


def test_macro_f1_is_over_the_classes_of_the_labels_whatever_is_predicted() -> None:
    labels = np.repeat([0, 1], 10)
    found = []
    for wrong in (1, 2):  # of three classes the labels have two
        logits = np.eye(3)[labels].astype(np.float32)
        logits[0] = np.eye(3)[wrong]
        found.append(classification_metrics(logits, labels)["macro_f1"])
    assert found == pytest.approx([(18 / 19 + 20 / 21) / 2, (18 / 19 + 1) / 2])
