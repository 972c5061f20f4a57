"""Class-wise linear subspaces of the teacher's embeddings, fitted by streaming over the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from bench import BenchError, Config
from bench.errors import NotApplicable

MEMORY_BYTES = 2 * 2**30  # for the covariances of the classes that are fitted in one pass


class SubspaceConfig(Config):
    """Which directions a class's embeddings are read along.

    Attributes:
        subclasses: ``S``, directions (and so pseudo-subclasses) of each class.
        null_space: drop from the embeddings what the teacher's head reads.
        projection: top principal directions, or random orthonormal ones.
        rotation: rotate the directions of a class so that each carries the same variance.
        centre: subtract the class mean.
        normalise: divide by the root of the class's mean eigenvalue.
    """

    subclasses: int = Field(default=4, ge=1)
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
    config: SubspaceConfig,
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
        NotApplicable: when the head reads the whole embedding and leaves no direction.
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
    covariance: Tensor, config: SubspaceConfig, generator: torch.Generator
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


def rank_of(projector: Tensor) -> int:
    """Return the rank of a projector: its trace."""
    return round(float(projector.trace()))
