"""Embedding distillation: match the teacher's penultimate embedding through a linear projector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from bench import (
    Batch,
    BenchError,
    Card,
    Config,
    Method,
    Output,
    Progress,
    Setup,
    register_method,
)
from bench.losses import soft_kl


class EmbeddingConfig(Config):
    """Options of embedding distillation.

    Attributes:
        distance: between the projected student embedding and the teacher's.
        w_ce: weight of the hard-label cross-entropy.
        w_embedding: weight of the distance.
        w_kd: weight of an added KD term; 0 leaves it out.
        temperature: ``T`` of that term.
        relative: divide the squared error by the variance of the teacher's embeddings.
    """

    distance: Literal["cosine", "mse"] = "cosine"
    w_ce: float = Field(default=1.0, ge=0)
    w_embedding: float = Field(default=1.0, ge=0)
    w_kd: float = Field(default=0.0, ge=0)
    temperature: float = Field(default=4.0, gt=0)
    relative: bool = True


@register_method("embedding")
class EmbeddingDistillation(Method):
    """Match the teacher's embedding, the input of its last layer, by cosine or squared error.

    ``L = w_ce·CE(z_s, y) + w_embedding·mean_i d(P e_s, e_t) + w_kd·KD``, with ``P`` a linear map
    (with bias) from the student's width to the teacher's, learned beside the student and thrown
    away.  ``d`` is ``1 − cos`` or the squared error averaged over dimensions; the latter is divided
    by the teacher's own variance, so that it is the share of it left unexplained.
    """

    Config = EmbeddingConfig
    config: EmbeddingConfig
    scale: Tensor
    signals = frozenset({"logits", "embedding"})
    families = frozenset({"image", "text"})
    space = (
        ("distance", "cosine", "mse", "choice"),
        ("w_embedding", 0.1, 10.0, "log"),
        ("w_kd", 0.0, 1.0, "linear"),
    )
    card = Card(
        title="embedding distillation",
        paper="no single source: squared error through a regressor is Romero et al. 2015, "
        "arXiv 1412.6550; the cosine term Sanh et al. 2019, arXiv 1910.01108",
        confirmed=("both distances are in use as a term beside the label loss",),
        choices=(
            "taken at the penultimate embedding, through one linear projector with bias",
            "weights 1 / 1 and no KD term; the cosine distance by default",
            "squared error divided by the variance of the teacher's embeddings on the "
            "un-augmented training split, so that one weight serves every teacher",
        ),
    )

    def setup(self, context: Setup) -> None:
        if context.teacher is None:
            raise BenchError("embedding distillation needs a teacher")
        width = teacher_width(context)
        self.projector = linear_projector(
            context.student.width, width, generator=context.generator
        ).to(context.probe.labels.device)
        scale = torch.ones(())
        if self.config.distance == "mse" and self.config.relative:
            scale = embedding_variance(context)
        self.register_buffer("scale", scale.to(context.probe.labels.device), persistent=False)

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        config = self.config
        terms = {"ce": config.w_ce * F.cross_entropy(student.scores, batch.labels)}
        if teacher is None:
            return terms
        if config.w_embedding:
            assert student.embedding is not None and teacher.embedding is not None
            projected = self.projector(student.embedding)
            if config.distance == "cosine":
                distance = cosine_distance(projected, teacher.embedding)
            else:
                distance = F.mse_loss(projected, teacher.embedding.detach()) / self.scale
            terms["embedding"] = config.w_embedding * distance
        if config.w_kd:
            terms["kd"] = config.w_kd * soft_kl(
                student=student.scores, teacher=teacher.scores, temperature=config.temperature
            )
        return terms


def cosine_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Return ``mean_i 1 − cos(prediction_i, target_i)``, in 0 … 2.

    Args:
        prediction: ``(N, D)``.
        target: ``(N, D)``; no gradient flows into it.
    """
    return (1.0 - F.cosine_similarity(prediction, target.detach(), dim=-1)).mean()


def teacher_width(context: Setup) -> int:
    """Return the width ``D`` of the teacher's embedding, read off the probe batch.

    Raises:
        BenchError: when the teacher gives none.
    """
    assert context.teacher is not None
    embedding = context.teacher(context.probe, ()).embedding
    if embedding is None:
        raise BenchError("this teacher gives no embedding", "it must have a linear head")
    return embedding.shape[1]


def linear_projector(inputs: int, outputs: int, *, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer whose initial weights come from ``generator``; its bias is zero."""
    with torch.device("meta"):  # made without drawing from the global stream
        layer = nn.Linear(inputs, outputs)
    layer = layer.to_empty(device="cpu")
    nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def embedding_variance(context: Setup) -> Tensor:
    """Return the variance of the teacher's embeddings, averaged over dimensions, as a scalar.

    One pass over the un-augmented training split.

    Raises:
        BenchError: when they are all the same, or not finite.
    """
    assert context.teacher is not None
    rows, total, square = 0, torch.zeros(()), torch.zeros(())
    for batch in context.training_batches():
        embedding = context.teacher(batch, ()).embedding
        assert embedding is not None
        values = embedding.cpu().double()
        rows += len(values)
        total = total + values.sum(dim=0)
        square = square + values.square().sum(dim=0)
    mean = total / max(rows, 1)
    variance = (square / max(rows, 1) - mean.square()).mean()
    if not variance > 1e-12 * mean.square().mean().clamp(min=1e-12):  # false for NaN, too
        raise BenchError(
            f"the teacher's embeddings have variance {float(variance):.3g} over {rows} samples",
            "relative=false divides by nothing",
        )
    return variance.float()
