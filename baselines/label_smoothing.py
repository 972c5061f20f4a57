"""Label smoothing: what softening the targets does without any teacher."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from bench import Batch, Card, Config, Method, Output, Progress, register_baseline


class LabelSmoothingConfig(Config):
    """Options.

    Attributes:
        epsilon: probability spread evenly over all classes.
    """

    epsilon: float = Field(default=0.1, ge=0, lt=1)


@register_baseline("label_smoothing")
class LabelSmoothing(Method):
    """Train the student on smoothed labels: ``L = CE(z_s, (1−ε)·y + ε/C)``.

    ``C`` counts what can be chosen: a candidate masked with −inf gets no probability.
    """

    Config = LabelSmoothingConfig
    config: LabelSmoothingConfig
    signals = frozenset()
    space = (("epsilon", 0.02, 0.4, "log"),)
    card = Card(
        title="label smoothing",
        paper="Szegedy et al. 2016, arXiv 1512.00567, §7",
        choices=("ε = 0.1",),
    )

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        epsilon = self.config.epsilon
        log_probability = F.log_softmax(student.scores, dim=-1)
        real = ~student.scores.isneginf()
        evenly = torch.where(real, log_probability, 0.0).sum(dim=-1) / real.sum(dim=-1)
        hard = F.nll_loss(log_probability, batch.labels)
        return {"ce": (1 - epsilon) * hard - epsilon * evenly.mean()}
