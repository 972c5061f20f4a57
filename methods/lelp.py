"""LELP: learning from linear projections of the teacher's embeddings (Loo et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from bench import (
    Batch,
    BenchError,
    Card,
    Method,
    Output,
    Progress,
    Setup,
    register_method,
)
from bench.errors import NotApplicable
from bench.models.base import Model
from bench.models.subclasses import SummedHead, class_logits, widened_head
from methods.subspaces import (
    SubspaceConfig,
    Subspaces,
    fit_subspaces,
    null_space_projector,
    project,
    rank_of,
)


class LELPConfig(SubspaceConfig):
    """Options of LELP; those of the directions are in :class:`SubspaceConfig`.

    Attributes:
        beta: ``β``, temperature of the split within a class.
        temperature: ``τ``, temperature of the class probabilities.
        w_ce: weight of the hard-label term; 0 in the paper.
        split: what splits a class: the teacher's embedding, or ("oracle") the true finer label of
            each training sample.  The oracle takes ``S`` from those labels and has no use for the
            options of directions nor for ``β``; it knows what no other method is told, so it
            bounds what a split can give and is no contender.
    """

    beta: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    w_ce: float = Field(default=0.0, ge=0)
    split: Literal["embedding", "oracle"] = "embedding"


@register_method("lelp")
class LELP(Method):
    """Split each class into pseudo-subclasses read off the teacher's embeddings.

    Targets ``p_{c,s} = p_c·softmax_s(v_{c,s}ᵀ(h′ − μ_c)/σ_c/β)`` with ``h′`` the embedding on the
    null space of the teacher's head; the student's head has ``S·C`` outputs and one KL against
    them (times ``τ²``).  A class's score is the logsumexp of its outputs.
    """

    Config = LELPConfig
    config: LELPConfig
    signals = frozenset({"logits", "embedding", "head"})
    families = frozenset({"image", "text"})
    space = (
        ("subclasses", 1, 10, "int"),
        ("beta", 0.2, 5.0, "log"),
        ("temperature", 1.0, 10.0, "log"),
        ("w_ce", 0.0, 1.0, "linear"),
    )
    card = Card(
        title="LELP",
        paper="Loo, Iliopoulos, Hu and Vee 2024, arXiv 2409.20449",
        confirmed=(
            "null-space projection, class-wise PCA, random rotation",
            "one KL over S·C outputs, class score summed over subclasses, no hard-label term",
        ),
        choices=(
            "centring by the class mean, division by the root of the mean eigenvalue",
            "S = 4, β = 1, τ = 1",
            "split=oracle, an upper bound of ours: the true finer label instead of the embedding",
        ),
    )

    @property
    def oracle(self) -> bool:
        return self.config.split == "oracle"

    def setup(self, context: Setup) -> None:
        if context.teacher is None or context.head is None:
            raise BenchError("LELP needs a teacher with a linear head")
        self.num_classes = context.num_classes
        if self.config.split == "oracle":
            count = self._setup_oracle(context)
        else:
            self._setup_subspaces(context, context.head)
            count = self.config.subclasses
        context.student.replace_head(
            widened_head(context.student.head, count, generator=context.generator)
        )

    def _setup_subspaces(self, context: Setup, head: Tensor) -> None:
        """Fit each class's directions in one pass over the teacher's embeddings."""
        width = head.shape[1]
        projector = (
            null_space_projector(head)
            if self.config.null_space
            else torch.eye(width, dtype=torch.float64)
        )
        teacher = context.teacher
        assert teacher is not None

        def embeddings() -> Iterable[tuple[Tensor, Tensor]]:
            for batch in context.training_batches():
                output = teacher(batch, ())
                assert output.embedding is not None
                yield output.embedding.cpu().double() @ projector, batch.labels.cpu()

        spaces = fit_subspaces(
            embeddings,
            num_classes=context.num_classes,
            width=width,
            rank=rank_of(projector),
            config=self.config,
            generator=context.generator,
        )
        self._keep(context, "projector", projector)
        self._keep(context, "directions", spaces.directions)
        self._keep(context, "mean", spaces.mean)
        self._keep(context, "scale", spaces.scale)

    def _setup_oracle(self, context: Setup) -> int:
        """Keep each training sample's place among its class's finer labels; returns ``S``."""
        if context.subclasses is None:
            raise NotApplicable(
                "LELP: split=oracle needs a task with finer true labels, and this one has none"
            )
        labels = torch.full_like(context.subclasses.cpu(), -1)
        for batch in context.training_batches():
            labels[batch.index.cpu()] = batch.labels.cpu()
        places, sizes = places_in_class(context.subclasses.cpu(), labels, context.num_classes)
        count = int(sizes.max())
        elsewhere = (torch.arange(count) < sizes[:, None]) / sizes[:, None].clamp(min=1)
        device = context.probe.labels.device
        self.register_buffer("places", places.to(device), persistent=False)
        self._keep(context, "elsewhere", elsewhere)
        return count

    def _keep(self, context: Setup, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.float().to(context.probe.labels.device), persistent=False)

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        assert teacher is not None
        config = self.config
        targets = split_classes(
            logits=teacher.scores, split=self._split(batch, teacher), temperature=config.temperature
        )
        terms = {
            "kl": subclass_kl(
                student=student.scores, targets=targets, temperature=config.temperature
            )
        }
        if config.w_ce:
            classes = class_logits(student.scores, self.num_classes)
            terms["ce"] = config.w_ce * F.cross_entropy(classes, batch.labels)
        return terms

    def _split(self, batch: Batch, teacher: Output) -> Tensor:
        """Return how each class is split for each sample, ``(N, C, S)``, rows sum to 1."""
        if self.config.split == "oracle":
            places: Tensor = self.places[batch.index]  # type: ignore[index, assignment]
            return true_split(places, batch.labels, self.elsewhere)  # type: ignore[arg-type]
        assert teacher.embedding is not None
        space = Subspaces(self.directions, self.mean, self.scale)  # type: ignore[arg-type]
        projections = project(teacher.embedding @ self.projector, space)  # type: ignore[operator]
        return F.softmax(projections / self.config.beta, dim=-1)

    def deploy(self, student: Model) -> Model:
        return SummedHead(student, self.num_classes)


def subclass_targets(
    *, logits: Tensor, projections: Tensor, beta: float, temperature: float
) -> Tensor:
    """Return ``p_{c,s}``, ``(N, C, S)``, from teacher logits ``(N, C)`` and ``z`` ``(N, C, S)``."""
    split = F.softmax(projections / beta, dim=-1)
    return split_classes(logits=logits, split=split, temperature=temperature)


def split_classes(*, logits: Tensor, split: Tensor, temperature: float) -> Tensor:
    """Return ``softmax(logits/τ)_c · split_{c,s}``, ``(N, C, S)``."""
    return F.softmax(logits / temperature, dim=-1)[:, :, None] * split


def places_in_class(fine: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Number each class's finer labels from 0.

    Args:
        fine: finer labels ``(N,)``.
        labels: class labels ``(N,)``.
        num_classes: ``C``.

    Returns:
        Each sample's place among the finer labels of its class ``(N,)``, and how many finer
        labels each class has ``(C,)``.

    Raises:
        BenchError: when samples of one finer label are of different classes.
    """
    places = torch.zeros_like(fine)
    sizes = torch.zeros(num_classes, dtype=torch.long)
    for value in sorted(set(fine.tolist())):
        own = fine == value
        classes = sorted(set(labels[own].tolist()))
        if len(classes) > 1:
            raise BenchError(f"LELP: finer label {value} occurs in classes {classes}")
        places[own] = sizes[classes[0]]
        sizes[classes[0]] += 1
    return places, sizes


def true_split(places: Tensor, labels: Tensor, elsewhere: Tensor) -> Tensor:
    """Return the oracle's split, ``(N, C, S)``.

    Args:
        places: each sample's place among its class's finer labels ``(N,)``: all the mass there.
        labels: class labels ``(N,)``.
        elsewhere: the split of a class that the sample is not of ``(C, S)``: even over the
            class's own finer labels, since none of them is the sample's.
    """
    split = elsewhere.expand(len(labels), *elsewhere.shape).clone()
    split[torch.arange(len(labels), device=labels.device), labels] = F.one_hot(
        places, elsewhere.shape[1]
    ).to(split.dtype)
    return split


def subclass_kl(*, student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Return ``τ²·mean_i KL(targets_i ‖ softmax(student_i/τ))``.

    Args:
        student: logits ``(N, C·S)``, the subclasses of a class side by side.
        targets: ``(N, C, S)``, sums to 1 in each row; carries no gradient.
        temperature: ``τ``.
    """
    log_student = F.log_softmax(student.float() / temperature, dim=-1)
    flat = targets.detach().flatten(1)
    return temperature**2 * F.kl_div(log_student, flat, reduction="batchmean")
