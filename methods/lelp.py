"""LELP: learning from linear projections of the teacher's embeddings (Loo et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from bench.errors import NotApplicable
from bench.models.base import Model

MEMORY_BYTES = 2 * 2**30  # for the covariances of the classes that are fitted in one pass


class LELPConfig(Config):
    """Options of LELP.

    Attributes:
        subclasses: ``S``, pseudo-subclasses of each class; 1 is KD.
        beta: ``β``, temperature of the split within a class.
        temperature: ``τ``, temperature of the class probabilities.
        w_ce: weight of the hard-label term; 0 in the paper.
        null_space: drop from the embeddings what the teacher's head reads.
        projection: top principal directions, or random orthonormal ones.
        rotation: rotate the directions of a class so that each carries the same variance.
        centre: subtract the class mean.
        normalise: divide by the root of the class's mean eigenvalue.
    """

    subclasses: int = Field(default=4, ge=1)
    beta: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    w_ce: float = Field(default=0.0, ge=0)
    null_space: bool = True
    projection: Literal["pca", "random"] = "pca"
    rotation: bool = True
    centre: bool = True
    normalise: bool = True


@dataclass(frozen=True)
class Subspaces:
    """What the fit-time pass leaves: one small linear map a class.

    Attributes:
        directions: ``V``, ``(C, S, D)``, rows orthonormal within a class.
        mean: ``μ``, ``(C, D)``.
        scale: ``(C,)``, what projections are divided by.
    """

    directions: Tensor
    mean: Tensor
    scale: Tensor


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
        ),
    )

    def setup(self, context: Setup) -> None:
        if context.teacher is None or context.head is None:
            raise BenchError("LELP needs a teacher with a linear head")
        self.num_classes = context.num_classes
        embedding_width = context.head.shape[1]
        projector = (
            null_space_projector(context.head)
            if self.config.null_space
            else torch.eye(embedding_width, dtype=torch.float64)
        )
        teacher = context.teacher

        def embeddings() -> Iterable[tuple[Tensor, Tensor]]:
            for batch in context.training_batches():
                output = teacher(batch, ())
                assert output.embedding is not None
                yield output.embedding.cpu().double() @ projector, batch.labels.cpu()

        spaces = fit_subspaces(
            embeddings,
            num_classes=context.num_classes,
            width=embedding_width,
            rank=_rank(projector),
            config=self.config,
            generator=context.generator,
        )
        device = context.probe.labels.device
        self.register_buffer("projector", projector.float().to(device), persistent=False)
        self.register_buffer("directions", spaces.directions.float().to(device), persistent=False)
        self.register_buffer("mean", spaces.mean.float().to(device), persistent=False)
        self.register_buffer("scale", spaces.scale.float().to(device), persistent=False)
        head = context.student.head
        context.student.replace_head(
            widened_head(head, self.config.subclasses, generator=context.generator)
        )

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        assert teacher is not None and teacher.embedding is not None
        config = self.config
        space = Subspaces(self.directions, self.mean, self.scale)  # type: ignore[arg-type]
        targets = subclass_targets(
            logits=teacher.scores,
            projections=project(teacher.embedding @ self.projector, space),  # type: ignore[operator]
            beta=config.beta,
            temperature=config.temperature,
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

    def deploy(self, student: Model) -> Model:
        return SummedHead(student, self.num_classes)


def null_space_projector(head: Tensor) -> Tensor:
    """Return ``I − W⁺W`` in float64, ``(D, D)``, for the head's weight ``W`` ``(C, D)``."""
    weight = head.detach().cpu().double()
    row_space: Tensor = torch.linalg.pinv(weight) @ weight
    return torch.eye(weight.shape[1], dtype=torch.float64) - row_space


