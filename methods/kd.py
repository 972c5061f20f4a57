"""Vanilla knowledge distillation (Hinton, Vinyals and Dean 2015, arXiv 1503.02531)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from bench import Batch, Card, Config, Method, Output, Progress, register_method
from bench.losses import soft_kl


class KDConfig(Config):
    """Options of KD; the defaults are the CIFAR settings of the field.

    Attributes:
        temperature: ``T``; both sides are softened by it.
        w_ce: weight of the hard-label cross-entropy.
        w_kd: weight of ``T²·KL``.
        loss: "kl", or "margin_mse" for retrieval.
    """

    temperature: float = Field(default=4.0, gt=0)
    w_ce: float = Field(default=0.1, ge=0)
    w_kd: float = Field(default=0.9, ge=0)
    loss: Literal["kl", "margin_mse"] = "kl"


@register_method("kd")
class KD(Method):
    """Match the teacher's softened class probabilities.

    ``L = w_ce·CE(z_s, y) + w_kd·T²·mean_i KL(softmax(z_t/T) ‖ softmax(z_s/T))``

    With ``loss="margin_mse"`` (retrieval: column 0 is the positive candidate) the second term is
    ``mean(((s⁺−s⁻)−(t⁺−t⁻))²)`` over the negatives that are there, as published (Hofstätter et al.
    2020).  Matching softened probabilities over a query's list is KD with the list as its classes;
    temperature and weights on lists are ours.
    """

    Config = KDConfig
    config: KDConfig
    signals = frozenset({"logits"})
    space = (
        ("temperature", 1.0, 10.0, "log"),
        ("w_ce", 0.0, 1.0, "linear"),
        ("w_kd", 0.1, 1.0, "linear"),
    )
    card = Card(
        title="KD",
        paper="Hinton, Vinyals and Dean 2015, arXiv 1503.02531",
        confirmed=("T² scaling", "teacher first in the divergence"),
        choices=("T = 4, weights 0.1 / 0.9 (the field's CIFAR settings) on every task",),
    )

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        config = self.config
        terms = {"ce": config.w_ce * F.cross_entropy(student.scores, batch.labels)}
        if config.w_kd and teacher is not None:
            if config.loss == "kl":
                divergence = soft_kl(
                    student=student.scores,
                    teacher=teacher.scores,
                    temperature=config.temperature,
                )
            else:
                divergence = margin_mse(student=student.scores, teacher=teacher.scores)
            terms["kd"] = config.w_kd * divergence
        return terms


def margin_mse(*, student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of the margins positive − negative.

    Args:
        student: scores ``(N, K)``, the positive in column 0; −inf marks padding.
        teacher: scores ``(N, K)``, likewise.
    """
    real = ~(student.isneginf() | teacher.isneginf())[:, 1:]
    filled_student = student.masked_fill(student.isneginf(), 0.0)
    filled_teacher = teacher.detach().masked_fill(teacher.isneginf(), 0.0)
    margin_student = filled_student[:, :1] - filled_student[:, 1:]
    margin_teacher = filled_teacher[:, :1] - filled_teacher[:, 1:]
    square = (margin_student - margin_teacher) ** 2 * real
    return square.sum() / real.sum().clamp(min=1)
