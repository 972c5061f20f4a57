"""FitNets, two-stage and joint: hints, stages, the λ schedule, and a regressor that never ships."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from bench import BASELINES, METHODS, BenchError, Method
from bench.method import Progress
from bench.models.base import parameter_count
from bench.types import Batch, Output
from methods.fitnets import build_regressor, soft_weight, squared_distance

TRAINED = sorted(
    [
        *METHODS.names(),
        *(name for name in BASELINES.names() if issubclass(BASELINES.get(name), Method)),
    ]
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the distance ---


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_a_copy_of_the_teacher_has_no_hint_loss(world, new_method) -> None:
    teacher = world.teacher().eval()
    student = copy.deepcopy(teacher)
    method = new_method("fitnets")
    method.guided = method.hint = 1
    method.regressor = nn.Identity()
    batch = world.train.batch(np.arange(8))
    with torch.no_grad():
        ours = student(batch.inputs, hidden=[1], until=1)
        theirs = teacher(batch.inputs, hidden=[1])
        terms = method.loss(
            batch=batch, student=ours, teacher=theirs, progress=Progress("hint", 0, 4)
        )
        nudged = Output(hidden={1: theirs.hidden[1] + 0.1})
        other = method.loss(
            batch=batch, student=ours, teacher=nudged, progress=Progress("hint", 0, 4)
        )
    assert set(terms) == {"hint"}
    assert terms["hint"].item() == 0.0
    # ½·0.1² for every channel
    assert other["hint"].item() == pytest.approx(0.005 * theirs.hidden[1].shape[_axis(world)])


def _axis(world) -> int:
    return 1 if world.family == "image" else 2


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3)),
    st.integers(0, 999),
)
@settings(max_examples=30, deadline=None)
def test_distance_of_maps_sums_channels_and_averages_the_rest(size, seed: int) -> None:
    one, other = (torch.randn(size, generator=generator(seed + at)) for at in (0, 1))
    values = [
        sum(float(one[n, c, h, w] - other[n, c, h, w]) ** 2 for c in range(size[1]))
        for n in range(size[0])
        for h in range(size[2])
        for w in range(size[3])
    ]
    found = squared_distance(one, other, None).item()
    assert found == pytest.approx(np.mean(values), rel=1e-4, abs=1e-6)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(0, 999),
)
@settings(max_examples=30, deadline=None)
def test_distance_of_tokens_counts_real_ones_only(lengths, width: int, seed: int) -> None:
    size = (len(lengths), max(lengths), width)
    one, other = (torch.randn(size, generator=generator(seed + at)) for at in (0, 1))
    one.requires_grad_()
    mask = torch.arange(size[1])[None] < torch.tensor(lengths)[:, None]
    values = [
        float((one[n, at] - other[n, at]).detach().pow(2).sum())
        for n, length in enumerate(lengths)
        for at in range(length)
    ]
    found = squared_distance(one, other, mask)
    assert found.item() == pytest.approx(np.mean(values), rel=1e-4, abs=1e-6)
    found.backward()
    assert (one.grad[~mask] == 0).all()
    noise = 50 * torch.randn(size, generator=generator(seed + 2)) * ~mask[..., None]
    moved = squared_distance(one + noise, other - noise, mask)
    assert moved.item() == pytest.approx(found.item(), rel=1e-6)


# --- the regressor ---


@pytest.mark.parametrize(
    ("ours", "theirs", "layer", "kernel"),
    [
        ((2, 3, 8, 8), (2, 5, 8, 8), nn.Conv2d, (1, 1)),
        ((2, 3, 8, 6), (2, 5, 4, 3), nn.Conv2d, (3, 3)),
        ((2, 3, 4, 3), (2, 5, 8, 6), nn.ConvTranspose2d, (4, 4)),
        ((2, 3, 2, 2), (2, 5, 1, 1), nn.Conv2d, (3, 3)),
    ],
)
def test_regressor_gives_the_teachers_shape_in_the_three_size_cases(
    ours, theirs, layer: type[nn.Module], kernel: tuple[int, int]
) -> None:
    source, target = torch.randn(ours), torch.randn(theirs)
    regressor = build_regressor(source, target, generator=generator())
    assert regressor(source).shape == target.shape
    assert type(regressor[0]) is layer
    assert regressor[0].kernel_size == kernel
    assert isinstance(regressor[1], nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("ours", "theirs"), [((8, 8), (6, 6)), ((8, 8), (2, 2)), ((3, 3), (9, 9)), ((8, 8), (8, 4))]
)
def test_other_sizes_are_refused_with_a_reason(ours, theirs) -> None:
    with pytest.raises(BenchError, match="factor of two") as caught:
        build_regressor(torch.randn(2, 3, *ours), torch.randn(2, 3, *theirs), generator=generator())
    assert str(ours) in str(caught.value)
    assert str(theirs) in str(caught.value)


def test_relu_only_where_the_teacher_map_is_non_negative() -> None:
    source, target = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    rectified = build_regressor(source, target.relu(), generator=generator())
    plain = build_regressor(source, target, generator=generator())
    assert isinstance(rectified[-1], nn.ReLU)
    assert not any(isinstance(module, nn.ReLU) for module in plain.modules())


def test_tokens_get_one_linear_projector() -> None:
    source, target = torch.randn(2, 7, 3), torch.randn(2, 7, 5).relu()
    regressor = build_regressor(source, target, generator=generator())
    assert type(regressor) is nn.Linear
    assert regressor(source).shape == target.shape


def test_regressor_weights_come_from_the_methods_own_stream() -> None:
    source, target = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    torch.manual_seed(1)
    one = build_regressor(source, target, generator=generator(3))
    torch.manual_seed(2)
    other = build_regressor(source, target, generator=generator(3))
    third = build_regressor(source, target, generator=generator(4))
    assert one[0].weight.equal(other[0].weight)
    assert not one[0].weight.equal(third[0].weight)


@pytest.mark.parametrize("name", ["fitnets", "fitnets_joint"])
@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_setup_fits_the_middle_pair_and_leaves_the_student_alone(
    world, name, new_method, snapshot, differing
) -> None:
    from bench.teachers.signals import LiveTeacher

    student, teacher = world.student().train(), world.teacher()
    before = snapshot(student)
    source = LiveTeacher(teacher, "float32")
    pairs = world.setting().pairs
    method = new_method(name)
    method.setup(world.context(student, source, pairs))
    assert differing(before, student.state_dict()) == []
    assert student.training
    assert (method.guided, method.hint) == pairs[(len(pairs) - 1) // 2]
    batch = world.train.batch(np.arange(5))
    ours = student(batch.inputs, hidden=[method.guided]).hidden[method.guided]
    theirs = source(batch, [method.hint]).hidden[method.hint]
    assert method.regressor(ours).shape == theirs.shape
    assert not [one for one in method.modules() if one is student or one is teacher]


def test_without_a_teacher_it_says_so(image_world, new_method) -> None:
    with pytest.raises(BenchError, match="teacher"):
        new_method("fitnets").setup(image_world.context(image_world.student(), None, [(0, 0)]))


# --- two stages through the real loop ---

ABOVE = {
    "image": ("network.stages.2.", "network.final_conv.", "network.head."),
    "text": ("encoder.encoder.layer.1.", "classifier."),
}
BELOW = {
    "image": ("network.stem.", "network.stages.0.", "network.stages.1."),
    "text": ("encoder.embeddings.", "encoder.encoder.layer.0."),
}


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_stage_one_touches_nothing_above_the_guided_layer(world, snapshot, differing) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    kept = {}

    def watch(student: nn.Module) -> None:
        kept["student"] = student
        seen.append(snapshot(student))

    run = world.run(
        "fitnets",
        options={"hint_share": 0.5},
        epochs=4,
        watch=watch,
        report=lambda entry: seen.append(snapshot(kept["student"])),
    )
    changed = differing(seen[0], seen[2])  # two epochs of stage 1 behind it
    assert changed
    assert not [name for name in changed if name.startswith(ABOVE[world.family])]
    for part in BELOW[world.family]:
        assert [name for name in changed if name.startswith(part)], part
    if world.family == "image":
        names = [name for name in seen[0] if name.startswith(BELOW["image"])]
        assert set(names) == set(changed)  # every parameter and every batch statistic below
    later = differing(seen[2], seen[4])
    assert [name for name in later if name.startswith(ABOVE[world.family])]
    stages = [(entry["stage"], sorted(entry["losses"])) for entry in run.trained.epochs]
    assert stages == [("hint", ["hint"])] * 2 + [("distil", ["ce", "soft"])] * 2
    assert [entry["validation"] is None for entry in run.trained.epochs] == [
        True,
        True,
        False,
        False,
    ]
    assert run.trained.best_epoch in (3, 4)


def test_the_regressor_is_trained_in_stage_one_and_dropped_in_stage_two(
    image_world, new_method, snapshot, differing
) -> None:
    method, seen = new_method("fitnets", hint_share=0.5), []
    first: list[dict[str, torch.Tensor]] = []
    image_world.run(
        method,
        epochs=4,
        watch=lambda student: first.append(snapshot(method)),
        report=lambda entry: seen.append(snapshot(method)),
    )
    assert len(differing(first[0], seen[1])) == len(first[0])
    assert differing(seen[1], seen[3]) == []


def test_stage_one_asks_for_neither_labels_nor_logits(new_method) -> None:
    method = new_method("fitnets")
    method.guided, method.hint, method.regressor = 0, 1, nn.Identity()
    map_ = torch.randn(2, 3, 4, 4)
    for labels in (torch.tensor([0, 1]), torch.tensor([-7, 99])):
        terms = method.loss(
            batch=Batch({}, labels, torch.arange(2)),
            student=Output(hidden={0: map_}),
            teacher=Output(hidden={1: map_ + 1}),
            progress=Progress("hint", 0, 2),
        )
        assert terms["hint"].item() == pytest.approx(0.5 * 3)


def test_stage_one_takes_the_configured_share(new_method) -> None:
    method = new_method("fitnets", hint_share=0.3)
    method.guided = 1
    first, second = method.stages()
    assert (first.name, first.share, first.until, first.evaluate) == ("hint", 0.3, 1, False)
    assert (second.name, second.until, second.evaluate, second.hints) == (
        "distil",
        None,
        True,
        False,
    )
    assert first.share + second.share == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, 4.0), (1.0, 1.0), (0.5, 2.5), (-1.0, 4.0), (2.0, 1.0)]
)
def test_weight_of_the_soft_term_falls_linearly(fraction: float, expected: float) -> None:
    assert soft_weight(fraction, 4.0, 1.0) == pytest.approx(expected)


def test_loss_of_stage_two_at_the_corners_of_its_schedule(new_method) -> None:
    method = new_method("fitnets")
    student, teacher = (torch.randn(4, 3, generator=generator(at)) for at in (0, 1))
    labels = torch.tensor([0, 1, 2, 0])

    def terms(step: int, steps: int = 11) -> dict[str, float]:
        found = method.loss(
            batch=Batch({}, labels, torch.arange(4)),
            student=Output(student),
            teacher=Output(teacher),
            progress=Progress("distil", step, steps),
        )
        return {name: value.item() for name, value in found.items()}

    soft = -(F.softmax(teacher / 3, 1) * F.log_softmax(student / 3, 1)).sum(1).mean().item()
    for step, weight in ((0, 4.0), (5, 2.5), (10, 1.0)):
        found = terms(step)
        assert found["soft"] == pytest.approx(weight * soft, rel=1e-5)
        assert found["ce"] == pytest.approx(F.cross_entropy(student, labels).item())
    assert terms(0, steps=1)["soft"] == pytest.approx(4.0 * soft, rel=1e-5)


# --- the joint form ---


@pytest.mark.parametrize("shape", [(3, 5, 4, 4), (3, 6, 5)])
def test_joint_loss_by_hand(shape: tuple[int, ...], new_method) -> None:
    method = new_method("fitnets_joint", w_hint=7.0)
    method.guided, method.hint, method.regressor = 0, 2, nn.Identity()
    ours, theirs = (torch.randn(shape, generator=generator(at)) for at in (0, 1))
    logits, labels = torch.randn(3, 4, generator=generator(2)), torch.tensor([3, 0, 1])
    mask = None
    square = (ours - theirs).pow(2).numpy()
    if len(shape) == 3:
        lengths = [6, 2, 3]
        mask = torch.arange(6)[None] < torch.tensor(lengths)[:, None]
        square = np.concatenate([square[row, :length] for row, length in enumerate(lengths)])
    terms = method.loss(
        batch=Batch({}, labels, torch.arange(3), mask),
        student=Output(logits, hidden={0: ours}),
        teacher=Output(hidden={2: theirs}),
        progress=Progress("main", 0, 9),
    )
    assert set(terms) == {"ce", "hint"}
    assert terms["ce"].item() == pytest.approx(F.cross_entropy(logits, labels).item())
    assert terms["hint"].item() == pytest.approx(7.0 * square.mean(), rel=1e-5)


def test_joint_weight_is_the_published_hundred(new_method) -> None:
    assert new_method("fitnets_joint").config.w_hint == 100.0


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_joint_without_its_term_is_the_plain_student_bit_for_bit(world, differing) -> None:
    plain = world.run("scratch")
    joint = world.run("fitnets_joint", options={"w_hint": 0.0})
    assert differing(plain.student.state_dict(), joint.student.state_dict()) == []


# --- what ships, and what it costs ---


@pytest.mark.parametrize("name", ["fitnets", "fitnets_joint"])
@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_the_regressor_never_ships(world, name: str) -> None:
    plain = world.student()
    run = world.run(name)
    assert parameter_count(run.method) > 0
    assert parameter_count(run.trained.model) == parameter_count(plain)
    assert run.trained.best_state.keys() == plain.state_dict().keys()
    assert type(run.trained.model) is type(plain)


def test_every_method_takes_the_same_number_of_optimiser_steps(image_world) -> None:
    counts: Counter[str] = Counter()
    classes = {name: (METHODS if name in METHODS else BASELINES).get(name) for name in TRAINED}
    taken = [
        name
        for name, cls in classes.items()
        if image_world.family in cls.families and not cls(cls.Config()).needs_generator
    ]
    for name in taken:
        own, teacher = getattr(classes[name], "own_teacher", None), None
        if own is not None:
            taught = image_world.run(own(own.Config()), student=image_world.teacher(), epochs=1)
            teacher = taught.student

        def count(optimizer, args, kwargs, name: str = name) -> None:
            counts[name] += 1

        handle = register_optimizer_step_post_hook(count)
        try:
            image_world.run(name, epochs=3, teacher=teacher)
        finally:
            handle.remove()
    assert len(taken) >= 5
    assert counts == dict.fromkeys(taken, 3 * 4)
