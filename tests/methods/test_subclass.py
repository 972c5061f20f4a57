"""Subclass distillation (Müller et al. 2020): its losses, and the teacher retrained for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench import METHODS, BenchError
from bench.cells import Cell
from bench.config import build
from bench.errors import NotApplicable
from bench.losses import soft_kl
from bench.method import Progress
from bench.models.base import parameter_count
from bench.plan import make_plan
from bench.run_cell import run_cell
from bench.suites import Suite
from bench.teachers.signals import LiveTeacher
from bench.teachers.store import TeacherFiles
from bench.teachers.train import ensure_teacher, load_teacher
from bench.types import Batch, Output
from methods.lelp import class_logits
from methods.subclass import (
    Subclass,
    SubclassConfig,
    SubclassTeacher,
    SubclassTeacherConfig,
    auxiliary_loss,
)

PROGRESS = Progress("main", 0, 10)


def draw(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64)


# --- the auxiliary loss ---


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_auxiliary_loss_is_the_published_one(temperature: float) -> None:
    logits = draw(6, 10)
    # zero mean and unit variance over a sample's logits; correlations over T times their number
    normalised = (logits - logits.mean(1, keepdim=True)) / logits.std(1, unbiased=False)[:, None]
    correlation = normalised @ normalised.T / (temperature * 10)
    expected = correlation.exp().sum(dim=1).log().mean() - 1 / temperature - math.log(6)
    found = auxiliary_loss(logits, temperature=temperature)
    assert float(found) == pytest.approx(float(expected), rel=1e-9)


def test_two_opposite_samples_by_hand() -> None:
    logits = torch.tensor([[3.0, -3.0], [-1.0, 1.0]])  # correlations 1 and −1
    assert float(auxiliary_loss(logits, temperature=1.0)) == pytest.approx(
        math.log((1 + math.exp(-2)) / 2)
    )


def test_it_is_nothing_for_a_batch_of_one_shape_and_negative_otherwise() -> None:
    shape = draw(1, 8)
    scale, shift = draw(5, 1, seed=1).abs() + 0.1, draw(5, 1, seed=2)
    assert float(auxiliary_loss(scale * shape + shift, temperature=1.0)) == pytest.approx(0.0)
    logits = draw(5, 8, seed=3)
    plain = auxiliary_loss(logits, temperature=1.0)
    assert float(plain) < -0.1
    # neither the size nor the level of a sample's logits counts
    assert torch.allclose(auxiliary_loss(scale * logits + shift, temperature=1.0), plain)
    flat = torch.zeros(3, 4, requires_grad=True)
    auxiliary_loss(flat, temperature=1.0).backward()
    assert flat.grad is not None and torch.isfinite(flat.grad).all()


def test_its_gradient_is_the_slope() -> None:
    logits = draw(4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: auxiliary_loss(value, temperature=0.7), logits)


# --- the two objectives ---


def batch_of(labels: Tensor) -> Batch:
    return Batch({}, labels, torch.arange(len(labels)))


def test_the_teachers_objective() -> None:
    logits, labels = draw(6, 12), torch.arange(6) % 3
    method = SubclassTeacher(SubclassTeacherConfig(subclasses=4, w_auxiliary=0.3))
    method.num_classes = 3
    found = method.loss(
        batch=batch_of(labels), student=Output(logits), teacher=None, progress=PROGRESS
    )
    classes = F.softmax(logits, dim=1).view(6, 3, 4).sum(dim=2)
    assert float(found["ce"]) == pytest.approx(float(F.nll_loss(classes.log(), labels)))
    auxiliary = auxiliary_loss(logits, temperature=1.0)
    assert torch.equal(found["auxiliary"], 0.3 * auxiliary)


def test_the_students_objective() -> None:
    ours, theirs, labels = draw(6, 12), draw(6, 12, seed=1), torch.arange(6) % 3
    method = Subclass(SubclassConfig(subclasses=4, temperature=3.0, w_ce=0.2, w_kd=0.6))
    method.num_classes = 3
    found = method.loss(
        batch=batch_of(labels), student=Output(ours), teacher=Output(theirs), progress=PROGRESS
    )
    assert torch.equal(found["kd"], 0.6 * soft_kl(student=ours, teacher=theirs, temperature=3.0))
    classes = class_logits(ours, 3)
    assert torch.equal(found["ce"], 0.2 * F.cross_entropy(classes, labels))


def test_matching_subclasses_matches_classes_too() -> None:
    theirs = draw(6, 12)
    ours = (theirs + draw(6, 1, seed=2)).requires_grad_()
    assert float(soft_kl(student=ours, teacher=theirs).detach()) == pytest.approx(0.0, abs=1e-6)
    classes = soft_kl(student=class_logits(ours, 3), teacher=class_logits(theirs, 3))
    assert float(classes.detach()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("options", [{"subclasses": 1}, {"auxiliary_temperature": 0}, {"beta": 1}])
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(BenchError, match=next(iter(options))):
        build(SubclassConfig, options, "method 'subclass'")


def test_defaults_are_those_of_the_authors_example() -> None:
    config = SubclassConfig()
    assert (config.subclasses, config.w_auxiliary, config.auxiliary_temperature) == (5, 1.0, 1.0)
    assert (config.temperature, config.w_ce, config.w_kd) == (4.0, 0.5, 0.5)


def test_a_teacher_of_another_number_of_outputs_is_not_distilled(image_world) -> None:
    source = LiveTeacher(image_world.teacher(), "float32")  # four classes, four outputs
    context = image_world.context(image_world.student(), source, ())
    with pytest.raises(NotApplicable, match="4 outputs, not 5 for each of 4 classes"):
        Subclass(SubclassConfig()).setup(context)


# --- through the loop ---


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_the_auxiliary_loss_spreads_a_teacher_over_its_subclasses(world) -> None:
    def used(weight: float) -> float:
        options = SubclassTeacherConfig(subclasses=2, w_auxiliary=weight)
        run = world.run(SubclassTeacher(options), student=world.teacher(), epochs=30)
        assert parameter_count(run.method) == 0
        model = run.student.eval()
        with torch.no_grad():
            logits = torch.cat(
                [
                    model(world.train.batch(index).inputs).scores
                    for index in world.train.evaluation_order(16)
                ]
            )
            return float(auxiliary_loss(logits, temperature=1.0))

    assert used(1.0) < used(0.0) - 0.02


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_a_student_of_a_retrained_teacher(world, differing, snapshot) -> None:
    taught = world.run(
        SubclassTeacher(SubclassTeacherConfig(subclasses=2)), student=world.teacher()
    )
    before = snapshot(taught.student)
    run = world.run("subclass", options={"subclasses": 2}, teacher=taught.student, epochs=4)
    losses = [entry["losses"]["kd"] for entry in run.trained.epochs]
    assert losses[-1] < losses[0]
    assert differing(before, taught.student.state_dict()) == []
    batch = world.validation.batch(torch.arange(4).numpy())
    assert run.trained.model(batch.inputs).scores.shape == (4, world.num_classes)
    extra = parameter_count(run.trained.model) - parameter_count(world.student())
    assert extra == world.num_classes * (world.student().width + 1)


# --- planned, trained, kept and recorded ---

TINY = {"epochs": 1, "teacher_recipe.epochs": 2, "train_limit": 192, "student": "resnet8w8s2"}


def planned(*methods: str, task: str = "cifar10-binary", **overrides: Any) -> list[Cell]:
    suite = Suite(methods=methods, tasks=(task,), seeds=(0,), overrides={**TINY, **overrides})
    return make_plan(suite, device="cpu").cells


def test_only_what_shapes_its_teacher_is_in_its_teachers_key() -> None:
    kd, plain, hot, spread, many = planned(
        *["kd", "subclass", "subclass:temperature=2", "subclass:w_auxiliary=2"],
        "subclass:subclasses=3",
    )
    keys = [cell.teacher.key for cell in (kd, plain, hot, spread, many) if cell.teacher]
    assert keys[1] == keys[2]
    assert len({keys[0], keys[1], keys[3], keys[4]}) == 4
    assert kd.teacher is not None and kd.teacher.objective is None
    assert plain.teacher is not None and plain.teacher.objective is not None
    assert dict(plain.teacher.objective.config) == SubclassTeacherConfig().model_dump()
    assert "not_like_for_like" not in kd.described()
    assert "retrains the teacher" in plain.described()["not_like_for_like"]
    # what the remark says is no part of what a cell measures
    assert replace(plain, not_like_for_like="other words").key == plain.key


def test_a_cell_with_its_own_teacher_from_end_to_end(tmp_path: Path) -> None:
    (cell,) = planned("subclass:subclasses=3")
    assert cell.teacher is not None
    manifest = ensure_teacher(cell.teacher)
    assert manifest["outputs"] == 6 and manifest["epochs"] == 2
    files = TeacherFiles.of(cell.task, cell.teacher.key)
    # scored by class, whatever the number of outputs
    assert {value.shape[1] for value in files.load_predictions().values()} == {2}
    assert manifest["test"]["accuracy"] > 0.5
    record = run_cell(cell, tmp_path)
    assert record["status"] == "ok", record["error"]
    teacher = record["teacher"]
    assert teacher["objective"] == {
        "method": "subclass",
        "config": {"subclasses": 3, "w_auxiliary": 1.0, "auxiliary_temperature": 1.0},
        "code": cell.teacher.objective.code,  # type: ignore[union-attr]
    }
    assert teacher["seconds"] == manifest["seconds"] > 0
    assert record["parameters"]["deployed"] > record["parameters"]["student"] - 1
    task, data = _opened(cell)
    model, _ = load_teacher(cell.teacher, task, data)
    assert model(data.test.batch(torch.arange(5).numpy()).inputs).scores.shape == (5, 6)


def _opened(cell: Cell) -> tuple[Any, Any]:
    from bench.opening import open_task

    task = open_task(cell)
    return task, task.load("cpu")


def test_it_starts_from_a_teacher_that_is_handed_in(tmp_path: Path) -> None:
    """Its weights are those of the file, retrained; a plain method takes them as they are."""
    import safetensors.torch

    common, _ = planned("kd", "subclass:subclasses=3")
    assert common.teacher is not None
    ensure_teacher(common.teacher)
    path = tmp_path / "mine.safetensors"
    path.write_bytes(TeacherFiles.of(common.task, common.teacher.key).weights.read_bytes())
    given, own = planned("kd", "subclass:subclasses=3", teacher_checkpoint=str(path))
    assert given.teacher is not None and own.teacher is not None
    assert ensure_teacher(given.teacher)["epochs"] == 0
    assert ensure_teacher(own.teacher)["epochs"] == 2
    start = safetensors.torch.load_file(path)
    files = TeacherFiles.of(own.task, own.teacher.key)
    retrained = safetensors.torch.load_file(files.weights)
    kernel = next(name for name, value in start.items() if value.ndim == 4)
    assert not torch.equal(start[kernel], retrained[kernel])
    assert torch.allclose(start[kernel], retrained[kernel], atol=0.5)


def test_where_the_encoder_is_frozen_it_is_skipped_with_the_reason(tmp_path: Path) -> None:
    short = {"student": "bert-L1-H32", "train_limit": 96, "max_length": 8}
    (cell,) = planned("subclass", task="amazon", **short)
    assert cell.teacher is not None and cell.teacher.objective is None
    (kd,) = planned("kd", task="amazon", **short)
    assert kd.teacher is not None and kd.teacher.key == cell.teacher.key
    ensure_teacher(cell.teacher)
    record = run_cell(cell, tmp_path)
    assert record["status"] == "skipped"
    assert "2 outputs, not 5 for each of 2 classes" in record["error"]["message"]
    assert "frozen" in record["error"]["hint"]


@pytest.fixture
def teacherless(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(METHODS.get("subclass"), "own_teacher", None)


def test_a_teacher_for_a_method_that_has_none_is_an_error(teacherless: Callable[[], None]) -> None:
    (cell,) = planned("subclass")
    assert cell.teacher is not None
    teacherless()
    with pytest.raises(BenchError, match="'subclass' has no teacher of its own"):
        ensure_teacher(cell.teacher)
