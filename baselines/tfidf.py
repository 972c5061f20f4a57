"""TF-IDF with logistic regression: what a practical person would try first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from bench import Baseline, BenchError, Card, Config, Task, register_baseline
from bench.baseline import Prediction
from bench.data.tokens import beginnings

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class TfIdfConfig(Config):
    """Options.

    Attributes:
        reads: "whole" texts, or only what the "student" reads of them, its first tokens.
    """

    reads: Literal["whole", "student"] = "whole"


@register_baseline("tfidf")
class TfIdf(Baseline):
    """TF-IDF over words and word pairs, then logistic regression (scikit-learn).

    The inverse regularisation strength is selected on validation from 0.3 to 100 in six steps.
    Long texts are read whole, while teacher and student read a text's beginning; ``reads=student``
    has equal input.
    """

    Config = TfIdfConfig
    config: TfIdfConfig
    families = frozenset({"text"})
    card = Card(
        title="TF-IDF",
        choices=(
            "1–2-grams, sublinear counts, C from validation",
            "whole texts, of which students and teacher read a beginning; reads=student cuts alike",
        ),
    )

    def predict(self, *, task: Task, seed: int, teacher: Mapping[str, np.ndarray]) -> Prediction:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        data = task.load()
        if data.texts is None:
            raise BenchError(f"task '{task.name}' has no texts for TF-IDF")
        texts = data.texts
        if self.config.reads == "student":
            length = task.preset.max_length
            texts = {
                name: beginnings(rows, task.vocabulary(), length) for name, rows in texts.items()
            }
        train_labels = data.train.labels.numpy()
        validation_labels = data.validation.labels.numpy()
        best: tuple[float, dict[str, np.ndarray]] | None = None
        for strength in STRENGTHS:
            model = make_pipeline(
                TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
                LogisticRegression(C=strength, max_iter=2000),
            )
            model.fit(texts["train"], train_labels)
            logits = {
                name: _by_class(
                    model.predict_log_proba(texts[name]), model.classes_, task.num_classes
                )
                for name in data.held_out()
            }
            score = task.evaluate(logits["validation"], validation_labels)[task.metric]
            if best is None or score > best[0]:
                best = (score, logits)
        assert best is not None
        return Prediction(best[1])


def _by_class(log_probability: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Put each column where its class index says; a class never seen gets a tiny probability."""
    filled = np.full((len(log_probability), count), np.log(1e-12), dtype=np.float32)
    filled[:, classes] = log_probability
    return filled
