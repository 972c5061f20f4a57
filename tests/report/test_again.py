"""A report whose records, code and files are those of last time is not rendered again."""

from __future__ import annotations

from pathlib import Path

import pytest
from factory import record

from bench.report import write_reports
from bench.report.again import inputs_digest, remembered
from bench.report.files import SUMS
from bench.store import record_path, write_record


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    for seed in (0, 1):
        write_record(tmp_path / "results", record("scratch", seed, 0.7))
        write_record(tmp_path / "results", record("kd", seed, 0.8))
    return tmp_path / "results"


def rendered(results: Path, out: Path) -> bool:
    """Render where that is needed, and say whether it was."""
    same = remembered(results, out, inputs_digest(results))
    summary = write_reports(results, out)
    if same is not None:
        assert summary == same
    assert (out / SUMS).is_file() and set(summary.paths) >= {out / "leaderboard.md"}
    return same is None


def test_the_same_is_not_rendered_twice_and_told_the_same(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    first = write_reports(results, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    again = write_reports(results, out)
    assert not rendered(results, out)
    assert (again.paths, again.records, again.problems) == (first.paths, 4, first.problems)
    assert first.written and again.written == ()
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert after == before


def test_another_folder_is_rendered(results: Path, tmp_path: Path) -> None:
    write_reports(results, tmp_path / "one")
    assert rendered(results, tmp_path / "two")


def test_whatever_changes_is_rendered_again(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    write_reports(results, out)
    write_record(results, record("dkd", 0, 0.81))
    assert rendered(results, out) and not rendered(results, out)
    path = record_path(results, record("dkd", 0, 0.81))
    path.write_text(path.read_text().replace("0.81", "0.82"))
    assert rendered(results, out) and not rendered(results, out)
    assert "82.00" in (out / "leaderboard.md").read_text()
    path.unlink()
    assert rendered(results, out) and "dkd" not in (out / "leaderboard.md").read_text()
    (results / "predictions.npz").write_bytes(b"0")
    assert rendered(results, out)
    (results / "nowhere.json").symlink_to(results / "gone")
    assert rendered(results, out)


def test_a_report_file_that_was_changed_or_lost_comes_back(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    write_reports(results, out)
    page = (out / "leaderboard.md").read_bytes()
    for damage in (lambda path: path.write_text("mine"), lambda path: path.unlink()):
        for name in ("leaderboard.md", SUMS):
            damage(out / name)
            assert rendered(results, out)
            assert (out / "leaderboard.md").read_bytes() == page


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"inputs": 3}'])
def test_an_odd_note_is_no_note(results: Path, tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "reports"
    write_reports(results, out)
    (note,) = (tmp_path / "cache" / "reports").iterdir()
    note.write_bytes(content)
    assert rendered(results, out) and not rendered(results, out)
