"""The teacher itself: the row that distillation tries to reach."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench import Baseline, Card, Task, register_baseline
from bench.baseline import Prediction


@register_baseline("teacher")
class Teacher(Baseline):
    """Report the trained teacher's own predictions."""

    needs_teacher = True
    card = Card(title="teacher")

    def predict(self, *, task: Task, seed: int, teacher: Mapping[str, np.ndarray]) -> Prediction:
        return Prediction(teacher)