def fit_subspaces(
    embeddings: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    *,
    num_classes: int,
    width: int,
    rank: int,
    config: LELPConfig,
    generator: torch.Generator,
) -> Subspaces:
    """Fit each class's directions, streaming over the data.

    As many classes at a time as their covariances fit :data:`MEMORY_BYTES`; one pass each time.

    Args:
        embeddings: starts a pass over (embeddings ``(n, D)`` float64, labels ``(n,)``).
        num_classes: ``C``.
        width: ``D``.
        rank: dimensions that are left for directions.
        config: ``S`` and the switches.
        generator: for rotations and random projections.

    Raises:
        BenchError: for a class with too few samples, or ``S`` above what is left of ``D``.
    """
    count = config.subclasses
    if rank < 1:
        raise NotApplicable(
            f"LELP: the head's {num_classes} classes read all {width} dimensions of the embedding",
            "nothing is left to split classes by; null_space=false splits by what KD uses too",
        )
    if count > rank:
        raise BenchError(
            f"LELP: {count} subclasses, but the teacher's embeddings leave {rank} dimensions",
            f"subclasses ≤ {rank}",
        )
    at_once = max(1, MEMORY_BYTES // (width * width * 8))
    parts = []
    for first in range(0, num_classes, at_once):
        classes = range(first, min(first + at_once, num_classes))
        number, mean, covariance = class_moments(embeddings(), classes, width)
        for label, samples in zip(classes, number.tolist(), strict=True):
            if samples - 1 < count:
                raise BenchError(
                    f"LELP: class {label} has {int(samples)} training samples, too few for "
                    f"{count} subclasses",
                    f"subclasses ≤ {max(int(samples) - 1, 0)}",
                )
        parts.append((mean, *class_directions(covariance, config, generator)))
    mean = torch.cat([part[0] for part in parts])
    directions = torch.cat([part[1] for part in parts])
    variance = torch.cat([part[2] for part in parts])
    scale = variance.sqrt() if config.normalise else torch.ones_like(variance)
    return Subspaces(directions, mean if config.centre else torch.zeros_like(mean), scale)


def class_moments(
    stream: Iterable[tuple[Tensor, Tensor]], classes: Sequence[int], width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return each class's sample count ``(K,)``, mean ``(K, D)`` and covariance ``(K, D, D)``.

    Raises:
        BenchError: when an embedding is not finite; names its class.
    """
    number = torch.zeros(len(classes), dtype=torch.float64)
    total = torch.zeros(len(classes), width, dtype=torch.float64)
    second = torch.zeros(len(classes), width, width, dtype=torch.float64)
    for values, labels in stream:
        for place, label in enumerate(classes):
            own = values[labels == label]
            if not torch.isfinite(own).all():
                raise BenchError(f"LELP: an embedding of class {label} is not finite")
            number[place] += len(own)
            total[place] += own.sum(dim=0)
            second[place].addmm_(own.T, own)
    mean = total / number.clamp(min=1)[:, None]
    covariance = second / number.clamp(min=1)[:, None, None] - mean[:, :, None] * mean[:, None, :]
    return number, mean, covariance


def class_directions(
    covariance: Tensor, config: LELPConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return each class's ``S`` directions ``(K, S, D)`` and their mean variance ``(K,)``."""
    classes, width, _ = covariance.shape
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    if config.projection == "pca":
        directions = vectors[:, :, -config.subclasses :].transpose(1, 2).flip(1)
    else:
        # random, but inside what the data spans: the null space has nothing to project on
        drawn = torch.randn(
            classes, width, config.subclasses, generator=generator, dtype=torch.float64
        )
        spanned = vectors * (values > 1e-10 * values[:, -1:])[:, None, :]
        inside = spanned @ (spanned.transpose(1, 2) @ drawn)
        directions = torch.linalg.qr(inside)[0].transpose(1, 2)
    variance = torch.einsum("ksd,kde,kse->ks", directions, covariance, directions).mean(dim=1)
    if config.rotation:
        directions = random_rotations(classes, config.subclasses, generator) @ directions
    return directions, variance.clamp(min=1e-12)


def random_rotations(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Return random orthonormal matrices ``(count, size, size)`` (Haar, by QR; Mezzadri 2007)."""
    drawn = torch.randn(count, size, size, generator=generator, dtype=torch.float64)
    rotation, triangle = torch.linalg.qr(drawn)
    sign: Tensor = torch.diagonal(triangle, dim1=-2, dim2=-1).sign()
    rotated: Tensor = rotation * sign[:, None, :]
    return rotated


def project(embedding: Tensor, spaces: Subspaces) -> Tensor:
    """Return ``z_{c,s}`` for every class, ``(N, C, S)``, from projected embeddings ``(N, D)``."""
    flat = spaces.directions.flatten(0, 1)
    raw = (embedding @ flat.T).view(len(embedding), *spaces.directions.shape[:2])
    centre = torch.einsum("csd,cd->cs", spaces.directions, spaces.mean)
    return (raw - centre) / spaces.scale[:, None]


def subclass_targets(
    *, logits: Tensor, projections: Tensor, beta: float, temperature: float
) -> Tensor:
    """Return ``p_{c,s}``, ``(N, C, S)``, from teacher logits ``(N, C)`` and ``z`` ``(N, C, S)``."""
    classes = F.softmax(logits / temperature, dim=-1)
    return classes[:, :, None] * F.softmax(projections / beta, dim=-1)


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


def class_logits(logits: Tensor, num_classes: int) -> Tensor:
    """Return class logits ``(N, C)``: logsumexp over each class's outputs of ``(N, C·S)``."""
    return logits.view(len(logits), num_classes, -1).logsumexp(dim=-1)


def widened_head(head: nn.Linear, subclasses: int, *, generator: torch.Generator) -> nn.Linear:
    """Return a head with ``S`` outputs for each of ``head``'s; unchanged for ``S = 1``.

    The class's own weights are repeated, plus noise of their scale that tells subclasses apart.
    """
    if subclasses == 1:
        return head
    wide = nn.Linear(head.in_features, head.out_features * subclasses)
    with torch.no_grad():
        weight = head.weight.detach().cpu().repeat_interleave(subclasses, dim=0)
        noise = torch.randn(weight.shape, generator=generator) * weight.std()
        wide.weight.copy_(weight + noise)
        wide.bias.copy_(head.bias.detach().cpu().repeat_interleave(subclasses))
    return wide.to(head.weight.device)


class SummedHead(Model):
    """The deployed student: class scores are summed over subclasses."""

    def __init__(self, student: Model, num_classes: int) -> None:
        super().__init__()
        self.student, self.num_classes = student, num_classes
        self.depth, self.width = student.depth, student.width

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        hidden: Sequence[int] = (),
        until: int | None = None,
    ) -> Output:
        output = self.student(inputs, hidden=hidden, until=until)
        if output.logits is None:
            return output  # type: ignore[no-any-return]
        summed = class_logits(output.logits.float(), self.num_classes)
        return Output(summed, output.embedding, output.hidden)

    @property
    def head(self) -> nn.Linear:
        return self.student.head


def _rank(projector: Tensor) -> int:
    """Return the rank of a projector: its trace."""
    return round(float(projector.trace()))
