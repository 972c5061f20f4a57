"""A last layer fitted on frozen features: of several strengths the best on validation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from bench.errors import BenchError
from bench.teachers import train

STRENGTHS = (0.1, 1.0, 10.0, 100.0)


@pytest.mark.parametrize(("direction", "best"), [("max", 0), ("min", 1)])
def test_the_strength_is_chosen_in_the_direction_of_the_metric(
    monkeypatch: pytest.MonkeyPatch, direction: str, best: int
) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4)).astype(np.float32)
    labels = rng.integers(0, 3, 60)
    scores = iter([0.9, 0.2, 0.5, 0.7])
    monkeypatch.setattr(train, "embed", lambda *_, **__: features)
    split = SimpleNamespace(labels=torch.from_numpy(labels))
    task = SimpleNamespace(
        preset=SimpleNamespace(
            teacher_recipe=SimpleNamespace(precision="float32"), evaluation_batch=8
        ),
        metric="score",
        direction=direction,
        evaluate=lambda logits, labels: {"score": next(scores)},
    )
    model = SimpleNamespace(head=torch.nn.Linear(4, 3))
    train.fit_head(model, SimpleNamespace(train=split, validation=split), task)
    expected = LogisticRegression(C=STRENGTHS[best], max_iter=2000).fit(features, labels)
    assert np.allclose(model.head.weight.detach().numpy(), expected.coef_, atol=1e-6)
    assert np.allclose(model.head.bias.detach().numpy(), expected.intercept_, atol=1e-6)


def test_a_class_without_a_sample_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "embed", lambda *_, **__: np.zeros((6, 4), np.float32))
    split = SimpleNamespace(labels=torch.tensor([0, 1, 3, 0, 1, 3]))
    recipe = SimpleNamespace(precision="float32")
    task = SimpleNamespace(preset=SimpleNamespace(teacher_recipe=recipe, evaluation_batch=8))
    model = SimpleNamespace(head=torch.nn.Linear(4, 4))
    with pytest.raises(BenchError, match="no training sample of class 2"):
        train.fit_head(model, SimpleNamespace(train=split, validation=split), task)
