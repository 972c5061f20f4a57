"""A checkpoint is kept until what it stands in for is written."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cells import Cell
from bench.generators.train import ensure_generator
from bench.plan import make_plan
from bench.run_cell import run_cell
from bench.suites import Suite
from bench.teachers.train import ensure_teacher

TINY = {
    "train_limit": 64,
    "recipe.epochs": 2,
    "teacher_recipe.epochs": 2,
    "generator": "autoencoder-w8-z2",
    "generator_recipe.epochs": 2,
}


def planned(method: str) -> Cell:
    suite = Suite(methods=(method,), tasks=("cifar10",), seeds=(0,), overrides=TINY)
    (cell,) = make_plan(suite, device="cpu").cells
    return cell


def student(folder: Path, report: Callable[[Any], None]) -> Any:
    return run_cell(planned("scratch"), folder, report)["metrics"]


def teacher(folder: Path, report: Callable[[Any], None]) -> Any:
    return ensure_teacher(planned("kd").teacher, report)["test"]  # type: ignore[arg-type]


def generator(folder: Path, report: Callable[[Any], None]) -> Any:
    ensure_teacher(planned("tgt").teacher)  # type: ignore[arg-type]
    return ensure_generator(planned("tgt").generator, report)["judged"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trained", "writes"),
    [
        (student, "bench.run_cell.write_record"),
        (teacher, "bench.teachers.train.TeacherFiles.write"),
        (generator, "bench.generators.train.GeneratorFiles.write"),
    ],
    ids=["student", "teacher", "generator"],
)
def test_what_cannot_be_written_is_not_trained_again(
    trained: Callable[..., Any],
    writes: str,
    tmp_path: Path,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    epochs: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(writes, full)
        with pytest.raises(OSError, match="No space"):
            trained(tmp_path, epochs.append)
    assert len(epochs) == 2 and list((own_cache / "running").iterdir())
    assert trained(tmp_path, epochs.append)
    assert len(epochs) == 2
    assert not list((own_cache / "running").iterdir())
