"""Records on disk: whole or not at all, inside their folder, refused when wrong."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.store import (
    read_costs,
    read_predictions,
    read_record,
    read_records,
    record_path,
    remove_leftovers,
    slug,
    write_atomically,
    write_predictions,
    write_record,
)

HOSTILE = [
    "..",
    "../..",
    "/etc/passwd",
    "a/../../b",
    "a\nb\0c",
    "<script>",
    ".hidden",
    "",
    " ",
    "é",
]
ROOT = Path("/results")


def make(**cell: Any) -> dict[str, Any]:
    named = {"preset": "quick", "task": "cifar10", "label": "kd (temperature=2)", "seed": 0, **cell}
    return {"schema": 1, "key": "0" * 64, "status": "ok", "cell": named, "task": {}}


def test_record_round_trip(tmp_path: Path) -> None:
    record = make(label="kd · τ=2")
    path = write_record(tmp_path, record)
    assert path == record_path(tmp_path, record)
    assert path.relative_to(tmp_path).parts[:2] == ("quick", "cifar10")
    assert path.name == "seed0-000000000000.json"
    assert read_record(path) == record
    assert read_records(tmp_path) == ([record], [])


def test_other_keys_never_share_a_file(tmp_path: Path) -> None:
    one, two = make(), {**make(), "key": "1" * 64}
    assert write_record(tmp_path, one) != write_record(tmp_path, two)
    assert len(read_records(tmp_path)[0]) == 2


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path, {**make(), "metrics": {"accuracy": float("nan")}})
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_failure_while_writing_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if broken == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]


def test_data_is_flushed_before_the_file_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen, real = tmp_path / "record.json", [], os.fsync

    def watch(handle: int) -> None:
        seen.append((path.exists(), os.fstat(handle).st_size))
        real(handle)

    monkeypatch.setattr(os, "fsync", watch)
    write_atomically(path, b"12345")
    assert seen == [(False, 5)]


@pytest.mark.parametrize("text", HOSTILE)
def test_slug_of_hostile_names(text: str) -> None:
    assert slug(text) not in ("", ".", "..")
    assert not set(slug(text)) & set("/\\\n\0<> ")


@given(st.text(), st.text(), st.text(), st.integers(0, 99))
def test_records_stay_inside_the_folder(preset: str, task: str, name: str, seed: int) -> None:
    path = record_path(ROOT, make(preset=preset, task=task, label=name, seed=seed))
    assert len(path.relative_to(ROOT).parts) == 4
    assert os.path.normpath(path) == str(path)
    assert all(len(part.encode()) < 256 for part in path.parts)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_record_is_written_below_the_root(tmp_path: Path, text: str) -> None:
    root = tmp_path / "deep" / "results"
    path = write_record(root, make(preset=text, task=text, label=text))
    assert path.resolve().is_relative_to(root.resolve())
    assert read_records(root)[0][0]["cell"]["label"] == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not a readable record"),
        (b"\xff\xfe", "not a readable record"),
        (b"", "not a readable record"),
        (b"[1]", "not a record"),
        (b"{}", "not a record"),
        (
            json.dumps({**make(), "schema": 99}).encode(),
            r"schema 99 \(this version reads 1;",
        ),
        (json.dumps({"schema": 1, "key": "0"}).encode(), "record lacks cell, status, task"),
    ],
)
def test_wrong_records_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "quick" / "broken.json"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(BenchError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    write_record(tmp_path, make())
    records, problems = read_records(tmp_path)
    assert records == [make()]
    assert len(problems) == 1 and str(path) in problems[0]


def test_half_written_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / ".seed0-abc.json.xyz.tmp").write_bytes(b"{")
    (tmp_path / ".seed0-abc.json").write_bytes(b"{")
    assert read_records(tmp_path) == ([], [])
    assert read_records(tmp_path / "gone") == ([], [])


def test_files_in_hidden_folders_are_not_read(tmp_path: Path) -> None:
    results = tmp_path / ".cache" / "results"  # where the results lie themselves is no matter
    for folder in (results / "amazon", results / "amazon" / ".ipynb_checkpoints"):
        folder.mkdir(parents=True)
        for name in ("seed0.json", "cost-none.cost.json"):
            (folder / name).write_text("{}")
    assert len(read_records(results)[1]) == len(read_costs(results)[1]) == 1


def test_predictions_round_trip(tmp_path: Path) -> None:
    import hashlib

    arrays = {
        "best_test": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32),
        "last_test": np.zeros((0, 3), np.float32),
    }
    path = tmp_path / "seed0.npz"
    digest = write_predictions(path, arrays)
    found = read_predictions(path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_pickled_predictions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pickled.npz"
    np.savez(path, best_test=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_predictions(path)


def test_what_killed_writers_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    names = (".x.json.ab12_cd3.tmp", ".y.npz.ab12_cd3.tmp", ".draft.tmp", "seed0.json")
    old, young, foreign, record = (tmp_path / "a" / name for name in names)
    old.parent.mkdir()
    for path in (old, young, foreign, record):
        path.touch()
    for path in (old, foreign):
        os.utime(path, (0, time.time() - 7200))
    assert remove_leftovers(tmp_path) == 1
    assert not old.exists() and young.exists() and foreign.exists() and record.exists()


def test_a_killed_writers_file_is_known_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr("pathlib.Path.replace", lambda *_: os._exit(0))
        if not (writer := os.fork()):
            write_atomically(tmp_path / "seed0-abc.samples.json", b"{}")
        os.waitpid(writer, 0)
    assert len(list(tmp_path.iterdir())) == 1
    assert remove_leftovers(tmp_path, older_than=-1.0) == 1


def test_files_are_as_open_to_others_as_the_umask_says(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_atomically(tmp_path / "seed0.json", b"{}")
    assert (tmp_path / "seed0.json").stat().st_mode == plain.stat().st_mode
