"""TF-IDF with logistic regression: what a practical person would try first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench import Baseline, BenchError, Card, Task, register_baseline
from bench.baseline import Prediction

STRENGTHS = (0.3, 1.0, 3.0, 10.0)


@register_baseline("tfidf")
class TfIdf(Baseline):
    """TF-IDF over words and word pairs, then logistic regression (scikit-learn).

    The inverse regularisation strength is selected on validation from 0.3, 1, 3 and 10.
    """

    families = frozenset({"text"})
    card = Card(title="TF-IDF", choices=("1–2-grams, sublinear counts, C from validation",))

    def predict(self, *, task: Task, seed: int, teacher: Mapping[str, np.ndarray]) -> Prediction:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        data = task.load()
        if data.texts is None:
            raise BenchError(f"task '{task.name}' has no texts for TF-IDF")
        train_labels = data.train.labels.numpy()
        validation_labels = data.validation.labels.numpy()
        best: tuple[float, dict[str, np.ndarray]] | None = None
        for strength in STRENGTHS:
            model = make_pipeline(
                TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
                LogisticRegression(C=strength, max_iter=2000),
            )
            model.fit(data.texts["train"], train_labels)
            logits = {
                name: _by_class(
                    model.predict_log_proba(data.texts[name]), model.classes_, task.num_classes
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
