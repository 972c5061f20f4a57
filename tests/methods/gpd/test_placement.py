"""What cannot be expanded is refused, by the module's name and with the reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bench.errors import BenchError, NotApplicable
from bench.models.vision import build_vision
from methods.gpd.dynamic import Shape, build_dynamic
from methods.gpd.placement import Placement, check_student, match

IMAGE = {"image": torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))}


class Pooled(nn.Sequential):
    """Layers, the mean over positions, a linear layer."""

    def forward(self, value: Any) -> Any:
        *layers, head = self
        for layer in layers:
            value = layer(value)
        return head(value.mean(dim=(2, 3)) if value.ndim == 4 else value)


def expand(student: Any, r: int = 2) -> Any:
    return build_dynamic(
        student, Shape(r), inputs=IMAGE, generator=torch.Generator().manual_seed(0)
    )


def convolutions(width: int, *more: nn.Module, out: int = 3) -> nn.Module:
    first = nn.Conv2d(2, width, 3, padding=1)
    return Pooled(first, nn.ReLU(), *more, nn.Linear(width, out))


def test_a_fine_student_passes(gpd) -> None:
    expand(gpd.Toy(lambda r: convolutions(4 * r, nn.Conv2d(4 * r, 4 * r, 1))))


# --- the student itself ---


def test_tied_weights_are_named_both(gpd) -> None:
    def tied(r: int) -> nn.Module:
        one, two = (nn.Conv2d(4 * r, 4 * r, 1) for _ in range(2))
        two.weight = one.weight
        return convolutions(4 * r, one, two)

    with pytest.raises(NotApplicable, match=r"'network\.3\.weight' and 'network\.2\.weight'.*tied"):
        expand(gpd.Toy(tied))


def test_frozen_layers_are_named() -> None:
    student = build_vision("resnet8w8", num_classes=3)
    student.network.stages[1].requires_grad_(False)
    with pytest.raises(NotApplicable, match=r"'network\.stages\.1\.0\.[a-z0-9_.]+' .* is frozen"):
        check_student(student)


def test_a_last_layer_that_is_not_linear_is_named() -> None:
    student = build_vision("timm:resnet18", num_classes=0)  # no classifier
    with pytest.raises(NotApplicable, match="last layer of the student is Identity, not linear"):
        check_student(student)
    with pytest.raises(NotApplicable, match="last layer of VisionModel is Identity, not linear"):
        student.widened(2)


# --- a wider copy that does not fit ---


class Mixing(nn.Module):
    """Softmax over channels: twice as many share the same mass."""

    def forward(self, value: Any) -> Any:
        return value.softmax(dim=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: convolutions(4 * r, *[nn.Conv2d(4 * r, 4 * r, 1)] * (r > 1)), "in only one"),
        (lambda r: convolutions(4), "no layer of Toy grew"),
        (lambda r: convolutions(4 + r), r"'network\.0\.weight' has an axis of 5, and of 6"),
        (
            lambda r: convolutions(4 * r, nn.Conv2d(4 * r, 4 * r, 1, groups=2)),
            r"'network\.2' \(Conv2d\) has 2 groups, and 2 when 2 times wider \(4 were needed",
        ),
        (
            lambda r: convolutions(4 * r, nn.GroupNorm(2, 4 * r)),
            r"'network\.2' \(GroupNorm\) has 2 groups",
        ),
        (
            lambda r: convolutions(4 * r, nn.ConvTranspose2d(4 * r, 4 * r, 2)),
            r"'network\.2' is a ConvTranspose2d",
        ),
        (
            lambda r: convolutions(4 * r, Matrix(4 * r)),
            r"'network\.2\.matrix' of Matrix grew along several axes",
        ),
        (
            lambda r: convolutions(4 * r, Mixing()),
            r"'network\.2' \(Mixing\) does not repeat the student's output",
        ),
        (
            lambda r: convolutions(4 * r, nn.Flatten(1), nn.Linear(64 * 4, 4)),
            r"Toy does not run when wider",
        ),
    ],
)
def test_what_does_not_fit_is_named(gpd, make: Any, message: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(NotApplicable, match=message):
        expand(gpd.Toy(make))


class Matrix(nn.Module):
    """A product with a bare matrix, of which nobody knows which axis is the input's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(width, width))

    def forward(self, value: Any) -> Any:
        return torch.einsum("nchw,cd->ndhw", value, self.matrix)


