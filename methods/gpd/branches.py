"""Inverse reparameterization along branches: a convolution as a sum of linear branches.

All branches share the layer's kernel size, stride and padding, so that their kernels add up to
one before anything is convolved.  Each has a scale for every output channel.  At the start only
the layer's own kernel is active: the other scales are zero and the other weights are not, because
with both at zero neither would ever get a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.gpd.placement import Placement

# What the second, third … branch is.  Each has the weights named here.
KINDS = ("pointwise", "sequence", "average", "depthwise", "full")
MOST = 1 + len(KINDS)


class Branches(nn.Module):
    """The added branches of one convolution and the scales of all of them.

    Args:
        shape: the student's kernel, ``(O, I / groups, h, w)``.
        groups: of the wider convolution.
        count: branches, the layer's own kernel among them.
        place: where the student's kernel lies in the wider one.
        generator: draws the weights at the student's size; they are repeated as the kernel is, so
            that a wider layer starts as symmetric as its kernel.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        groups: int,
        count: int,
        place: Placement,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.kinds = KINDS[: count - 1]
        outputs, inputs, *window = shape
        area = window[0] * window[1]
        more_out, more_in = place.copies[:2]
        inner_groups, inner_copies = (groups // more_out, more_out) if groups > 1 else (1, 1)
        self.weights = nn.ParameterDict()

        def draw(name: str, size: tuple[int, ...], fan_in: int, copies: tuple[int, ...]) -> None:
            value = torch.randn(size, generator=generator) * (2.0 / fan_in) ** 0.5
            self.weights[name] = nn.Parameter(value.repeat(copies))

        for kind in self.kinds:
            if kind in ("sequence", "full"):
                size = (outputs, inputs, *window)
                draw(kind, size, inputs * area, (more_out, more_in, 1, 1))
            else:
                draw(kind, (outputs, inputs), inputs, (more_out, more_in))
            if kind == "sequence":
                size = (inner_groups, inputs, inputs)
                # the sum over the channels between has more_in times the terms
                draw("inner", size, inputs * more_in**2, (inner_copies, more_in, more_in))
            if kind == "depthwise":
                draw("window", (inputs, *window), area, (more_in, 1, 1))
        self.scales = nn.Parameter(torch.zeros(count, outputs * more_out))
        with torch.no_grad():
            self.scales[0] = 1.0

    def kernels(self, own: Tensor) -> list[Tensor]:
        """Return each branch's kernel ``(O, I / groups, h, w)`` before its scale, ``own`` first."""
        window = own.shape[2:]
        found = [own]
        for kind in self.kinds:
            if kind == "full":
                kernel = self.weights["full"]
            elif kind == "sequence":
                kernel = self._sequence()
            elif kind == "pointwise":  # a 1×1 kernel, padded
                kernel = torch.zeros_like(own)
                centre = (window[0] - 1) // 2, (window[1] - 1) // 2
                kernel[:, :, centre[0], centre[1]] = self.weights[kind]
            elif kind == "average":  # 1×1, then the mean of the window
                mean = self.weights[kind] / (window[0] * window[1])
                kernel = mean[:, :, None, None].expand_as(own)
            else:  # each input channel by its own window, then 1×1
                kernel = self.weights[kind][:, :, None, None] * self.weights["window"]
            found.append(kernel)
        return found

    def _sequence(self) -> Tensor:
        """Merge a 1×1 convolution followed by an h×w one: a product over the channels between."""
        inner, outer = self.weights["inner"], self.weights["sequence"]
        grouped = outer.unflatten(0, (len(inner), -1))
        # in its own precision: autocast would round the merged kernel, and the student with it
        with torch.autocast(outer.device.type, enabled=False):
            merged = torch.einsum("gomhw,gmi->goihw", grouped, inner)
        return merged.flatten(0, 1)

    def forward(self, own: Tensor) -> Tensor:
        """Return the merged kernel: the sum of all branches, each times its scale."""
        scales = self.scales[:, :, None, None, None]
        merged = scales[0] * own
        for scale, kernel in zip(scales[1:], self.kernels(own)[1:], strict=True):
            merged = merged + scale * kernel
        return merged
