"""Plain supervised training, as a method: teachers and the plain student are trained by it."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from bench.method import Method, Progress
from bench.types import Batch, Output


class Supervised(Method):
    """Hard labels and nothing else: ``L = CE(z, y)``."""

    signals = frozenset()

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        return {"ce": F.cross_entropy(student.scores, batch.labels)}
