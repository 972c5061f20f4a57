"""A head of several outputs a class, and the deployed student that sums them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bench.models.base import Model
from bench.types import Output


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
