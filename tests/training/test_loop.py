"""The one loop: paired by construction, honest in selection, resumable bit for bit."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bench
from bench import BASELINES, METHODS
from bench.cells import Cell, TeacherSpec
from bench.config import Config
from bench.data.splits import Augment, Split
from bench.errors import BenchError
from bench.method import Method, Stage
from bench.metrics.classification import classification_metrics
from bench.supervised import Supervised
from bench.tasks.base import Data, Preset, Recipe
from bench.tasks.image import ImageTask
from bench.training import loop
from bench.training.checkpoint import FORMAT, Checkpoint, made_by
from bench.training.evaluate import evaluating
from bench.training.loop import Diverged, build_optimizer

DISTILLING = [
    *["kd", "fitnets", "fitnets_joint", "embedding", "rkd", "dkd", "crd", "gpd"],
    "label_smoothing",
]
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
    assert _told(one.trained.epochs) == _told(other.trained.epochs)


@both
def test_another_seed_gives_another_student(world, differing) -> None:
    one, other = world.run("scratch", seed=0), world.run("scratch", seed=1)
    assert differing(one.student.state_dict(), other.student.state_dict())


def _told(epochs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the history without wall times."""
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in epochs]


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


class Untouchable(Split):
    """A test split that may not be looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test split was asked for '{name}'")


RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.05, precision="float32")


class Guarded(ImageTask):
    """The image world as a task whose test split explodes."""

    name = "guarded"
    num_classes = 4
    presets: ClassVar = {
        "quick": Preset(
            source="embedded",
            student="resnet8w8s2",
            teacher="resnet8w16s2",
            recipe=RECIPE,
            teacher_recipe=RECIPE,
            evaluation_batch=16,
        )
    }
    world: Any

    def arrays(self) -> Any:
        raise NotImplementedError

    def augmentation(self) -> Augment:
        raise NotImplementedError

    def load(self, device: str = "cpu") -> Data:
        return Data(self.world.train, self.world.validation, Untouchable())


@pytest.fixture
def guarded(image_world) -> Guarded:
    task = Guarded("quick")
    task.world = image_world
    return task


def _teacher_spec() -> TeacherSpec:
    values = Guarded.presets["quick"].model_dump(mode="json")
    return TeacherSpec("guarded", "quick", {}, values, "embedded", "0" * 64, 0, "cpu")


@pytest.mark.parametrize("name", ["scratch", *DISTILLING])
def test_training_a_cell_never_touches_the_test_split(guarded: Guarded, name: str) -> None:
    from bench.prepare import make_contender, prepare
    from bench.run_cell import _predictions, _train
    from bench.teachers.store import TeacherFiles

    kind, registry = ("method", METHODS) if name in METHODS else ("baseline", BASELINES)
    cls = registry.get(name)
    spec = _teacher_spec()
    cell = Cell(
        kind=kind,
        method=name,
        label=name,
        options={},
        config=cls.Config().model_dump(mode="json"),
        code="",
        task="guarded",
        preset="quick",
        overrides={},
        preset_values=spec.preset_values,
        source="embedded",
        task_info={},
        origin={"fingerprint": "0" * 64},
        seed=0,
        teacher=spec if cls.signals else None,
        device="cpu",
    )
    TeacherFiles.of("guarded", spec.key).write(
        guarded.world.teacher(), {}, {"parameters": 1, "depth": 3, "width": 64}
    )
    data = guarded.load()
    prepared = prepare(cell, guarded, data, make_contender(cell))
    trained = _train(prepared, Path("no-such-folder") / "never-written.pt", lambda event: None)
    assert trained.best_epoch >= 1
    with pytest.raises(AssertionError, match="the test split was asked"):  # the guard is awake
        _predictions(trained, guarded, data, 8)


def test_training_a_teacher_never_touches_the_test_split(guarded: Guarded) -> None:
    from bench.teachers.train import _train_whole

    model = guarded.world.teacher()
    taught = _train_whole(_teacher_spec(), guarded, guarded.load(), model, lambda event: None, 1)
    assert 1 <= taught.best_epoch <= taught.epochs == 2
    assert taught.deployed is model


def test_a_teacher_with_a_damaged_checkpoint_starts_over(guarded: Guarded, differing) -> None:
    from bench.data.cache import cache_dir
    from bench.teachers.train import _fresh, _train_whole

    def trained() -> dict[str, torch.Tensor]:
        data = guarded.load()
        model = _fresh(_teacher_spec(), guarded, data)
        _train_whole(_teacher_spec(), guarded, data, model, lambda event: None, 1)
        return model.state_dict()

    whole = trained()
    path = cache_dir() / "running" / f"teacher-{_teacher_spec().key[:16]}.pt"
    path.parent.mkdir(exist_ok=True)
    strange = {name: value + 1 for name, value in whole.items()}
    parts = {"format": FORMAT, "made_by": made_by(), "student": strange, "method": {"no": "such"}}
    _sealed(path, {**parts, "optimizer": {}, "progress": {}})  # goes wrong half-way through
    assert differing(whole, trained()) == []


def test_a_teacher_is_kept_as_it_was_at_its_best_epoch(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, snapshot, differing
) -> None:
    from bench.teachers.train import _train_whole

    script = iter([0.9, 0.1])
    monkeypatch.setattr(Guarded, "evaluate", lambda self, *_: {"accuracy": next(script)})
    model, states = guarded.world.teacher(), []
    taught = _train_whole(
        _teacher_spec(),
        guarded,
        guarded.load(),
        model,
        lambda entry: states.append(snapshot(model)),
        1,
    )
    assert taught.best_epoch == 1 and differing(states[0], states[1])
    assert differing(model.state_dict(), states[0]) == []


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


# --- checkpoints ---


class Interrupted(Exception):
    """What a killed process looks like from inside the test."""


@pytest.fixture
def eager_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint after every epoch."""
    monkeypatch.setattr(loop, "Checkpoint", functools.partial(Checkpoint, interval=0.0))


