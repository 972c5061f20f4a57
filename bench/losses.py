"""Loss terms shared by methods, all in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_kl(*, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return ``T² · mean_i KL(softmax(teacher_i / T) ‖ softmax(student_i / T))``.

    Summed over classes, mean over the batch, teacher first (Hinton et al. 2015, §2).  A class
    masked with −inf on both sides (a padded candidate) contributes nothing and gets no gradient.

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``; no gradient flows into them.
        temperature: ``T`` > 0.
    """
    log_student = F.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.detach().float() / temperature, dim=-1)
    probability = log_teacher.exp()
    terms = probability * (log_teacher - log_student)
    terms = torch.where(probability > 0, terms, torch.zeros_like(terms))
    return temperature**2 * terms.sum(dim=-1).mean()


def soft_cross_entropy(*, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return ``mean_i H(softmax(teacher_i / T), softmax(student_i / T))``, without ``T²``."""
    log_student = F.log_softmax(student.float() / temperature, dim=-1)
    probability = F.softmax(teacher.detach().float() / temperature, dim=-1)
    terms = torch.where(probability > 0, -probability * log_student, torch.zeros_like(log_student))
    return terms.sum(dim=-1).mean()
