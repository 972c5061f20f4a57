"""The two perturbations of a code (Zaheer et al. 2022): at random, and up the divergence.

Both measure in standard deviations of ``Enc(x)``, dimension by dimension, so that one number means
the same for every generator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def at_random(values: Tensor, *, scale: Tensor, sigma: float, random: torch.Generator) -> Tensor:
    """Return ``z + σ·s·ν``, ``ν ~ N(0, I)``; ``z`` itself for ``σ = 0``.

    Args:
        values: ``z``, ``(N, …)``.
        scale: ``s``, broadcastable to a sample of ``z``.
        sigma: ``σ``.
        random: a CPU stream, so that every device draws the same.
    """
    if sigma == 0:
        return values
    noise = torch.randn(values.shape, generator=random).to(values.device)
    return values + sigma * scale * noise


def up_the_divergence(
    values: Tensor,
    *,
    scale: Tensor,
    divergence: Callable[[Tensor], Tensor],
    steps: int,
    step_size: float,
    radius: float,
) -> Tensor:
    """Return a neighbour of ``z`` where teacher and student part: ``K`` ascent steps.

    With ``u = (z − z₀)/s``: ``u ← u + η·g/rms(g)``, ``g = ∂divergence/∂u``, then ``u`` is drawn
    back to ``rms(u) ≤ radius``.  The root mean square is over a sample's dimensions.

    Args:
        values: ``z₀``, ``(N, …)``.
        scale: ``s``, broadcastable to a sample of ``z₀``.
        divergence: of each sample at a ``z``, ``(N,)``.
        steps: ``K``; 0 gives ``z₀``.
        step_size: ``η``.
        radius: largest root mean square of the whole move.
    """
    start = values.detach()
    moved = torch.zeros_like(start)
    for _ in range(steps):
        moved.requires_grad_(True)
        with torch.enable_grad():
            total = divergence(start + scale * moved).sum()
            (slope,) = torch.autograd.grad(total, moved)
        moved = moved.detach() + step_size * slope / _rms(slope).clamp(min=1e-20)
        moved = moved * (radius / _rms(moved).clamp(min=1e-20)).clamp(max=1.0)
    return start + scale * moved


def divergence(*, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return each sample's ``T²·KL(softmax(t/T) ‖ softmax(s/T))``, ``(N,)``.

    Unlike a loss, it carries the gradient of both sides: both follow the code.
    """
    log_student = F.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.float() / temperature, dim=-1)
    terms = log_teacher.exp() * (log_teacher - log_student)
    return temperature**2 * terms.sum(dim=-1)


def _rms(values: Tensor) -> Tensor:
    """Return the root mean square of each sample, ``(N, 1, …)``."""
    dimensions = tuple(range(1, values.ndim))
    return values.square().mean(dim=dimensions, keepdim=True).sqrt()
