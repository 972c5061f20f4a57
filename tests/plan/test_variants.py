"""Tasks with few labels or a long tail: cells, teachers and names of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from planned import cell, plan

from bench.cells import TeacherSpec
from bench.errors import BenchError
from bench.runner import jobs_for
from bench.store import record_path
from bench.teachers.serve import SignalsSpec


@pytest.mark.parametrize("task", ["cifar10:n=100", "cifar10:n=200", "cifar10:imbalance=10"])
def test_a_variant_is_in_every_key(task: str) -> None:
    keys = {
        cell(method, tasks=[each]).key for method in ("kd", "scratch") for each in (task, "cifar10")
    }
    assert len(keys) == 4
    name, option = task.split(":")
    key, value = option.split("=")
    assert cell(tasks=[task]).key == cell(tasks=[name], overrides={key: value}).key


def test_a_variant_is_in_name_title_and_path_and_not_in_the_preset(tmp_path: Path) -> None:
    found = cell(tasks=["cifar10:n=100:epochs=2"])
    described = found.described()
    assert described["task"] == "cifar10:n=100"
    assert described["variant"] == {
        **{"of": "cifar10", "n": 100, "imbalance": None, "teacher_data": "labelled"}
    }
    assert described["overrides"] == {"epochs": "2"}
    assert found.task_info["title"] == "cifar10:n=100 · embedded digits"
    assert "100 labelled training samples" in found.task_info["limits"]
    assert "the teacher learned from the same samples" in found.task_info["limits"]
    weights = tmp_path / "teacher.safetensors"
    weights.write_bytes(b"weights")
    taught = cell("kd", overrides={"n": "100", "teacher_checkpoint": str(weights)})
    assert "weights come from a file" in taught.task_info["limits"]
    assert "learned from the same samples" not in taught.task_info["limits"]
    path = record_path(Path("r"), {"cell": described, "key": found.key})
    assert path.parent == Path("r/quick/cifar10-n=100/kd")
    assert "variant" not in cell().described()


def test_the_teacher_of_few_labels_has_seen_only_those_unless_asked() -> None:
    whole = cell()
    few = cell(tasks=["cifar10:n=100"])
    outside = cell(tasks=["cifar10:n=100:teacher_data=all"])
    assert whole.teacher and few.teacher and outside.teacher
    assert outside.teacher.key == whole.teacher.key != few.teacher.key
    assert "n" not in outside.teacher.overrides
    assert outside.key != few.key
    assert "all training labels" in outside.task_info["limits"]
    # a table of its own needs a reference of its own
    plain = [cell("scratch", tasks=[f"cifar10:n=100{more}"]) for more in ("", ":teacher_data=all")]
    assert plain[0].key != plain[1].key
    assert cell(tasks=["cifar10:teacher_data=all"]).key == whole.key


def test_one_teacher_s_signals_are_filled_for_each_part() -> None:
    tasks = [f"cifar10:n={n}:teacher_data=all" for n in (100, 200)]
    found = plan(methods=["kd", "lelp"], tasks=[*tasks, "cifar10"])
    jobs = jobs_for(found, set(), results=Path("r"), threads=1)
    signals = [job for job in jobs if isinstance(job.work, SignalsSpec)]
    assert len({job.id for job in signals}) == 3
    for job in signals:
        assert len({each.full_task for each in job.work.cells}) == 1
    assert len([job for job in jobs if isinstance(job.work, TeacherSpec)]) == 1


def test_tasks_with_options_are_told_apart_and_wrong_ones_named() -> None:
    found = plan(tasks=["cifar10", "cifar10:n=100", "cifar10:n=100", "cifar10:n=200"]).cells
    assert [each.full_task for each in found] == ["cifar10", "cifar10:n=100", "cifar10:n=200"]
    with pytest.raises(BenchError, match=r"'imbalence' \(did you mean 'imbalance'\?\)"):
        plan(tasks=["cifar10:imbalence=10"])
    with pytest.raises(BenchError, match="n=100 and imbalance=10 are both given"):
        plan(tasks=["cifar10:n=100"], overrides={"imbalance": 10})
    with pytest.raises(BenchError, match="asked for twice"):
        plan(tasks=["cifar10:n=100", "cifar10:n=0100"])
