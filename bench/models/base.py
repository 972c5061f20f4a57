"""The one interface through which the suite runs any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from torch import Tensor, nn

from bench.errors import BenchError, NotApplicable
from bench.types import Output


class Model(nn.Module):
    """A backbone with a linear head.

    Attributes:
        depth: number of hidden layers that ``hidden`` can name, 0 … depth − 1.
        width: embedding width ``D``.
        classifies: whether its logits come from a last linear layer, one output a class.
        fixed: whether it stays what it is, so that what it says may be kept (:meth:`fix`).
    """

    depth: int
    width: int
    classifies: bool = True
    fixed: bool = False

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        hidden: Sequence[int] = (),
        until: int | None = None,
    ) -> Output:
        """Run the model.

        Args:
            inputs: tensors by name, first axis ``N``.
            hidden: layers whose feature maps to return.
            until: stop after this layer: logits and embedding are then ``None`` and nothing above
                it changes, batch statistics included.  Images are run no further; an encoder from
                transformers runs on to its end, which is timed with it.
        """
        raise NotImplementedError

    def fix(self) -> Self:
        """Freeze it for good, in evaluation mode; returns itself.

        A student whose weights are trained in another module's place is frozen and not fixed.
        """
        self.requires_grad_(False).eval()
        self.fixed = True
        return self

    @property
    def head(self) -> nn.Linear:
        """Return the last linear layer, ``(C, D)``."""
        raise NotImplementedError

    def widened(self, factor: int) -> Model:
        """Return the same architecture with every hidden width times ``factor``, weights unset.

        Inputs and logits keep their shapes; names and number of parameters stay.

        Raises:
            NotApplicable: when this model cannot be built any wider.
        """
        raise NotApplicable(f"{type(self).__name__} cannot be built any wider")

    def replace_head(self, head: nn.Linear) -> None:
        """Put ``head`` in the place of the last linear layer."""
        old = self.head
        for parent in self.modules():
            for name, child in parent.named_children():
                if child is old:
                    setattr(parent, name, head)
                    return
        raise BenchError(f"{type(self).__name__} has no linear head to replace")


def parameter_count(module: nn.Module) -> int:
    """Return the number of parameters, a shared one counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def uniform_pairs(student_depth: int, teacher_depth: int) -> list[tuple[int, int]]:
    """Map each student layer to the teacher layer at the same relative depth.

    >>> uniform_pairs(3, 3)
    [(0, 0), (1, 1), (2, 2)]
    >>> uniform_pairs(2, 6)
    [(0, 2), (1, 5)]
    """
    return [
        (layer, max(0, round((layer + 1) * teacher_depth / student_depth) - 1))
        for layer in range(student_depth)
    ]
