"""How a cell gets its teacher: cached signals that no longer match are said and made again."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from bench import METHODS
from bench.cells import Cell
from bench.data.cache import cache_dir
from bench.data.fingerprint import file_sha256
from bench.opening import open_task
from bench.plan import Serving, make_plan
from bench.suites import Suite
from bench.teachers.serve import open_signals
from bench.teachers.signals import CachedTeacher
from bench.teachers.store import TeacherFiles
from bench.teachers.train import ensure_teacher

TINY = {"train_limit": 64, "epochs": 1, "teacher_recipe.epochs": 1}


def planned(methods: tuple[str, ...] = ("kd",), **serving: object) -> Cell:
    suite = Suite(methods=methods, tasks=("cifar10",), seeds=(0,), overrides=TINY)
    (cell,) = make_plan(suite, device="cpu", serving=Serving(**serving)).cells  # type: ignore[arg-type]
    assert cell.teacher is not None
    ensure_teacher(cell.teacher)
    return cell


@pytest.mark.parametrize("check", [True, False])
def test_signals_of_other_samples_are_said_and_made_again_when_checked(
    check: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cell = planned(check_cache=check)
    task = open_task(cell)
    data = task.load()
    source = open_signals(cell, task, data, ())
    assert isinstance(source, CachedTeacher)
    path = source.folder / "view-0-0-logits.npy"
    good = np.load(path)
    np.save(path, np.roll(good, 1, axis=0))  # whole, by its checksum, and wrong
    manifest = source.folder / "manifest.json"
    noted = json.loads(manifest.read_text())
    noted["sha256"]["view-0-0-logits"] = file_sha256(path)
    manifest.write_text(json.dumps(noted))
    with caplog.at_level(logging.WARNING, "bench"):
        open_signals(cell, task, data, ())
    assert np.array_equal(np.load(path), good) == check
    assert ("stale and are made again" in caplog.text) == check


def test_live_keeps_nothing_and_what_passes_the_limit_is_live() -> None:
    for serving in ({"signals": "live"}, {"cache_bytes": 0}):
        cell = planned(**serving)
        task = open_task(cell)
        assert open_signals(cell, task, task.load(), ()).served == "live"


def test_no_room_for_signals_is_live_whatever_another_run_has_kept() -> None:
    cell = planned()
    task = open_task(cell)
    data = task.load()
    assert isinstance(open_signals(cell, task, data, ()), CachedTeacher)
    without = planned(cache_bytes=0)
    assert without.key == cell.key
    assert open_signals(without, task, data, ()).served == "live"


def test_one_checkpoint_has_signals_of_its_own_on_each_kind_of_data(tmp_path: Path) -> None:
    """As many rows of other texts, or of texts cut elsewhere, are not the same samples."""
    small = {**TINY, "teacher": "bert-L1-H32", "frozen_teacher": False}

    def cell_of(task: str, **changes: object) -> Cell:
        overrides = {**small, **changes}
        suite = Suite(methods=("kd",), tasks=(task,), seeds=(0,), overrides=overrides)
        (cell,) = make_plan(suite, device="cpu").cells
        assert cell.teacher is not None
        ensure_teacher(cell.teacher)
        return cell

    first = cell_of("amazon")
    assert first.teacher is not None
    given = tmp_path / "mine.safetensors"
    given.write_bytes(TeacherFiles.of(first.teacher.task, first.teacher.key).weights.read_bytes())
    folders = set()
    for task, length in (("amazon", 64), ("amazon", 8), ("sentiment140", 64)):
        cell = cell_of(task, teacher_checkpoint=str(given), max_length=length)
        opened = open_task(cell)
        source = open_signals(cell, opened, opened.load(), ())
        assert isinstance(source, CachedTeacher)
        folders.add(source.folder)
    assert len(folders) == 3


def test_passes_before_training_are_cut_like_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.data.splits import Split
    from bench.opening import make_contender
    from bench.prepare import prepare

    sizes: list[int] = []
    plain = Split.evaluation_order

    def spied(self: Split, size: int) -> object:
        sizes.append(size)
        return plain(self, size)

    cell = planned(methods=("lelp:subclasses=2",))
    task = open_task(cell)
    monkeypatch.setattr(Split, "evaluation_order", spied)
    prepare(cell, task, task.load(), make_contender(cell), 4)  # type: ignore[arg-type]
    assert sizes and set(sizes) == {task.preset.evaluation_batch // 4}


def test_nothing_is_kept_for_a_method_that_never_looks_at_it() -> None:
    """Feature maps of augmented images come from the teacher itself, at every batch."""
    cell = planned(methods=("fitnets_joint",))
    task = open_task(cell)
    signals = METHODS.get("fitnets_joint").signals
    assert open_signals(cell, task, task.load(), [1], signals=signals).served == "live"
    assert not list((cache_dir() / "signals").rglob("*.npy"))
    assert isinstance(open_signals(cell, task, task.load(), [1]), CachedTeacher)
