"""The report commands through the command line: what they print, what they write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from factory import record, runs_of
from processes import python

from bench.errors import EXIT_OK
from bench.report.agreement import _predictions
from bench.store import write_record

if TYPE_CHECKING:
    from conftest import Call


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for made in runs_of("amazon"):
        write_record(tmp_path / "results", made)
    return tmp_path / "results"


def test_chosen_tables_are_printed_or_written(call: Call, results: Path, tmp_path: Path) -> None:
    words = ["--task", "amazon", "--columns", "method,test", "--sort", "-test", "--format", "csv"]
    said = call("report", *words)
    assert said.code == 0, said.err
    rows = [line.partition(",")[0] for line in said.out.splitlines()]
    assert rows[1:3] == ["scratch", "kd"]
    assert call("report", *words, "--out", "table.csv").code == 0
    assert (tmp_path / "table.csv").read_text() == said.out
    assert not (tmp_path / "reports").exists()


def test_import_takes_in_a_table_once_and_replaces_when_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "paper.csv").write_text("task,method,seed,score\ncifar10,kd,0,0.7\n")
    words = ["import", "paper.csv", "--origin", "A Paper"]
    said = call(*words)
    assert said.code == 0 and "1 records of 'A Paper' imported" in said.out
    (tmp_path / "paper.csv").write_text("task,method,seed,score\ncifar10,kd,0,0.8\n")
    assert call(*words).code == 2
    assert call(*words, "--replace").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("report", "--task", "amazon", "--out", "afile/x.md"),
        ("publish", "afile/sub"),
        ("import", "paper.csv", "--origin", "A Paper", "--results", "afile"),
    ],
    ids=lambda words: words[0],
)
def test_a_file_where_a_folder_is_needed_is_told_in_one_line(
    call: Call, results: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "afile").write_text("mine")
    (tmp_path / "paper.csv").write_text("task,method,seed,score\ncifar10,kd,0,0.7\n")
    said = call(*words)
    assert said.code == 2
    assert "cannot be written" in said.err and said.err.count("\n") == 1
    assert (tmp_path / "afile").read_text() == "mine"


def test_a_terminal_without_all_characters_gets_them_escaped(tmp_path: Path) -> None:
    write_record(tmp_path, record("kd", 0, 0.8))
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    arguments = ("report", "--results", str(tmp_path), "--task", "amazon")
    done = python("-m", "bench", *arguments, **ascii_only)
    assert done.code == EXIT_OK, done.err
    assert "\\xb7" in done.out


def test_a_name_of_predictions_that_no_file_can_have_is_none(tmp_path: Path) -> None:
    made = record("kd", 0, 0.8)
    made["teacher"] = {**(made.get("teacher") or {}), "key": "0"}
    for name in ("x" * 300 + ".npz", "a\0.npz"):
        made["predictions"] = {"file": name, "sha256": "0"}
        assert _predictions(made, tmp_path) is None