def test_a_builder_that_fails_is_reported(gpd) -> None:
    def broken(r: int) -> nn.Module:
        if r > 1:
            raise ValueError("no such width")
        return convolutions(4)

    with pytest.raises(NotApplicable, match="Toy cannot be built 2 times wider: no such width"):
        expand(gpd.Toy(broken))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:densenet121", r"'network\.features\.[a-z0-9.]+' \(\w+\) does not repeat"),
        ("timm:mixer_s32_224", "does not run when wider"),
    ],
)
@pytest.mark.slow
def test_timm_networks_that_cannot_be_expanded(name: str, message: str) -> None:
    side = 224 if name.endswith("224") else 32
    student = build_vision(name, num_classes=3)
    with pytest.raises(NotApplicable, match=message):
        build_dynamic(
            student,
            Shape(2),
            inputs={"image": torch.randn(2, 3, side, side)},
            generator=torch.Generator(),
        )


# --- options ---


@pytest.mark.parametrize("name", ["gpd", "gpd_scratch"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": "0"}, "r = '0'"),
        ({"r": "-2"}, "r = '-2'"),
        ({"r": "1.5"}, "r = '1.5'.*integer"),
        ({"r": "wide"}, "r = 'wide'.*integer"),
        ({"branches": "0"}, "branches = '0'"),
        ({"branches": "7"}, "branches = '7'"),
        ({"noise": "-0.1"}, "noise = '-0.1'"),
        ({"smoothing": "1"}, "smoothing = '1'"),
        ({"ema": "1"}, "ema = '1'"),
        ({"step": "half"}, "step = 'half'.*'matched' or 'raw'"),
        ({"clip": "-1"}, "clip = '-1'"),
        ({"width": "2"}, "no option 'width'"),
    ],
)
def test_senseless_options_are_refused(
    new_method, name: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(BenchError, match=message):
        new_method(name, **options)


def test_a_static_loss_there_is_none_of_is_refused(new_method) -> None:
    with pytest.raises(BenchError, match=r"static = 'at'.*'kd', 'dkd' or 'none'"):
        new_method("gpd", static="at")
    with pytest.raises(BenchError, match="no option 'static'"):
        new_method("gpd_scratch", static="kd")


# --- placements ---


def test_tiling_and_taking_are_inverse() -> None:
    value = torch.arange(24.0).view(6, 4)
    for place in (
        Placement((2, 3), divisor=3),
        Placement((2, 1)),
        Placement((2, 2), divisor=2, parts=3),
        Placement((1, 1)),
    ):
        wide = place.tile(value)
        assert wide.numel() == place.count * value.numel()
        assert place.take(wide).equal(value)
    fused = Placement((2, 1), parts=3).tile(value)
    assert fused[:4].equal(value[:2].repeat(2, 1)) and fused[4:8].equal(value[2:4].repeat(2, 1))
    assert Placement(()).tile(torch.tensor(7)).equal(torch.tensor(7))


def test_embeddings_grow_on_an_output_axis_and_first_and_last_layers_on_one(gpd) -> None:
    student, _ = gpd.make_student("bert")
    places = match(student, student.widened(3), 3)
    table = places["encoder.embeddings.word_embeddings.weight"]
    assert (table.copies, table.divisor) == ((1, 3), 1)
    hidden = places["encoder.encoder.layer.0.attention.self.query.weight"]
    assert (hidden.copies, hidden.divisor) == ((3, 3), 3)
    last = places["classifier.weight"]
    assert (last.copies, last.divisor) == ((1, 3), 3)
    assert places["classifier.bias"].count == 1
    student, _ = gpd.make_student("mobilenet")
    places = match(student, student.widened(3), 3)
    assert places["network.conv_stem.weight"].copies == (3, 1, 1, 1)
    depthwise = places["network.blocks.0.0.conv_dw.weight"]
    assert (depthwise.copies, depthwise.divisor) == ((3, 1, 1, 1), 1)
    assert places["network.bn1.running_mean"].copies == (3,)
    assert places["network.bn1.num_batches_tracked"].copies == ()