def _stop_at(epoch: int) -> Callable[[dict[str, Any]], None]:
    def report(entry: dict[str, Any]) -> None:
        if entry["epoch"] == epoch:  # before this epoch's checkpoint: the one before it is there
            raise Interrupted

    return report


OPTIONS = {
    "fitnets": {"hint_share": 0.5},
    "gpd": {"branches": 3, "ema": 0.9},
    "crd": {"negatives": 8},
}


@pytest.mark.usefixtures("eager_checkpoints")
@pytest.mark.parametrize(
    ("world", "name", "epoch"),
    [
        ("image", "kd", 1),
        ("image", "kd", 2),
        ("image", "kd", 4),
        ("text", "kd", 3),
        ("image", "fitnets", 2),  # inside stage 1
        ("image", "fitnets", 3),  # stage 1 is done, stage 2 has not begun
        ("image", "fitnets", 4),  # inside stage 2
        ("text", "fitnets", 2),
        ("text", "fitnets", 3),
        ("text", "fitnets", 4),
        ("image", "fitnets_joint", 3),
        ("image", "crd", 3),  # whose banks must come back
        ("image", "gpd", 3),
        ("text", "gpd", 2),
    ],
    indirect=["world"],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    world, name: str, epoch: int, tmp_path: Path, differing
) -> None:
    options = OPTIONS.get(name, {})
    whole = world.run(name, options=options, epochs=4)
    path = tmp_path / "running" / "cell.pt"
    with pytest.raises(Interrupted):
        world.run(name, options=options, epochs=4, checkpoint=path, report=_stop_at(epoch))
    assert path.is_file() == (epoch > 1)
    torch.manual_seed(12345)
    done: list[int] = []
    resumed = world.run(
        name,
        options=options,
        epochs=4,
        checkpoint=path,
        report=lambda entry: done.append(entry["epoch"]),
    )
    assert done == list(range(epoch, 5))  # nothing is done twice
    assert differing(whole.student.state_dict(), resumed.student.state_dict()) == []
    assert differing(whole.method.state_dict(), resumed.method.state_dict()) == []
    assert differing(whole.trained.best_state, resumed.trained.best_state) == []
    assert whole.trained.best_epoch == resumed.trained.best_epoch
    assert _told(whole.trained.epochs) == _told(resumed.trained.epochs)
    assert resumed.trained.seconds["train"] > sum(
        entry["seconds"] for entry in resumed.trained.epochs[: epoch - 1]
    )


@pytest.mark.usefixtures("eager_checkpoints")
def test_a_finished_run_is_not_trained_again(image_world, tmp_path: Path, differing) -> None:
    first = image_world.run("kd", checkpoint=tmp_path / "cell.pt")
    entries: list[Any] = []
    again = image_world.run("kd", checkpoint=tmp_path / "cell.pt", report=entries.append)
    assert entries == []
    assert differing(first.student.state_dict(), again.student.state_dict()) == []
    assert differing(first.trained.best_state, again.trained.best_state) == []


def test_short_runs_write_no_checkpoint(image_world, tmp_path: Path) -> None:
    image_world.run("scratch", checkpoint=tmp_path / "cell.pt")
    assert not (tmp_path / "cell.pt").exists()


