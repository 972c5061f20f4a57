"""The test split is not looked at before the best epoch is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from worlds import DISTILLING

from bench import BASELINES, METHODS
from bench.cells import Cell, TeacherSpec
from bench.data.splits import Augment, Split
from bench.tasks.base import Data
from bench.tasks.image import ImageTask
from bench.tasks.preset import Preset, Recipe


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
    return TeacherSpec(
        task="guarded",
        preset="quick",
        overrides={},
        preset_values=values,
        source="embedded",
        fingerprint="0" * 64,
        seed=0,
        device="cpu",
    )


@pytest.mark.parametrize("name", ["scratch", *DISTILLING])
def test_training_a_cell_never_touches_the_test_split(guarded: Guarded, name: str) -> None:
    from bench.opening import make_contender
    from bench.prepare import prepare
    from bench.teachers.store import TeacherFiles
    from bench.training.evaluate import predict_last_and_best

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
    trained = prepared.train(Path("no-such-folder") / "never-written.pt", lambda event: None)
    assert trained.best_epoch >= 1
    with pytest.raises(AssertionError, match="the test split was asked"):  # the guard is awake
        predict_last_and_best(trained, data.held_out(), batch_size=8, precision="float32")


def test_training_a_teacher_never_touches_the_test_split(guarded: Guarded) -> None:
    from bench.teachers.train import _train_whole

    model = guarded.world.teacher()
    taught = _train_whole(_teacher_spec(), guarded, guarded.load(), model, lambda event: None, 1)
    assert 1 <= taught.best_epoch <= taught.epochs == 2
    assert taught.deployed is model


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
