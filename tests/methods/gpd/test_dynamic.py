"""The dynamic teacher: the student's function at the start, the student inside it ever after."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from methods.gpd.dynamic import Shape, _stored, build_dynamic, student_weights

FAMILIES = ("resnet", "wide resnet", "mobilenet", "bert")


def expanded(*widths: int) -> pytest.MarkDecorator:
    """Run a test with every family at every width; the largest network of all is slow."""
    slow = ("mobilenet", 3)
    pairs = [(family, r) for family in FAMILIES for r in widths]
    return pytest.mark.parametrize(
        ("family", "r"),
        [pytest.param(*pair, marks=[pytest.mark.slow] * (pair == slow)) for pair in pairs],
    )


precisions = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32], ids=["float64", "float32"]
)


def build(student: Any, inputs: Any, **shape: Any) -> tuple[Any, Any]:
    dynamic, places = build_dynamic(
        student,
        Shape(**{"noise": 0.0, **shape}),
        inputs=inputs,
        generator=torch.Generator().manual_seed(1),
    )
    for module in dynamic.modules():
        if isinstance(module, nn.Dropout):  # which a text model reads off its configuration
            module.p = 0.0
    return dynamic, places


def tiled(small: torch.Tensor, r: int) -> torch.Tensor:
    """Repeat the channels: axis 1 of feature maps, the last axis of everything else."""
    copies = [1] * small.ndim
    copies[1 if small.ndim == 4 else -1] = r
    return small.repeat(copies)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compare at 1e-10 in float64 and at rounding in float32, relative to the largest value."""
    limit = 1e-10 if one.dtype == torch.float64 else 2e-4
    one, other = one.detach(), other.detach()
    return float((one - other).abs().max()) <= limit * max(1.0, float(other.abs().max()))


# --- inverse reparameterization: the same function, every hidden activation repeated ---


@expanded(1, 2, 3)
@precisions
def test_starts_as_the_students_function(gpd, family: str, r: int, dtype: torch.dtype) -> None:
    student, inputs = gpd.make_student(family, dtype)
    matched = r != 2  # how weights are stored changes no function: both ways are gone through
    branches = gpd.FAMILIES[family][2]
    dynamic, _ = build(student, inputs, expansion=r, branches=branches, matched=matched)
    assert dynamic.width == r * student.width
    layers = range(student.depth)
    for training in (False, True):
        small = student.train(training)(inputs, hidden=layers)
        large = dynamic.train(training)(inputs, hidden=layers)
        assert close(large.logits, small.logits)
        assert float(small.logits.detach().std()) > 1e-3
        assert close(large.embedding, tiled(small.embedding, r))
        for layer in layers:
            assert close(large.hidden[layer], tiled(small.hidden[layer], r))
    # and the training pass left the same statistics in both
    for name, buffer in student.named_buffers():
        if "running" in name:
            assert close(dynamic.get_buffer(name), buffer.repeat(r))


def test_a_network_without_residuals_is_expanded(gpd) -> None:
    student, inputs = gpd.make_student("vgg")
    dynamic, places = build(student, inputs, expansion=2)
    small, large = (each.train()(inputs, hidden=[4]) for each in (student, dynamic))
    assert close(large.scores, small.scores)
    assert close(large.hidden[4], tiled(small.hidden[4], 2))
    weights = student_weights(dynamic, student, places)
    assert all(weights[name].equal(value) for name, value in student.named_parameters())


def test_a_pretrained_encoder_is_expanded(gpd) -> None:
    from bench.models.text import build_text

    torch.manual_seed(0)
    student = build_text("minilm:1", num_classes=2).double().eval()
    _, inputs = gpd.make_student("bert")
    dynamic, _ = build(student, inputs, expansion=2)
    assert dynamic.encoder.config.num_attention_heads == 24
    assert close(dynamic.eval()(inputs).scores, student(inputs).scores)


def test_fused_projections_are_repeated_one_by_one(gpd) -> None:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    network = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=3
    )
    student = gpd.VisionModel(network).double()
    gpd.liven(student)
    inputs = {"image": torch.randn(4, 3, 16, 16, dtype=torch.float64)}
    for r in (2, 3):
        dynamic, places = build(student, inputs, expansion=r, branches=3)
        assert places["network.blocks.0.attn.qkv.weight"].parts == 3
        small, large = (each(inputs, hidden=[0, 1]) for each in (student, dynamic))
        assert close(large.logits, small.logits)
        weights = student_weights(dynamic, student, places)
        assert all(weights[name].equal(value) for name, value in student.named_parameters())


# --- channel-branch reparameterization: the student is a slice ---


