"""Subclass distillation (Müller, Kornblith and Hinton 2020, arXiv 2002.03936)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

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
from bench.errors import NotApplicable
from bench.losses import soft_kl
from bench.models.base import Model
from bench.models.subclasses import SummedHead, class_logits, widened_head


class SubclassTeacherConfig(Config):
    """Options of the teacher's training.

    Attributes:
        subclasses: ``S``, outputs of each class.
        w_auxiliary: ``β``, weight of the auxiliary loss.
        auxiliary_temperature: of the auxiliary loss.
    """

    subclasses: int = Field(default=5, ge=2)
    w_auxiliary: float = Field(default=1.0, ge=0)
    auxiliary_temperature: float = Field(default=1.0, gt=0)


class SubclassConfig(SubclassTeacherConfig):
    """Options of subclass distillation: those of its teacher's training, and the student's.

    Attributes:
        temperature: ``T`` of the student's targets.
        w_ce: weight of the hard-label cross-entropy on class scores.
        w_kd: weight of ``T²·KL`` over the subclasses.
    """

    temperature: float = Field(default=4.0, gt=0)
    w_ce: float = Field(default=0.5, ge=0)
    w_kd: float = Field(default=0.5, ge=0)


class SubclassTeacher(Method):
    """Train a teacher that divides each class into ``S`` subclasses of its own invention.

    ``L = CE(class scores, y) + β·auxiliary``; a class's score is the logsumexp of its outputs.
    Labels say nothing of subclasses: the auxiliary loss alone makes all of them be used.
    """

    Config = SubclassTeacherConfig
    config: SubclassTeacherConfig
    signals = frozenset()

    def setup(self, context: Setup) -> None:
        self.num_classes = context.num_classes
        head = widened_head(
            context.student.head, self.config.subclasses, generator=context.generator
        )
        context.student.replace_head(head)

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        classes = class_logits(student.scores, self.num_classes)
        terms = {"ce": F.cross_entropy(classes, batch.labels)}
        if self.config.w_auxiliary:
            terms["auxiliary"] = self.config.w_auxiliary * auxiliary_loss(
                student.scores, temperature=self.config.auxiliary_temperature
            )
        return terms

    def deploy(self, student: Model) -> Model:
        return SummedHead(student, self.num_classes)


@register_method("subclass")
class Subclass(Method):
    """Retrain the teacher with subclasses that it invents, and match those.

    The student has ``S·C`` outputs too: ``L = w_kd·T²·mean_i KL(teacher's subclasses ‖ student's) +
    w_ce·CE(class scores, y)``.  A class's score is the logsumexp of its outputs.
    """

    Config = SubclassConfig
    config: SubclassConfig
    signals = frozenset({"logits"})
    families = frozenset({"image", "text"})
    own_teacher = SubclassTeacher
    space = (
        ("subclasses", 2, 10, "int"),
        ("temperature", 1.0, 10.0, "log"),
        ("w_ce", 0.0, 1.0, "linear"),
    )
    card = Card(
        title="subclass distillation",
        paper="Müller, Kornblith and Hinton 2020, arXiv 2002.03936",
        confirmed=(
            "teacher: cross-entropy on summed subclasses plus an auxiliary loss that spreads the "
            "batch's normalised logits (weight 1 and temperature 1 in the authors' MNIST example)",
            "student: half T²·cross-entropy on the teacher's subclasses at T = 4, half the label "
            "loss on class scores (the same example)",
            "5 subclasses a class where the classes are two",
        ),
        choices=(
            "5 subclasses a class on every task",
            "the teacher's own model, recipe, seed and epoch selection; its head is the class head "
            "repeated, plus noise, and so is the student's",
            "a teacher whose encoder is frozen is not retrained: the method is skipped there",
        ),
        not_like_for_like="retrains the teacher for itself, with S·C outputs and an auxiliary loss",
    )

    def setup(self, context: Setup) -> None:
        if context.teacher is None:
            raise BenchError("subclass distillation needs its teacher")
        self.num_classes, count = context.num_classes, self.config.subclasses
        outputs = context.teacher(context.probe, ()).scores.shape[1]
        if outputs != count * context.num_classes:
            raise NotApplicable(
                f"subclass distillation: the teacher has {outputs} outputs, not "
                f"{count} for each of {context.num_classes} classes",
                "it cannot be retrained here, as its encoder is frozen",
            )
        head = widened_head(context.student.head, count, generator=context.generator)
        context.student.replace_head(head)

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        config = self.config
        classes = class_logits(student.scores, self.num_classes)
        terms = {"ce": config.w_ce * F.cross_entropy(classes, batch.labels)}
        if config.w_kd and teacher is not None:
            terms["kd"] = config.w_kd * soft_kl(
                student=student.scores, teacher=teacher.scores, temperature=config.temperature
            )
        return terms

    def deploy(self, student: Model) -> Model:
        return SummedHead(student, self.num_classes)


def auxiliary_loss(logits: Tensor, *, temperature: float) -> Tensor:
    """Return ``mean_i log (1/N) Σ_j exp((ρ_ij − 1)/T)``, at most 0.

    ``ρ_ij`` is the correlation between the logits of samples ``i`` and ``j`` over all subclasses.
    It is 0 when the batch's logits all have one shape, and falls as samples draw apart (Müller et
    al. 2020).

    Args:
        logits: subclass logits ``(N, S·C)``.
        temperature: ``T`` > 0.
    """
    centred = logits - logits.mean(dim=1, keepdim=True)
    unit = F.normalize(centred, dim=1, eps=1e-6)
    spread = torch.logsumexp((unit @ unit.T - 1.0) / temperature, dim=1)
    return spread.mean() - math.log(len(logits))
