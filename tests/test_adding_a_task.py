"""The task of docs/adding-a-task.md: what the page shows is what runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from plug_ins import forget_plug_ins
from processes import ROOT

from bench import TASKS
from bench.cells import Cell
from bench.errors import BenchError
from bench.plan import make_plan
from bench.registry import load_plugin
from bench.run_cell import run_cell
from bench.suites import Suite
from bench.teachers.train import ensure_teacher

PAGE = ROOT / "docs" / "adding-a-task.md"
OVERRIDES = {"epochs": 2, "teacher_recipe.epochs": 1, "recipe.precision": "float32"}


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return squares and discs ``(count, 24, 24, 3)`` uint8 in noise, with their labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    rows, columns = np.mgrid[-1:1:24j, -1:1:24j]
    disc, square = np.hypot(rows, columns) < 0.7, np.maximum(abs(rows), abs(columns)) < 0.6
    shapes = np.stack([square, disc])[labels][..., None] * 150
    return (shapes + draw.integers(0, 100, (count, 24, 24, 3))).astype(np.uint8), labels


@pytest.fixture
def shapes(tmp_path: Path, no_new_methods: None) -> Path:
    """Return the plug-in of the page beside its data, loaded."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    plugin = tmp_path / "shapes.py"
    plugin.write_text(code, encoding="utf-8")
    images, labels = drawn(180, 0)
    test_images, test_labels = drawn(20, 1)
    np.savez(
        plugin.with_suffix(".npz"),
        images=images,
        labels=labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    load_plugin(str(plugin))
    return plugin


def planned(plugin: Path, *tasks: str) -> list[Cell]:
    suite = Suite(methods=("kd",), tasks=tasks, seeds=(0,), overrides=OVERRIDES)
    return make_plan(suite, device="cpu", plugins=(str(plugin),)).cells


def test_it_runs_and_its_records_say_what_it_is(shapes: Path, tmp_path: Path) -> None:
    (cell,) = planned(shapes, "shapes")
    assert cell.teacher is not None
    ensure_teacher(cell.teacher)
    made = run_cell(cell, tmp_path / "results")
    assert made["data"]["rows"] == {"train": 162, "validation": 18, "test": 20}
    assert made["data"]["name"] == "my shapes"
    assert made["status"] == "ok" and made["metrics"]["best"]["test"].keys() >= {"accuracy", "nll"}
    assert cell.task_info["classes"] == 2


def test_other_data_makes_other_cells_and_variants_come_with_the_family(shapes: Path) -> None:
    (before,) = planned(shapes, "shapes")
    (few,) = planned(shapes, "shapes:n=20")
    assert len({before.key, few.key}) == 2
    images, labels = drawn(180, 2)
    with np.load(shapes.with_suffix(".npz")) as file:
        kept = {**file, "images": images, "labels": labels}
    np.savez(shapes.with_suffix(".npz"), **kept)
    (after,) = planned(shapes, "shapes")
    assert after.key != before.key and after.teacher.key != before.teacher.key


def test_other_code_makes_other_cells_teachers_and_generators(shapes: Path, tmp_path: Path) -> None:
    code = shapes.read_text(encoding="utf-8")

    def keys(name: str, code: str) -> list[str]:
        plugin = tmp_path / name / "shapes.py"
        plugin.parent.mkdir()
        plugin.write_text(code, encoding="utf-8")
        shutil.copy(shapes.with_suffix(".npz"), plugin.parent)
        forget_plug_ins()
        load_plugin(str(plugin))
        suite = Suite(methods=("scratch", "tgt"), tasks=("shapes",), seeds=(0,))
        scratch, tgt = make_plan(suite, device="cpu", plugins=(str(plugin),)).cells
        assert tgt.teacher and tgt.generator
        assert scratch.described()["task_code"] == scratch.task_code
        return [scratch.key, tgt.key, tgt.teacher.key, tgt.generator.key]

    before = keys("one", code)
    assert keys("two", code.replace("# validation:", "# held out:")) == before
    after = keys("three", code.replace("carve(labels, 0.1)", "carve(labels, 0.2)"))
    assert not set(before) & set(after)


def test_the_suites_own_tasks_have_no_code_in_their_keys() -> None:
    suite = Suite(methods=("kd",), tasks=("cifar10", "amazon", "msmarco"), seeds=(0,))
    for cell in make_plan(suite, device="cpu").cells:
        assert cell.teacher and cell.task_code == cell.teacher.task_code == ""
        assert "task_code" not in cell.described()


def test_data_that_is_gone_is_said(shapes: Path) -> None:
    shapes.with_suffix(".npz").unlink()
    with pytest.raises(BenchError, match=r"'shapes' cannot be read: shapes\.npz is not there"):
        planned(shapes, "shapes")


def test_images_that_are_none_are_refused(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS.get("shapes")("quick")
    right = task.arrays()  # type: ignore[attr-defined]
    images, labels = right["test"]
    for wrong, says in (
        ((images / 255.0, labels), "images of shape .* and type float64"),
        ((images.astype(np.int64) - 128, labels), "type int64"),
        ((images[..., 0], labels), "uint8, 0 to 255"),
        ((images.transpose(0, 3, 1, 2), labels), r"\(20, 3, 24, 24\)"),
        ((images, labels[:-3]), "20 images and 17 labels"),
        (None, "has no split 'test'"),
    ):
        given = (
            {**right, "test": wrong} if wrong else {k: right[k] for k in ("train", "validation")}
        )
        monkeypatch.setattr(type(task), "arrays", lambda self, given=given: given)
        with pytest.raises(BenchError, match=f"task 'shapes'.*{says}"):
            task.load()


def test_what_a_task_raises_is_one_line_that_names_it(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("origin", "problem"):
        with monkeypatch.context() as patch:
            patch.setattr(TASKS.get("shapes"), part, lambda self: {}["nothing"])
            with pytest.raises(BenchError, match="task 'shapes': KeyError: 'nothing'"):
                planned(shapes, "shapes")
    monkeypatch.setattr(TASKS.get("shapes"), "origin", lambda self: "drawn")
    with pytest.raises(BenchError, match="its origin is a str"):
        planned(shapes, "shapes")
