"""The decoupled distillation loss (Zhao et al. 2022, arXiv 2203.08679), in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    alpha: float,
    beta: float,
    temperature: float,
) -> Tensor:
    """Return ``T²·(α·TCKD + β·NCKD)``, mean over the batch (Zhao et al. 2022, §3.2).

    TCKD is the divergence of (target, all others) as two classes, NCKD that of the other classes
    among themselves; KL of the whole is ``TCKD + (1 − p_target)·NCKD``, ``p`` the teacher's.  With
    two classes NCKD is 0.

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``; no gradient flows into them.
        labels: ``(N,)`` int64, the target classes.
        alpha: weight of TCKD.
        beta: weight of NCKD.
        temperature: ``T`` > 0, of both sides.
    """
    target = F.one_hot(labels, student_logits.shape[1]).bool()
    student_binary, student_rest = _split(student_logits, target, temperature)
    teacher_binary, teacher_rest = _split(teacher_logits.detach(), target, temperature)
    tckd = _divergence(student_binary, teacher_binary)
    nckd = _divergence(student_rest, teacher_rest)
    return temperature**2 * (alpha * tckd + beta * nckd)


def _split(logits: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return log probabilities of (target, others) ``(N, 2)`` and among the others ``(N, C−1)``."""
    log_probability = F.log_softmax(logits.float() / temperature, dim=1)
    own = log_probability[target][:, None]
    others = log_probability[~target].view(len(logits), -1)
    rest = others.logsumexp(dim=1, keepdim=True)
    return torch.cat([own, rest], dim=1), others - rest


def _divergence(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """Return ``mean_i KL(teacher_i ‖ student_i)`` of log probabilities ``(N, K)``."""
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
