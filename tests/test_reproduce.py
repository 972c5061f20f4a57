"""A recorded cell run again from its record alone."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from bench import cli
from bench.errors import EXIT_FAILED_CELLS, EXIT_OK, EXIT_USER
from bench.progress import Progress
from bench.reproduce import _told, compare_numbers, device_for, differs_before, plan_of
from bench.runner import run_plan
from bench.store import record_files
from bench.tasks.cifar import Cifar10

if TYPE_CHECKING:
    from conftest import Call

GRID = "--tasks cifar10:n=40 --seeds 1 --set epochs=2 --set teacher_recipe.epochs=1 --workers 1"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the record of a really trained cell: a student with a teacher, on a variant."""
    folder = tmp_path_factory.mktemp("published")
    run = f"run --methods kd:temperature=2 {GRID} --results {folder / 'results'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder / "cache"))
        patch.setattr("sys.argv", ["bench", *run.split()])
        with pytest.raises(SystemExit) as left:
            cli.main()
    assert not left.value.code
    (path,) = record_files(folder / "results")
    return path


def changed(record: Path, folder: Path, **fields: Any) -> Path:
    """Write a copy of ``record`` with a part of it replaced, by path with ``__`` for dots."""
    content = json.loads(record.read_text())
    for path, value in fields.items():
        *parents, leaf = path.split("__")
        target = content
        for name in parents:
            target = target[name]
        target[leaf] = value
    copy = folder / "record.json"
    copy.write_text(json.dumps(content))
    return copy


def test_every_number_comes_out_again_with_everything_made_anew(
    process: Call, record: Path, own_cache: Path
) -> None:
    said = process("reproduce", str(record))  # whose workers have this test's empty cache
    assert said.code == EXIT_OK, said.out
    assert list((own_cache / "teachers").iterdir())
    published = json.loads(record.read_text())
    score = f"{published['metrics']['best']['test']['accuracy']:.10g}"
    assert f"best.test.accuracy: {score} then, {score} now" in said.out
    assert "recorded numbers are the same to the last bit" in said.out
    assert "note:" not in said.out


