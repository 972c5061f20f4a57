"""A batch cut into parts to save memory: the same step for the optimiser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from torch import Tensor, nn

from bench.plan import make_plan
from bench.prepare import Prepared
from bench.record_parts import batching
from bench.report import write_reports
from bench.run_cell import run_cell
from bench.suites import Suite
from bench.teachers.train import ensure_teacher

if TYPE_CHECKING:
    from worlds import World

TINY = {"train_limit": 64, "recipe.epochs": 1, "teacher_recipe.epochs": 1}


def trained(world: World, parts: int, new_method: Any, **changes: Any) -> dict[str, Tensor]:
    """Train the world's student for an epoch without dropout, each batch cut into ``parts``."""
    from bench.teachers.signals import LiveTeacher
    from bench.training.loop import train

    setting = replace(world.setting(epochs=1, **changes), micro_batches=parts)
    student, method = world.student(), new_method("kd")
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    teacher = LiveTeacher(world.teacher(), "float32")
    method.setup(world.context(student, teacher, setting.pairs))
    done = train(student=student, method=method, teacher=teacher, setting=setting)
    assert done.epochs[0]["losses"].keys() == {"ce", "kd"}
    return {**dict(student.named_parameters()), **dict(student.named_buffers())}


@pytest.mark.parametrize("parts", [2, 5, 12, 99])
def test_parts_give_the_step_of_the_whole_batch(
    text_world: World, new_method: Any, parts: int
) -> None:
    """Without batch statistics and dropout only rounding tells them apart, uneven parts too."""
    plain = {"optimizer": "sgd", "learning_rate": 0.05}  # AdamW turns rounding into whole steps
    whole = trained(text_world, 1, new_method, **plain)
    cut = trained(text_world, parts, new_method, **plain)
    start = dict(text_world.student().named_parameters())
    for name, value in whole.items():
        assert value.allclose(cut[name], rtol=1e-4, atol=2e-6), name
    assert any(not whole[name].allclose(value, atol=1e-4) for name, value in start.items())


@pytest.mark.parametrize("parts", [2, 5])
def test_notes_are_means_over_all_parts(text_world: World, new_method: Any, parts: int) -> None:
    from bench.training.loop import train

    def noted(parts: int) -> float:
        method = new_method("scratch")
        loss, notes = method.loss, {}

        def noting(*, batch: Any, **given: Any) -> Any:
            notes["label"] = batch.labels.float().mean()
            return loss(batch=batch, **given)

        method.loss, method.notes = noting, lambda: notes
        setting = replace(text_world.setting(epochs=1), micro_batches=parts)
        student = text_world.student()
        method.setup(text_world.context(student, None, setting.pairs))
        done = train(student=student, method=method, teacher=None, setting=setting)
        found: float = done.epochs[0]["notes"]["label"]
        return found

    assert noted(parts) == pytest.approx(noted(1), rel=1e-6)


def test_batch_statistics_are_those_of_the_parts(
    image_world: World, new_method: Any, differing: Any
) -> None:
    whole, cut = trained(image_world, 1, new_method), trained(image_world, 2, new_method)
    assert any("running_mean" in name for name in differing(whole, cut))


def test_the_record_says_what_was_cut(image_world: World, text_world: World) -> None:
    for world, norms in ((image_world, True), (text_world, False)):
        setting = world.setting()
        assert batching(Prepared(world.student(), nn.Identity(), None, None, setting, 0.0)) == {}
        setting = replace(setting, micro_batches=3)
        said = batching(Prepared(world.student(), nn.Identity(), None, None, setting, 0.0))
        size = setting.recipe.batch_size
        assert said["batching"]["batch_size"] == size and said["batching"]["micro_batches"] == 3
        assert said["batching"]["micro_batch_size"] == -(-size // 3)
        assert ("BatchNorm" in said["batching"]["note"]) is norms


def test_the_record_and_the_report_name_a_teacher_trained_in_parts(tmp_path: Path) -> None:
    suite = Suite(methods=("kd",), tasks=("cifar10",), seeds=(0,), overrides=TINY)
    (cell,) = make_plan(suite, device="cpu").cells
    assert cell.teacher is not None
    ensure_teacher(cell.teacher, micro_batches=4)
    made = run_cell(cell, tmp_path / "results")
    assert made["teacher"]["micro_batches"] == 4 and "batching" not in made
    write_reports(tmp_path / "results", tmp_path / "reports")
    page = (tmp_path / "reports" / "leaderboard.md").read_text(encoding="utf-8")
    assert "Memory ran out for the teacher or generator of kd: trained with each batch cut" in page
