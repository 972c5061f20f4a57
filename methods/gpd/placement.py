"""Inverse reparameterization along channels, and its way back: from shapes alone.

A wider network of the same architecture computes the student's function when each parameter is
the student's, repeated along every axis that grew, and divided by the number of repeats of the
axis that reads the layer's input.  Then each hidden activation is the student's, repeated, so
normalisation, activations and attention (more heads of the same size) need no case of their own.
The student is the first block of every parameter, times the same number.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bench.errors import NotApplicable
from bench.models.base import Model

# Projections that libraries fuse into one layer lie side by side on its output axis.
FUSED = {"qkv": 3, "Wqkv": 3, "kv": 2}


@dataclass(frozen=True)
class Placement:
    """Where one of the student's tensors lies in the wider network's.

    Attributes:
        copies: repeats along each axis, 1 or ``r``.
        divisor: repeats of the axis that reads the input: what the repeated values are divided
            by; 1 where that axis did not grow or there is none.
        parts: fused projections on the first axis, each repeated for itself.
    """

    copies: tuple[int, ...]
    divisor: int = 1
    parts: int = 1

    @property
    def count(self) -> int:
        """Return how many times each of the student's numbers is there."""
        return int(torch.Size(self.copies).numel())

    def tile(self, value: Tensor) -> Tensor:
        """Return ``value`` repeated to the wider size, not divided."""
        if self.parts == 1:
            return value.repeat(self.copies) if self.copies else value.clone()
        return self._split(value).repeat(1, *self.copies).flatten(0, 1)

    def block(self, wide: Tensor) -> Tensor:
        """Return the student's block of ``wide`` as a view, fused projections on an axis first."""
        value = self._split(wide) if self.parts > 1 else wide
        for axis, times in enumerate(self.copies, start=int(self.parts > 1)):
            value = value.narrow(axis, 0, value.shape[axis] // times)
        return value

    def take(self, wide: Tensor) -> Tensor:
        """Return the student's block of ``wide`` in the student's shape, not multiplied.

        A view of ``wide``'s storage, but for fused projections, whose blocks are apart.
        """
        value = self.block(wide)
        return value.flatten(0, 1) if self.parts > 1 else value

    def _split(self, value: Tensor) -> Tensor:
        return value.view(self.parts, -1, *value.shape[1:])


def check_student(student: Model) -> None:
    """Refuse a student whose weights cannot all live in a wider network.

    Raises:
        NotApplicable: for tied or frozen parameters, or a last layer that is not linear.
    """
    seen: dict[int, str] = {}
    for name, parameter in student.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            raise NotApplicable(
                f"GPD: '{name}' of the student is frozen", "it trains every layer; unfreeze it"
            )
        if id(parameter) in seen:
            raise NotApplicable(
                f"GPD: '{name}' and '{seen[id(parameter)]}' of the student are one tied weight",
                "the two may grow along different axes; untie them",
            )
        seen[id(parameter)] = name
    # a retriever has no such layer: its scores do not change when embeddings are repeated
    if student.classifies and not isinstance(student.head, nn.Linear):
        raise NotApplicable(
            f"GPD: the last layer of the student is {type(student.head).__name__}, not linear",
            "its input must grow while its output stays",
        )


def match(student: nn.Module, wide: nn.Module, factor: int) -> dict[str, Placement]:
    """Match the tensors of two networks by name; returns the placement of each, buffers too.

    Raises:
        NotApplicable: when names differ, or a tensor grew in a way that has no rule.
    """
    small, large = student.state_dict(), wide.state_dict()
    if odd := sorted(small.keys() ^ large.keys()):
        raise NotApplicable(f"GPD: '{odd[0]}' is in only one of the student and its wider copy")
    trained = dict(student.named_parameters())
    places = {}
    for name, value in small.items():
        owner, _, leaf = name.rpartition(".")
        copies = _copies(name, value.shape, large[name].shape, factor)
        module, other = student.get_submodule(owner), wide.get_submodule(owner)
        _check_module(owner, module, other, factor)
        parts = FUSED.get(owner.rpartition(".")[2], 1) if copies and copies[0] > 1 else 1
        divisor = 1
        if leaf == "weight" and isinstance(module, nn.Linear | _ConvNd):
            divisor = copies[1]
        elif name in trained and sum(times > 1 for times in copies) > 1:
            raise NotApplicable(
                f"GPD: '{name}' of {type(module).__name__} grew along several axes",
                "which of them reads the input is known of linear and convolution layers only",
            )
        places[name] = Placement(copies, divisor, parts)
    if factor > 1 and not any(place.count > 1 for place in places.values()):
        raise NotApplicable(f"GPD: no layer of {type(wide).__name__} grew")
    return places


def _copies(name: str, small: torch.Size, large: torch.Size, factor: int) -> tuple[int, ...]:
    if len(small) != len(large):
        raise NotApplicable(f"GPD: '{name}' is {tuple(small)}, and {tuple(large)} when wider")
    for own, grown in zip(small, large, strict=True):
        if grown not in (own, own * factor):
            raise NotApplicable(
                f"GPD: '{name}' has an axis of {own}, and of {grown} when {factor} times wider",
                f"{own} or {own * factor} was needed; some builders round widths",
            )
    return tuple(grown // max(own, 1) for own, grown in zip(small, large, strict=True))


def _check_module(name: str, module: nn.Module, wide: nn.Module, factor: int) -> None:
    kind = type(module).__name__
    if isinstance(module, _ConvTransposeNd):
        raise NotApplicable(f"GPD: '{name}' is a {kind}, for which there is no rule")
    for attribute in ("groups", "num_groups"):
        own = getattr(module, attribute, 1)
        if isinstance(own, int) and own > 1 and getattr(wide, attribute) != own * factor:
            raise NotApplicable(
                f"GPD: '{name}' ({kind}) has {own} groups, and {getattr(wide, attribute)} when "
                f"{factor} times wider",
                f"{own * factor} were needed: groups must stay as wide as they are",
            )