def test_the_records_own_preset_is_run_when_the_project_has_moved_on(
    call: Call, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Cifar10.presets["quick"]
    moved = quick.model_copy(
        update={"recipe": quick.recipe.model_copy(update={"learning_rate": 0.05, "clip": None})}
    )
    monkeypatch.setattr(Cifar10, "presets", {**Cifar10.presets, "quick": moved})
    said = call("reproduce", str(record))
    assert said.code == EXIT_OK, said.out


def test_batches_that_were_cut_are_cut_again(call: Call, record: Path, tmp_path: Path) -> None:
    """As after memory ran out: statistics of BatchNorm are those of the parts."""
    whole = json.loads(record.read_text())
    run_plan(
        plan_of(whole, device="cpu"),
        results=tmp_path,
        workers=1,
        threads=1,
        progress=Progress(Console(quiet=True)),
        micro_batches=2,
    )
    (path,) = record_files(tmp_path)
    cut = json.loads(path.read_text())
    assert cut["key"] == whole["key"] and cut["batching"]["micro_batches"] == 2
    assert cut["epochs"][0]["losses"] != whole["epochs"][0]["losses"]
    said = call("reproduce", str(path))
    assert "each batch in 2 parts as then" in said.out
    assert said.code == EXIT_OK, said.out


def test_a_run_without_room_for_the_cache_is_repeated_without(record: Path) -> None:
    """Cached outputs are rounded, and the key says nothing of them."""
    found = json.loads(record.read_text())
    assert plan_of(found, device="cpu").cells[0].cache_bytes > 0
    found["teacher"]["served"] = "live"
    (cell,) = plan_of(found, device="cpu").cells
    assert (cell.signals, cell.cache_bytes, cell.key) == ("auto", 0, found["key"])
    found["key"] = "0" * 64  # the method has changed since: served as then all the same
    assert plan_of(found, device="cpu").cells[0].cache_bytes == 0


def test_what_differs_is_said(call: Call, record: Path, tmp_path: Path) -> None:
    """Of the setting before the run, of the numbers after it."""
    old = changed(
        record,
        tmp_path,
        key="0" * 64,
        cell__code="1" * 64,
        environment__torch="1.0",
        revision__git="2" * 40,
        metrics__best__test__accuracy=0.9999,
        teacher__test__accuracy=0.5,
    )
    said = call("reproduce", str(old))
    assert said.code == EXIT_FAILED_CELLS
    assert "note: the method's code has changed since" in said.out
    assert "note: torch: 1.0 then" in said.out
    assert "note: revision: 222222222222 then" in said.out
    assert "note: the teacher was trained again and differs (test.accuracy 0.5 then" in said.out
    assert "best.test.accuracy: 0.9999 then" in said.out
    same, of = re.search(r"(\d+) of (\d+) recorded numbers", said.out).groups()  # type: ignore[union-attr]
    assert int(same) == int(of) - 1  # the altered one


def test_what_an_earlier_run_left_is_not_gone_on_from(call: Call, record: Path) -> None:
    from bench.training.checkpoint import checkpoint_path

    (cell,) = plan_of(json.loads(record.read_text()), device="cpu").cells
    left = checkpoint_path(f"cell-{cell.key[:24]}")
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"of another run")
    said = call("reproduce", str(record))
    assert said.code == EXIT_OK, said.out
    assert not left.exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"status": "failed"}, "ended as 'failed'"),
        ({"external": {"origin": "others"}}, "not from this suite"),
        ({"kind": "cost"}, "this is a record of costs (name a record of scores)"),
        ({"cell__preset_values__teacher_checkpoint": "…/mine.safetensors"}, "hides the path in"),
        (
            {"cell__method": "kdd"},
            "unknown method 'kdd' (did you mean 'kd'?; or name its plug-in: --plugin)",
        ),
        ({"cell__task": "cifra10"}, "unknown task 'cifra10' (did you mean 'cifar10'?)"),
        ({"cell__options": {"temperature": "hot"}}, "temperature = 'hot'"),
        ({"batching": {"micro_batches": "many"}}, "cut into 'many' parts"),
        ({"cell__seed": -1}, "seeds must be different whole numbers from 0"),
        ({"cell__teacher_seed": -3}, "teacher_seed = -3"),
        ({"cell__source": "tape"}, "source = 'tape'"),
        ({"cell__options": None}, "cell.options is no object"),
        ({"cell__options": [1]}, "cell.options is no object"),
        ({"cell__preset_values": [1]}, "cell.preset_values is no object"),
        ({"cell__overrides": [1]}, "cell.overrides is not an object"),
        ({"epochs": [1, 2]}, "epochs are not a list of objects"),
        ({"epochs": 2}, "epochs are not a list of objects"),
        ({"revision": ["x"]}, "'revision' is no object"),
        ({"environment": "here"}, "'environment' is no object"),
    ],
)
def test_records_that_cannot_be_run_are_refused(
    call: Call, record: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    said = call("reproduce", str(changed(record, tmp_path, **fields)))
    assert said.code == EXIT_USER
    assert message in said.err
    assert said.err.count("\n") == 1


def test_odd_numbers_of_a_stranger_are_told(record: Path) -> None:
    content = json.loads(record.read_text())
    content["revision"] = {"git": 12}
    cell = plan_of(content, device="cpu").cells[0]
    assert [note for note in differs_before(content, cell, 1) if note.startswith("revision: 12")]
    content["metrics"]["best"]["test"]["accuracy"] = 10**400
    told: list[str] = []
    compared = compare_numbers(content, json.loads(record.read_text()))
    assert _told(compared, "accuracy", told.append) == EXIT_FAILED_CELLS
    assert told[0].startswith("best.test.accuracy: 1000")


def test_another_device_is_told_as_such(record: Path) -> None:
    content = json.loads(record.read_text())
    cell = dataclasses.replace(plan_of(content, device="cpu").cells[0], device="cuda")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.reproduce.environment", lambda *_: {"device": "cuda"})
        notes = differs_before(content, cell, 1)
    assert "device: cpu then, cuda now" in notes
    assert not [note for note in notes if "teacher" in note or "protocol" in note]
    assert device_for(content, "auto") == "cpu"
