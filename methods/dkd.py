"""DKD: decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from bench import Batch, Card, Config, Method, Output, Progress, register_method


class DKDConfig(Config):
    """Options of DKD; the defaults are those of the authors' released code.

    Attributes:
        temperature: ``T``.
        alpha: ``α``, weight of the target-class part.
        beta: ``β``, weight of the non-target part.
        w_ce: weight of the hard-label cross-entropy.
        warmup: share of training over which the distillation term rises from 0 to its weight.
    """

    temperature: float = Field(default=4.0, gt=0)
    alpha: float = Field(default=1.0, ge=0)
    beta: float = Field(default=8.0, ge=0)
    w_ce: float = Field(default=1.0, ge=0)
    warmup: float = Field(default=20 / 240, ge=0, le=1)


@register_method("dkd")
class DKD(Method):
    """Split KD into the target class and the rest, and weigh the two apart.

    ``L = w_ce·CE(z_s, y) + r(t)·T²·mean_i (α·TCKD_i + β·NCKD_i)``.  TCKD is the divergence between
    the two-way distributions (target class, all others), NCKD that between the distributions over
    the other classes alone; ``KD = TCKD + (1 − p_t(y))·NCKD`` (eq. 6).  ``r`` rises linearly from 0
    to 1 in the warm-up.  With two classes there is nothing to distribute: NCKD is 0.  The form for
    retrieval is ours.
    """

    Config = DKDConfig
    config: DKDConfig
    signals = frozenset({"logits"})
    families = frozenset({"image", "text", "retrieval"})
    space = (
        ("temperature", 1.0, 10.0, "log"),
        ("alpha", 0.25, 4.0, "log"),
        ("beta", 0.5, 10.0, "log"),
    )
    card = Card(
        title="DKD",
        paper="Zhao, Cui, Song, Qiu and Liang 2022, arXiv 2203.08679",
        confirmed=(
            "TCKD and NCKD, both times T²; T = 4, α = 1, label weight 1",
            "β = 8 unless a pair has its own (released configurations; β = 2 for ResNet-56 to "
            "ResNet-20), linear warm-up over 20 of 240 epochs on CIFAR-100",
        ),
        choices=(
            "β = 8 on every task",
            "the warm-up is the same share of any budget (1/12) and rises every step, not every "
            "epoch",
            "in retrieval the target is the positive candidate",
        ),
    )

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        config = self.config
        terms = {"ce": config.w_ce * F.cross_entropy(student.scores, batch.labels)}
        if (config.alpha or config.beta) and teacher is not None:
            terms["dkd"] = warmup_weight(progress, config.warmup) * dkd_loss(
                student.scores,
                teacher.scores,
                batch.labels,
                alpha=config.alpha,
                beta=config.beta,
                temperature=config.temperature,
            )
        return terms


def dkd_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    alpha: float,
    beta: float | Tensor,
    temperature: float,
) -> Tensor:
    """Return ``T²·mean_i (α·TCKD_i + β_i·NCKD_i)`` in float32 at least.

    A class masked with −inf on both sides (a padded candidate) contributes nothing and gets no
    gradient.

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``; no gradient flows into them.
        labels: target classes ``(N,)`` int64.
        alpha: weight of TCKD.
        beta: weight of NCKD, one for all or ``(N,)``.
        temperature: ``T`` > 0.
    """
    target, others = decoupled(student, teacher, labels, temperature=temperature)
    return temperature**2 * (alpha * target + beta * others).mean()


def decoupled(
    student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return TCKD and NCKD of each sample, ``(N,)`` each, without ``T²``; see :func:`dkd_loss`."""
    ours = _split(student, labels, temperature)
    theirs = _split(teacher.detach(), labels, temperature)
    return _divergence(ours[0], theirs[0]), _divergence(ours[1], theirs[1])


def _split(logits: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of (target, all others) ``(N, 2)`` and among others ``(N, C)``.

    The target itself is −inf in the second.  All in log space: the published form takes logarithms
    of sums that may be zero.
    """
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    classes = torch.arange(scaled.shape[1], device=scaled.device)
    absent = (classes == labels[:, None]) | scaled.isneginf()
    # not −inf: a row with no other class left would have a gradient of NaN
    rest = scaled.masked_fill(absent, torch.finfo(scaled.dtype).min / 4)
    others = rest.logsumexp(dim=1, keepdim=True)
    target = scaled.gather(1, labels[:, None])
    binary = torch.cat([target, others], dim=1).log_softmax(dim=1)
    return binary, (rest - others).masked_fill(absent, -torch.inf)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ``Σ_c p_t·(log p_t − log p_s)`` of each row of two log-distributions."""
    probability = teacher.exp()
    present = probability > 0
    difference = torch.where(present, teacher - student, torch.zeros_like(student))
    return (probability * difference).sum(dim=1)


def warmup_weight(progress: Progress, share: float) -> float:
    """Return ``r``: 0 at the first step, 1 from ``share`` of the steps on."""
    if share == 0:
        return 1.0
    return min(progress.step / (share * progress.steps), 1.0)
