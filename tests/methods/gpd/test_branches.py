"""Branches: their kernels add up to one, and that one is what separate convolutions compute."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.gpd.branches import KINDS, MOST, Branches
from methods.gpd.placement import Placement

# student kernel shape, groups of the wider layer, repeats of (outputs, inputs)
LAYERS = {
    "plain": ((6, 4, 3, 3), 1, (2, 2)),
    "first": ((6, 3, 3, 3), 1, (2, 1)),
    "depthwise": ((6, 1, 3, 3), 12, (2, 1)),
    "grouped": ((6, 2, 3, 3), 9, (3, 1)),
    "pointwise": ((6, 4, 1, 1), 1, (3, 3)),
    "five": ((4, 4, 5, 5), 1, (1, 1)),
}
layers = pytest.mark.parametrize("layer", LAYERS)


def make(layer: str, count: int = MOST, *, live: bool = False) -> tuple[Branches, Tensor, int]:
    """Return branches, the layer's own (repeated) kernel and the groups, in float64."""
    shape, groups, copies = LAYERS[layer]
    generator = torch.Generator().manual_seed(4)
    place = Placement((*copies, 1, 1), divisor=copies[1])
    branches = Branches(shape, groups=groups, count=count, place=place, generator=generator)
    own = torch.randn(shape, generator=generator).double().repeat(*copies, 1, 1)
    branches = branches.double()
    if live:
        with torch.no_grad():
            branches.scales.copy_(torch.randn(branches.scales.shape, generator=generator))
    return branches, own, groups


def separately(
    branches: Branches, own: Tensor, image: Tensor, groups: int, stride: int
) -> list[Tensor]:
    """Run each branch as the layers it is named for."""
    size = own.shape[-1]
    padding, weights = size // 2, branches.weights
    options = {"stride": stride, "groups": groups}
    padded = F.pad(image, (padding,) * 4)
    per_group = own.shape[1]
    found = [F.conv2d(image, own, padding=padding, **options)]
    for kind in branches.kinds:
        if kind == "pointwise":
            found.append(F.conv2d(image, weights[kind][:, :, None, None], **options))
        elif kind == "sequence":
            inner = weights["inner"].flatten(0, 1)[:, :, None, None]
            between = F.conv2d(padded, inner, groups=groups)
            found.append(F.conv2d(between, weights[kind], **options))
        elif kind == "average":
            mixed = F.conv2d(padded, weights[kind][:, :, None, None], groups=groups)
            found.append(F.avg_pool2d(mixed, size, stride))
        elif kind == "depthwise":
            each = weights["window"].repeat(image.shape[1] // per_group, 1, 1)[:, None]
            filtered = F.conv2d(padded, each, stride=stride, groups=image.shape[1])
            found.append(F.conv2d(filtered, weights[kind][:, :, None, None], groups=groups))
        else:
            found.append(F.conv2d(image, weights[kind], padding=padding, **options))
    return found


@layers
@pytest.mark.parametrize("stride", [1, 2])
def test_the_merged_kernel_is_the_sum_of_the_branches(layer: str, stride: int) -> None:
    branches, own, groups = make(layer, live=True)
    torch.manual_seed(0)
    image = torch.randn(2, own.shape[1] * groups, 9, 8, dtype=torch.float64)
    outputs = separately(branches, own, image, groups, stride)
    assert len(outputs) == MOST == 1 + len(KINDS)
    scales = branches.scales[:, None, :, None, None]
    expected = sum(scale * output for scale, output in zip(scales, outputs, strict=True))
    merged = F.conv2d(
        image, branches(own), padding=own.shape[-1] // 2, stride=stride, groups=groups
    )
    assert merged.shape == expected.shape
    assert float((merged - expected).detach().abs().max()) < 1e-10


@layers
def test_only_the_layers_own_kernel_is_active_at_the_start(layer: str) -> None:
    branches, own, _ = make(layer)
    assert branches(own).equal(own)
    assert all(bool((weight != 0).all()) for weight in branches.weights.values())


def test_a_kernel_of_each_kind_is_of_the_layers_shape() -> None:
    for count in range(1, MOST + 1):
        branches, own, _ = make("plain", count)
        assert [kernel.shape for kernel in branches.kernels(own)] == [own.shape] * count
        assert branches.scales.shape == (count, len(own))


@layers
def test_added_branches_come_alive_though_they_start_at_zero(layer: str) -> None:
    branches, own, _ = make(layer)
    direction = torch.randn(own.shape, generator=torch.Generator().manual_seed(1)).double()
    (branches(own) * direction).sum().backward()
    assert bool((branches.scales.grad[1:] != 0).all())
    assert not any(weight.grad.any() for weight in branches.weights.values())
    with torch.no_grad():
        branches.scales -= 0.1 * branches.scales.grad
    branches.zero_grad()
    (branches(own) * direction).sum().backward()
    assert all(weight.grad.any() for weight in branches.weights.values())


@layers
def test_copies_of_added_branches_start_equal(layer: str) -> None:
    """The noise is what parts them, so that its effect can be measured with any branches."""
    branches, own, _ = make(layer)
    copies = LAYERS[layer][2]
    for kernel in branches.kernels(own):
        small = kernel[: len(own) // copies[0], : own.shape[1] // copies[1]]
        assert torch.allclose(kernel, small.repeat(*copies, 1, 1), rtol=0, atol=1e-12)


def test_autocast_does_not_round_the_merged_kernel() -> None:
    branches, own, _ = make("plain", live=True)
    branches, own = branches.float(), own.float()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = branches(own)
    assert rounded.equal(branches(own))