@expanded(1, 2, 3)
@precisions
@pytest.mark.parametrize("matched", [True, False], ids=["matched", "raw"])
def test_extracting_gives_the_student_back(
    gpd, family: str, r: int, dtype: torch.dtype, matched: bool
) -> None:
    student, inputs = gpd.make_student(family, dtype)
    branches = gpd.FAMILIES[family][2]
    dynamic, places = build(
        student, inputs, expansion=r, branches=branches, matched=matched, noise=0.3
    )
    found = student_weights(dynamic, student, places)
    own = dict(student.named_parameters())
    assert found.keys() == own.keys()
    for name, value in found.items():
        assert value.shape == own[name].shape
        assert value.stride() == own[name].stride()  # the kernels that will run at deployment
        if matched or r != 3:
            assert value.equal(own[name])
        else:  # stored divided by three
            rounding = torch.finfo(dtype).eps * float(own[name].detach().abs().max())
            assert float((value - own[name]).detach().abs().max()) <= rounding


@expanded(1, 2, 3)
@precisions
def test_slices_alias_the_dynamic_teachers_storage(
    gpd, family: str, r: int, dtype: torch.dtype
) -> None:
    student, inputs = gpd.make_student(family, dtype)
    dynamic, places = build(student, inputs, expansion=r)
    for name, own in student.named_parameters():
        stored, _ = _stored(dynamic, name)
        block = places[name].take(stored)
        assert stored.requires_grad and block.shape == own.shape
        assert block.untyped_storage().data_ptr() == stored.untyped_storage().data_ptr()
        with torch.no_grad():
            stored.zero_()
    assert all(not value.any() for value in student_weights(dynamic, student, places).values())


@pytest.mark.parametrize("family", FAMILIES)
@precisions
def test_one_branch_of_width_one_is_the_student_itself(
    gpd, family: str, dtype: torch.dtype
) -> None:
    student, inputs = gpd.make_student(family, dtype)
    dynamic, places = build(student, inputs, expansion=1, branches=1, noise=0.5)
    assert dynamic.state_dict().keys() == student.state_dict().keys()
    optimizer = torch.optim.SGD(dynamic.parameters(), lr=0.1, momentum=0.9)
    labels = torch.arange(5) % 4
    for _ in range(3):
        weights = student_weights(dynamic, student, places)
        small = functional_call(student, weights, (inputs,)).scores
        large = dynamic(inputs).scores
        assert small.equal(large)
        optimizer.zero_grad()
        (F.cross_entropy(small, labels) + F.cross_entropy(large, labels)).backward()
        optimizer.step()
    weights = student_weights(dynamic, student, places)
    moved = [name for name, own in student.named_parameters() if not weights[name].equal(own)]
    assert len(moved) > len(weights) / 2


# --- symmetry: noise, and the trap without it ---


def copies_apart(dynamic: nn.Module, student: nn.Module, places: Any, r: int) -> float:
    """Return the largest difference between two copies of a hidden weight's output rows."""
    apart = 0.0
    for name, own in student.named_parameters():
        place = places[name]
        if own.ndim < 2 or place.copies[0] == 1 or place.parts > 1:
            continue
        stored, _ = _stored(dynamic, name)
        rows = stored.detach().unflatten(0, (r, -1))
        # an output copy reads the copies of its input alike, in whichever order they come
        if place.copies[1] > 1:
            rows = rows.unflatten(2, (r, -1)).sum(dim=2)
        scale = float(rows.abs().max())
        apart = max(apart, float((rows - rows[:1]).abs().max()) / scale)
    return apart


