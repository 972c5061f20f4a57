"""RKD: relational knowledge distillation (Park et al. 2019, arXiv 1904.05068)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from bench import Batch, Card, Config, Method, Output, Progress, register_method
from bench.losses import soft_kl


class RKDConfig(Config):
    """Options of RKD; the defaults are the published weights for classification.

    Attributes:
        w_ce: weight of the hard-label cross-entropy.
        w_distance: weight of the distance-wise loss.
        w_angle: weight of the angle-wise loss.
        w_kd: weight of an added KD term; 0 leaves it out.
        temperature: ``T`` of that term.
    """

    w_ce: float = Field(default=1.0, ge=0)
    w_distance: float = Field(default=25.0, ge=0)
    w_angle: float = Field(default=50.0, ge=0)
    w_kd: float = Field(default=0.0, ge=0)
    temperature: float = Field(default=4.0, gt=0)


@register_method("rkd")
class RKD(Method):
    """Match the relations among a batch's embeddings: pairs by distance, triplets by angle.

    ``L = w_ce·CE(z_s, y) + w_distance·huber(ψ_D) + w_angle·huber(ψ_A)``.  ``ψ_D`` is the Euclidean
    distance of a pair divided by the batch's mean distance, ``ψ_A`` the cosine of the angle that
    two samples form at a third; both sides are compared with the Huber loss (δ = 1).  Widths need
    not agree and nothing is trained beside the student.
    """

    Config = RKDConfig
    config: RKDConfig
    signals = frozenset({"logits", "embedding"})
    families = frozenset({"image", "text"})
    space = (
        ("w_distance", 1.0, 100.0, "log"),
        ("w_angle", 1.0, 200.0, "log"),
        ("w_kd", 0.0, 1.0, "linear"),
    )
    card = Card(
        title="RKD",
        paper="Park, Kim, Lu and Cho 2019, arXiv 1904.05068",
        confirmed=(
            "distances divided by each side's own mean over the batch, cosines at every triplet, "
            "Huber loss with δ = 1",
            "weights 25 and 50 beside a label weight of 1 (as run by Tian et al. 2020, "
            "arXiv 1910.10699), no KD term",
        ),
        choices=(
            "at the penultimate embedding only",
            "averages run over all N² pairs and N³ triplets, those of a sample with itself "
            "included, as in the released code",
            "samples that coincide have no direction: their angles count as 0, without gradient",
        ),
    )

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        config = self.config
        terms = {"ce": config.w_ce * F.cross_entropy(student.scores, batch.labels)}
        if teacher is None:
            return terms
        if config.w_distance or config.w_angle:
            assert student.embedding is not None and teacher.embedding is not None
            ours = differences(student.embedding)
            theirs = differences(teacher.embedding.detach())
            if config.w_distance:
                terms["distance"] = config.w_distance * F.smooth_l1_loss(
                    relative_distances(ours), relative_distances(theirs)
                )
            if config.w_angle:
                terms["angle"] = config.w_angle * F.smooth_l1_loss(cosines(ours), cosines(theirs))
        if config.w_kd:
            terms["kd"] = config.w_kd * soft_kl(
                student=student.scores, teacher=teacher.scores, temperature=config.temperature
            )
        return terms


def differences(embedding: Tensor) -> Tensor:
    """Return ``x_k − x_j`` at ``[j, k]``, ``(N, N, D)``, from ``(N, D)``.

    Taken outright: through inner products, near neighbours would lose their digits.
    """
    return embedding[None, :, :] - embedding[:, None, :]


def relative_distances(difference: Tensor) -> Tensor:
    """Return pairwise distances divided by the mean of those above 0, ``(N, N)`` (eq. 4 and 5)."""
    distance = torch.linalg.vector_norm(difference, dim=-1)
    apart = (distance > 0).sum().clamp(min=1)
    mean = distance.sum() / apart
    # a batch that has collapsed to a point has no scale: divided by 1, its gradient stays finite
    relative: Tensor = distance / torch.where(mean > 0, mean, 1.0)
    return relative


def cosines(difference: Tensor) -> Tensor:
    """Return the cosine of the angle at ``j`` between ``i`` and ``k`` at ``[j, i, k]`` (eq. 7)."""
    distance = torch.linalg.vector_norm(difference, dim=-1, keepdim=True)
    apart = distance > 0
    # divided by 1 where there is no direction, so that no gradient is infinite
    direction = torch.where(apart, difference, 0.0) / torch.where(apart, distance, 1.0)
    return direction @ direction.transpose(1, 2)
