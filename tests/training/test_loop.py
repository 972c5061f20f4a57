"""The one loop: paired by construction, honest in selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from worlds import DISTILLING

from bench import METHODS
from bench.config import Config
from bench.data.splits import Split
from bench.errors import BenchError
from bench.method import Method, Stage
from bench.metrics.classification import classification_metrics
from bench.supervised import Supervised
from bench.training import loop
from bench.training.evaluate import evaluating
from bench.training.loop import Diverged
from bench.training.stage import build_optimizer

both = pytest.mark.parametrize("world", ["image", "text"], indirect=True)


# --- deterministic ---


@both
@pytest.mark.parametrize("name", ["kd", "fitnets"])
def test_the_same_run_gives_the_same_bits(world, name: str, differing) -> None:
    torch.manual_seed(1)
    one = world.run(name)
    torch.manual_seed(2)  # whatever drew before
    np.random.seed(2)
    other = world.run(name)
    assert differing(one.student.state_dict(), other.student.state_dict()) == []
    assert differing(one.trained.best_state, other.trained.best_state) == []
    assert one.told == other.told


@both
def test_another_seed_gives_another_student(world, differing) -> None:
    one, other = world.run("scratch", seed=0), world.run("scratch", seed=1)
    assert differing(one.student.state_dict(), other.student.state_dict())


# --- the student's mode ---


@pytest.mark.parametrize("name", ["scratch", *DISTILLING])
def test_the_student_is_in_train_mode_at_every_step(image_world, name: str) -> None:
    modes: list[tuple[bool, bool]] = []

    def note(module: nn.Module, args: Any) -> None:
        every = {child.training for child in module.modules()}
        assert len(every) == 1
        modes.append((torch.is_grad_enabled(), every.pop()))

    image_world.run(name, epochs=3, watch=lambda student: student.register_forward_pre_hook(note))
    assert modes.count((True, True)) == 3 * 4  # steps, those after a validation among them
    assert (True, False) not in modes
    assert modes.count((False, False)) >= 2 * 3  # validation batches
    assert (False, True) not in modes


def test_a_student_handed_over_in_evaluation_mode_is_trained_in_train_mode(
    image_world, differing
) -> None:
    plain = image_world.run("scratch")
    handed = image_world.run("scratch", student=image_world.student().eval())
    assert differing(plain.student.state_dict(), handed.student.state_dict()) == []


def test_evaluation_gives_back_every_modules_mode(image_world) -> None:
    student = image_world.student().train()
    student.network.stages[1].eval()  # as a method may freeze a part's batch statistics
    modes = [module.training for module in student.modules()]
    assert len(set(modes)) == 2
    with evaluating(student):
        assert not any(module.training for module in student.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in student.modules()] == modes
    with pytest.raises(KeyboardInterrupt), evaluating(student):
        raise KeyboardInterrupt
    assert [module.training for module in student.modules()] == modes


# --- the same batches, views and dropout for every method of a seed ---


class Recorder(Split):
    """A split that notes what is asked of it and what it gave."""

    def __init__(self, split: Split) -> None:
        self.split, self.labels, self.static = split, split.labels, split.static
        self.orders: list[list[list[int]]] = []
        self.batches: list[tuple[list[int], Any, dict[str, torch.Tensor]]] = []

    def batch(self, index: np.ndarray, view: Any = None) -> Any:
        found = self.split.batch(index, view)
        if view is not None:  # training batches, not the methods' own probes
            inputs = {name: value.clone() for name, value in found.inputs.items()}
            self.batches.append((index.tolist(), view, inputs))
        return found

    def training_order(self, seed: int, epoch: int, size: int) -> list[np.ndarray]:
        order = self.split.training_order(seed, epoch, size)
        self.orders.append([index.tolist() for index in order])
        return order

    def evaluation_order(self, size: int) -> list[np.ndarray]:
        return self.split.evaluation_order(size)

    def steps(self, size: int) -> int:
        return self.split.steps(size)


def _recorded(world, name: str, **changes: Any) -> tuple[Recorder, list[torch.Tensor]]:
    """Train with ``name``; return what was served and each dropout mask of the text student."""
    recorder, masks = Recorder(world.train), []

    def watch(student: nn.Module) -> None:
        for module in student.modules():
            if isinstance(module, nn.Dropout):
                module.register_forward_hook(keep)

    def keep(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        if module.training:
            masks.append(output.detach() == 0)

    world.run(name, train=recorder, watch=watch, **changes)
    return recorder, masks


def _same(one: Recorder, other: Recorder) -> bool:
    return (
        one.orders == other.orders
        and len(one.batches) == len(other.batches)
        and all(
            ours[:2] == theirs[:2] and all(ours[2][key].equal(theirs[2][key]) for key in ours[2])
            for ours, theirs in zip(one.batches, other.batches, strict=True)
        )
    )


@both
@pytest.mark.parametrize("name", DISTILLING)
def test_every_method_sees_the_same_batches_views_and_dropout(world, name: str) -> None:
    plain, plain_masks = _recorded(world, "scratch")
    other, masks = _recorded(world, name)
    assert plain.batches
    assert _same(plain, other)
    if world.family == "text" and name != "fitnets":  # whose first stage stops before the head
        assert len(masks) == len(plain_masks) > 2 * 4
        assert all(one.equal(two) for one, two in zip(masks, plain_masks, strict=True))
        assert len({mask.numpy().tobytes() for mask in masks}) > len(masks) // 2


def test_dropout_of_a_two_stage_method_is_the_same_too(text_world) -> None:
    _, plain = _recorded(text_world, "scratch", epochs=4)
    _, staged = _recorded(text_world, "fitnets", epochs=4)
    per_step = len(plain) // 16
    stage_one = len(staged) - 12 * per_step  # one of four epochs
    assert stage_one > 0
    for ours, theirs in zip(staged[stage_one:], plain[4 * per_step :], strict=True):
        assert ours.equal(theirs)


@both
def test_another_seed_changes_batches_views_and_dropout(world) -> None:
    student = world.student()
    one, masks = _recorded(world, "scratch", seed=0)
    other, other_masks = _recorded(world, "scratch", seed=1, student=student)
    assert one.orders != other.orders
    if world.family == "image":
        assert one.batches[0][1].seed != other.batches[0][1].seed
        index, _, _ = one.batches[0]
        views = [world.train.batch(np.array(index), each.batches[0][1]) for each in (one, other)]
        assert not views[0].inputs["image"].equal(views[1].inputs["image"])
    else:
        assert any(
            ours.shape != theirs.shape or not ours.equal(theirs)
            for ours, theirs in zip(masks, other_masks, strict=True)
        )


def test_views_change_from_epoch_to_epoch(image_world) -> None:
    recorder, _ = _recorded(image_world, "scratch", epochs=2)
    assert [view.epoch for _, view, _ in recorder.batches] == [0] * 4 + [1] * 4
    assert recorder.orders[0] != recorder.orders[1]


def test_views_can_be_replayed_in_a_new_order(image_world) -> None:
    recorder, _ = _recorded(image_world, "scratch", epochs=4, views=2)
    assert [view.epoch for _, view, _ in recorder.batches] == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4
    assert recorder.orders[0] != recorder.orders[2]


@both
def test_what_a_method_draws_moves_nothing_else(world, differing) -> None:
    class Drawing(Supervised):
        def loss(self, **parts: Any) -> Any:
            torch.rand(17)
            np.random.rand(5)
            return super().loss(**parts)

    plain, drawing = world.run("scratch"), world.run(Drawing(Config()))
    assert differing(plain.student.state_dict(), drawing.student.state_dict()) == []


# --- what a method is given ---


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@both
def test_methods_get_float32_and_a_teacher_without_gradient(world, precision: str) -> None:
    seen = []

    class Nosy(Method):
        signals = frozenset({"logits", "hidden"})

        def hints(self, pairs: Any) -> Any:
            return tuple(pairs)

        def loss(self, *, batch: Any, student: Any, teacher: Any, progress: Any) -> Any:
            for output in (student, teacher):
                assert sorted(output.hidden) == sorted(
                    layer[output is teacher] for layer in world.setting().pairs
                )
                for value in (output.logits, output.embedding, *output.hidden.values()):
                    assert value.dtype == torch.float32
                    assert value.requires_grad == (output is student)
            seen.append((progress.step, progress.steps, progress.fraction))
            return {"ce": F.cross_entropy(student.scores, batch.labels)}

    world.run(Nosy(Config()), precision=precision, epochs=2)
    assert [step for step, _, _ in seen] == list(range(8))
    assert {steps for _, steps, _ in seen} == {8}
    assert (seen[0][2], seen[-1][2]) == (0.0, 1.0)


def test_every_stage_has_its_own_steps_and_learning_rate_schedule(image_world) -> None:
    seen: list[tuple[str, int, int]] = []

    class Staged(Supervised):
        def stages(self) -> Any:
            return Stage("warm", 0.25, evaluate=False), Stage("main", 0.75)

        def loss(self, *, progress: Any, **parts: Any) -> Any:
            seen.append((progress.stage, progress.step, progress.steps))
            return super().loss(progress=progress, **parts)

    run = image_world.run(Staged(Config()), epochs=4, learning_rate=0.1, warmup=0.0)
    assert seen == [("warm", at, 4) for at in range(4)] + [("main", at, 12) for at in range(12)]
    rates = [entry["lr"] for entry in run.trained.epochs]
    positions = [3 / 4, 3 / 12, 7 / 12, 11 / 12]  # of each epoch's last step in its stage
    assert rates == pytest.approx([0.05 * (1 + np.cos(np.pi * at)) for at in positions])


def test_norms_and_biases_are_not_decayed_by_adamw(text_world) -> None:
    student = text_world.student()
    student.classifier.bias.requires_grad_(False)
    decayed, free = build_optimizer(
        text_world.setting().recipe, student, nn.Linear(3, 2)
    ).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    assert {parameter.ndim for parameter in decayed["params"]} == {2}
    assert {parameter.ndim for parameter in free["params"]} == {1}
    count = len(list(student.parameters())) - 1 + 2
    assert len(decayed["params"]) + len(free["params"]) == count


# --- selection ---


@pytest.mark.parametrize(
    ("direction", "values", "best"),
    [
        ("max", [0.3, 0.9, 0.2, 0.9, 0.8], 2),  # the first of equals
        ("min", [0.3, 0.9, 0.2, 0.9, 0.8], 3),
        ("max", [-5.0, -4.0, -3.0, -2.0, -1.0], 5),
        ("min", [-5.0, -4.0, -3.0, -2.0, -1.0], 1),
    ],
)
def test_the_best_epoch_is_the_one_with_the_best_validation(
    image_world, direction: str, values: list[float], best: int, snapshot, differing
) -> None:
    kept: list[Any] = []
    states: list[dict[str, torch.Tensor]] = []
    script = iter(values)
    run = image_world.run(
        "scratch",
        epochs=5,
        metric="scripted",
        direction=direction,
        score=lambda logits, labels: {
            "scripted": next(script),
            **classification_metrics(logits, labels),
        },
        watch=kept.append,
        report=lambda entry: states.append(snapshot(kept[0])),
    )
    assert [entry["validation"]["scripted"] for entry in run.trained.epochs] == values
    assert run.trained.best_epoch == best
    for epoch, state in enumerate(states, start=1):
        assert (differing(run.trained.best_state, state) == []) == (epoch == best)
    assert differing(run.trained.model.state_dict(), states[-1]) == []
    # and what was recorded of that epoch is what that state scores
    run.student.load_state_dict(run.trained.best_state)
    setting = image_world.setting()
    logits = loop.predict(run.student, setting.validation, batch_size=16, precision="float32")
    scored = classification_metrics(logits, setting.validation.labels.numpy())
    recorded = run.trained.epochs[best - 1]["validation"]
    assert {name: recorded[name] for name in scored} == pytest.approx(scored, rel=1e-6)


# --- divergence ---


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_and_is_named(image_world, value: float) -> None:
    class Failing(Supervised):
        def loss(self, *, progress: Any, **parts: Any) -> Any:
            terms = dict(super().loss(progress=progress, **parts))
            odd = value if progress.step == 2 * 4 + 1 else 0.0  # second step of epoch 3
            return {**terms, "odd": 0 * terms["ce"].detach() + odd}

    entries: list[Any] = []
    with pytest.raises(Diverged, match=r"'odd' is (nan|inf) in epoch 3"):
        image_world.run(Failing(Config()), epochs=4, report=entries.append)
    assert len(entries) == 2


def test_a_rate_that_is_far_too_high_is_a_divergence_not_a_result(image_world) -> None:
    with pytest.raises(Diverged) as caught:
        image_world.run("scratch", learning_rate=1e30, clip=None, epochs=3)
    assert "epoch" in caught.value.message
    assert isinstance(caught.value, BenchError)


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda ce: None, "returned nothing in stage 'main'"),
        (lambda ce: ce.mean(), "returned a Tensor"),
        (lambda ce: {}, "returned no term"),
        (lambda ce: {"ce": 0.5}, "returned 'ce': a float"),
        (lambda ce: {"ce": ce}, "returned 'ce': a Tensor of shape (16,)"),
        (lambda ce: {1: ce.mean()}, "returned 1: a Tensor of shape ()"),
        (lambda ce: {"ce": ce.mean().detach()}, "returned terms without a gradient"),
    ],
)
def test_a_loss_that_cannot_be_descended_is_said_to_be_one(
    image_world, monkeypatch: pytest.MonkeyPatch, returned: Any, says: str
) -> None:
    def loss(self: Method, *, batch: Any, student: Any, **others: Any) -> Any:
        return returned(F.cross_entropy(student.scores, batch.labels, reduction="none"))

    monkeypatch.setattr(METHODS.get("kd"), "loss", loss)
    with pytest.raises(BenchError) as caught:
        image_world.run("kd")
    assert str(caught.value).startswith("the loss of 'kd' returned") and says in str(caught.value)


def test_a_method_without_a_loss_is_named(image_world, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS.get("kd"), "loss", Method.loss)
    with pytest.raises(NotImplementedError, match="KD defines no loss"):
        image_world.run("kd")