@pytest.fixture
def checkpoint(image_world, tmp_path: Path, eager_checkpoints: None) -> Path:
    """Return the checkpoint of a finished run."""
    path = tmp_path / "cell.pt"
    image_world.run("scratch", checkpoint=path)
    return path


@pytest.mark.parametrize("what", ["threads", "torch"])
def test_a_checkpoint_of_other_bits_is_not_gone_on_from(
    image_world, checkpoint: Path, differing, caplog, what: str
) -> None:
    whole = image_world.run("scratch")
    saved = _opened(checkpoint)
    moved = {name: value + 1 for name, value in saved["student"].items()}
    made = {**saved["made_by"], what: "another"}
    _sealed(checkpoint, {**saved, "made_by": made, "student": moved})
    again = image_world.run("scratch", checkpoint=checkpoint)
    assert "is of other versions or threads: starting over" in caplog.text
    assert differing(whole.student.state_dict(), again.student.state_dict()) == []


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _garble(path: Path) -> None:
    path.write_bytes(b"not a checkpoint")


def _opened(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, whose first line is the checksum of the rest."""
    _, _, data = path.read_bytes().partition(b"\n")
    return torch.load(io.BytesIO(data), weights_only=True)


def _sealed(path: Path, saved: Any) -> None:
    """Write a checkpoint whose checksum is right, whatever is in it."""
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest().encode()
    path.write_bytes(checksum + b"\n" + buffer.getvalue())


def _pickle(path: Path) -> None:
    """Put an object there that only an unsafe load would build."""
    _sealed(path, {"student": Interrupted("run me")})


def _other_model(path: Path) -> None:
    _sealed(path, {**_opened(path), "student": nn.Linear(3, 2).state_dict()})


def _other_method(path: Path) -> None:
    """Leave a student that fits, though a moved one, with a method that does not."""
    saved = _opened(path)
    moved = {name: value + 1 for name, value in saved["student"].items()}
    _sealed(path, {**saved, "student": moved, "method": nn.Linear(3, 2).state_dict()})


def _other_format(path: Path) -> None:
    _sealed(path, {**_opened(path), "format": 0})


def _drop_progress(path: Path) -> None:
    saved = _opened(path)
    del saved["progress"]
    _sealed(path, saved)


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    weight = _opened(path)["student"]["network.stages.2.0.conv1_kxk.conv.weight"]
    at = content.find(weight.permute(0, 2, 3, 1).contiguous().numpy().tobytes()[:64])
    assert at > 0
    content[at + 3] ^= 0x01
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _empty,
        _garble,
        _pickle,
        _other_model,
        _other_method,
        _other_format,
        _drop_progress,
        _flip_a_byte,
    ],
)
def test_a_damaged_checkpoint_is_removed_and_said(
    image_world, checkpoint: Path, damage: Callable[[Path], None], differing, caplog
) -> None:
    damage(checkpoint)
    damaged = checkpoint.read_bytes()
    whole = image_world.run("scratch")
    afresh = image_world.run("scratch", checkpoint=checkpoint)
    assert f"checkpoint {checkpoint.name} is damaged: starting over" in caplog.text
    assert checkpoint.read_bytes() != damaged
    assert differing(whole.student.state_dict(), afresh.student.state_dict()) == []


# --- one loop for all ---


def _engine() -> list[Path]:
    root = Path(bench.__file__).parent
    return [path for path in sorted(root.rglob("*.py")) if "report" not in path.parts]


def test_the_engine_names_no_method() -> None:
    # one method is called what the signal it learns from is called
    signals = {"logits", "embedding", "hidden", "head", "generator"}
    names = set(METHODS.names()) - signals
    assert {"kd", "fitnets", "fitnets_joint"} <= names
    found = [
        f"{path.name}:{node.lineno}: {node.value!r}"
        for path in _engine()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert found == []


def test_the_engine_imports_no_particular_method() -> None:
    found = []
    for path in _engine():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            found += [
                f"{path.name}: {module}"
                for module in modules
                if module.split(".")[0] in ("methods", "baselines")
            ]
    assert found == []


def test_the_loop_is_written_once() -> None:
    # a second training loop would have to step an optimiser
    stepping = [path for path in _engine() if "optimizer.step(" in path.read_text(encoding="utf-8")]
    assert len(stepping) == 1 and stepping[0].parent.name == "training"
    for package in ("methods", "baselines"):
        for path in (Path(bench.__file__).parent.parent / package).rglob("*.py"):
            assert ".step(" not in path.read_text(encoding="utf-8")
