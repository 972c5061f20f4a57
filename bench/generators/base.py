"""The protocol of a generator and the base class of the suite's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from bench.errors import BenchError, first_line

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Code:
    """An encoder's output for a batch.

    Attributes:
        values: ``(N, …)`` float32: a map for images, token states ``(N, L, D)`` for text.
        mask: ``(N, L)`` bool, true at real tokens; ``None`` where every value counts.
    """

    values: Tensor
    mask: Tensor | None = None

    def with_values(self, values: Tensor) -> Code:
        """Return the code with other values in the same places."""
        return replace(self, values=values)


class Generator(Protocol):
    """Turns inputs into a code and a code into inputs.  Frozen, in evaluation mode.

    Attributes:
        name: as the preset names it.
        fingerprint: hex digest of its weights.
        differentiable: whether a gradient flows through :meth:`decode`.
        scale: standard deviation of each dimension of ``Enc(x)`` over the training inputs,
            broadcastable to a code's values.
    """

    name: str
    fingerprint: str
    differentiable: bool
    scale: Tensor

    def encode(self, inputs: Inputs) -> Code:
        """Return the code of ``inputs``, without noise."""
        ...

    def decode(self, code: Code) -> dict[str, Tensor]:
        """Return inputs of the shapes and names that ``encode`` takes."""
        ...


class GeneratorModule(nn.Module):
    """Base class of the suite's own generators, which are trained by :meth:`objective`."""

    name: str = ""
    fingerprint: str = ""
    differentiable: bool = True
    scale: Tensor

    def encode(self, inputs: Inputs) -> Code:
        raise NotImplementedError

    def decode(self, code: Code) -> dict[str, Tensor]:
        raise NotImplementedError

    def objective(self, inputs: Inputs) -> Tensor:
        """Return each sample's training loss, ``(N,)``; without noise in evaluation mode."""
        raise NotImplementedError


def code_scale(codes: list[Code]) -> Tensor:
    """Return the standard deviation of each code dimension over samples (and real tokens).

    Returns:
        The shape of one sample's code, or ``(D,)`` where codes have a mask.
    """
    if codes[0].mask is not None:
        rows = torch.cat([code.values[code.mask] for code in codes])
    else:
        rows = torch.cat([code.values for code in codes])
    return rows.float().std(dim=0)


def check_fits(generator: Generator, inputs: Inputs, what: str) -> None:
    """Raise :class:`BenchError` unless ``generator`` returns inputs like ``inputs``.

    Args:
        generator: on the device of ``inputs``.
        inputs: a few training samples.
        what: the task, for the message.
    """
    try:
        with torch.no_grad():
            found = generator.decode(generator.encode(inputs))
    except BenchError:
        raise
    except (RuntimeError, KeyError, IndexError, ValueError) as error:
        read = f"generator '{generator.name}' cannot read the inputs of task '{what}'"
        hint = f"they are {_shapes(inputs)}"
        raise BenchError(f"{read}: {first_line(error)}", hint) from error
    if found.keys() != inputs.keys() or any(
        # sentences may change their length, nothing else may
        found[name].ndim != value.ndim
        or found[name].shape[0] != value.shape[0]
        or (value.ndim > 2 and found[name].shape != value.shape)
        for name, value in inputs.items()
    ):
        raise BenchError(
            f"generator '{generator.name}' does not match task '{what}': "
            f"it turns {_shapes(inputs)} into {_shapes(found)}",
            "a generator must return inputs of the task's own shapes",
        )


def _shapes(inputs: Inputs) -> str:
    return ", ".join(
        f"{name} {'×'.join(map(str, value.shape[1:])) or '1'}" for name, value in inputs.items()
    )