def train_dynamic(dynamic: nn.Module, inputs: Any, steps: int) -> None:
    """Descend the dynamic teacher's own loss and nothing else."""
    optimizer = torch.optim.SGD(dynamic.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(dynamic(inputs).scores, torch.arange(5) % 4).backward()
        optimizer.step()


@expanded(2, 3)
def test_without_noise_copies_never_part(gpd, family: str, r: int) -> None:
    student, inputs = gpd.make_student(family)
    shape = {"expansion": r, "branches": gpd.FAMILIES[family][2]}
    trapped, places = build(student, inputs, **shape)
    train_dynamic(trapped, inputs, 6)
    assert copies_apart(trapped, student, places, r) < 1e-9
    # it moved all right: as one network of the student's width would
    weights = student_weights(trapped, student, places)
    assert any(
        float((weights[n] - p).detach().abs().max()) > 1e-3 for n, p in student.named_parameters()
    )
    noisy, places = build(student, inputs, **shape, noise=0.01)
    before = copies_apart(noisy, student, places, r)
    train_dynamic(noisy, inputs, 6)
    assert copies_apart(noisy, student, places, r) > before > 1e-3


def test_noise_is_small_and_leaves_the_student_alone(gpd) -> None:
    student, inputs = gpd.make_student("resnet")
    dynamic, places = build(student, inputs, expansion=2, noise=0.01)
    clean, _ = build(student, inputs, expansion=2)
    for name, own in student.named_parameters():
        place, noisy = places[name], _stored(dynamic, name)[0].detach()
        difference = noisy - _stored(clean, name)[0].detach()
        assert not place.take(difference).any()
        if own.ndim < 2 or place.count == 1:
            assert not difference.any()
        else:
            drawn = difference[difference != 0]
            assert drawn.numel() == noisy.numel() - own.numel()
            assert float(drawn.std()) == pytest.approx(0.01 * float(own.detach().std()), rel=0.2)
    small, large = student.eval()(inputs).scores, dynamic.eval()(inputs).scores
    error = float((small - large).detach().abs().max())
    assert 0 < error < 0.05 * float(small.detach().abs().max())


# --- the effective step ---


def step_on(
    which: str, student: Any, inputs: Any, optimizer: Any, rate: float, **shape: Any
) -> tuple[Any, Any, Any]:
    """Take one step on the student's or the dynamic teacher's loss; returns both and places."""
    student = copy.deepcopy(student)
    dynamic, places = build(student, inputs, **shape)
    if which == "student":
        weights = student_weights(dynamic, student, places)
        logits = functional_call(student, weights, (inputs,)).scores
    else:
        logits = dynamic(inputs).scores
    F.cross_entropy(logits, torch.arange(5) % 4).backward()
    parameters = [p for p in dynamic.parameters() if p.grad is not None]
    optimizer(parameters, lr=rate).step()
    return student, dynamic, places


def plain_step(student: Any, inputs: Any, optimizer: Any, rate: float) -> Any:
    student = copy.deepcopy(student)
    F.cross_entropy(student(inputs).scores, torch.arange(5) % 4).backward()
    optimizer(student.parameters(), lr=rate).step()
    return student


def adam(parameters: Any, lr: float) -> Any:
    return torch.optim.AdamW(parameters, lr=lr, eps=1e-30, weight_decay=0.0)


@expanded(2, 3)
@pytest.mark.parametrize(("optimizer", "power"), [(torch.optim.SGD, 2), (adam, 1)])
def test_a_step_moves_the_student_r_squared_times_as_far_unless_matched(
    gpd, family: str, optimizer: Any, power: int, r: int
) -> None:
    student, inputs = gpd.make_student(family)
    plain = dict(plain_step(student, inputs, optimizer, 1e-3).named_parameters())
    for matched in (True, False):
        start, dynamic, places = step_on(
            "student", student, inputs, optimizer, 1e-3, expansion=r, matched=matched
        )
        found = student_weights(dynamic, start, places)
        for name, before in start.named_parameters():
            moved, expected = (found[name] - before).detach(), (plain[name] - before).detach()
            times = 1 if matched else places[name].divisor ** power
            far = float(expected.abs().max())
            if far < 1e-12:  # a bias before a normalisation: nothing but rounding
                continue
            alike = (moved - times * expected).abs() <= 1e-6 * times * far
            # Adam turns what rounding leaves of a vanishing gradient into a full step
            assert alike.double().mean() > (1.0 if optimizer is not adam else 0.97) - 1e-9, name


@expanded(2, 3)
def test_a_matched_dynamic_teacher_moves_as_the_student_would_alone(
    gpd, family: str, r: int
) -> None:
    student, inputs = gpd.make_student(family)
    plain = plain_step(student, inputs, torch.optim.SGD, 0.05).eval()
    _, matched, _ = step_on("dynamic", student, inputs, torch.optim.SGD, 0.05, expansion=r)
    assert close(matched.eval()(inputs).scores, plain(inputs).scores)
    _, raw, _ = step_on(
        "dynamic", student, inputs, torch.optim.SGD, 0.05, expansion=r, matched=False
    )
    assert not close(raw.eval()(inputs).scores, plain(inputs).scores)


def test_branches_move_as_far_in_the_students_loss_and_scales_r_times_in_the_teachers(gpd) -> None:
    """A scale serves all input copies of its channel, and sums up what they ask for."""
    student, inputs = gpd.make_student("resnet")
    layer = "network.stages.0.0.conv1_kxk.conv"
    for which, times in (("student", 1), ("dynamic", 2)):
        scales = []
        for r in (1, 2):
            _, dynamic, _ = step_on(
                which, student, inputs, torch.optim.SGD, 0.0, expansion=r, branches=3
            )
            chain: Any = dynamic.get_submodule(layer).parametrizations["weight"]
            scales.append(chain[0].branches.scales.grad)
        one, two = scales
        scale = float(one.abs().max())
        channels = one.shape[1]
        assert float((two[:, :channels] - times * one).abs().max()) < 1e-9 * scale
        assert bool(two[:, channels:].any()) == (which == "dynamic")


# --- the self-check at the start is a real one ---


def test_the_self_check_names_the_first_layer_that_departs(
    gpd, monkeypatch: pytest.MonkeyPatch
) -> None:
    from timm.models.vision_transformer import VisionTransformer

    from bench.errors import NotApplicable
    from methods.gpd import placement

    torch.manual_seed(0)
    network = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=1, num_heads=2, num_classes=3
    )
    student = gpd.VisionModel(network).double()
    gpd.liven(student)
    monkeypatch.setattr(placement, "FUSED", {})
    with pytest.raises(NotApplicable, match=r"'network\.blocks\.0\.attn\.[a-z_]+' \([A-Z]"):
        build(student, {"image": torch.randn(4, 3, 16, 16, dtype=torch.float64)}, expansion=2)
