"""The report commands through the command line: what they print, what they write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from factory import runs_of

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
