from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from factory import failure, record

from bench.errors import BenchError
from bench.report import write_reports
from bench.report.content import Context
from bench.report.figures.dots import draw
from bench.report.figures.style import encode
from bench.report.frame import collect
from bench.store import Record, write_record


def some_records() -> list[Record]:
    names = ["scratch", "kd", "kd $x$ | <script>", *(f"m{number}" for number in range(12))]
    return [
        record("kd" if name != "scratch" else name, seed, 0.7 + at / 100 + seed / 50, label=name)
        for at, name in enumerate(names)
        for seed in range(2)
    ] + [failure("fitnets", 0, "no"), record("teacher", 0, 0.9, teacher=None)]


def fill(root: Path, records: list[Record]) -> Path:
    for made in records:
        write_record(root, made)
    return root


def test_two_renderings_are_the_same_bytes_wherever_the_records_lie(tmp_path: Path) -> None:
    first = fill(tmp_path / "a" / "results", some_records())
    second = fill(tmp_path / "b" / "other", some_records()[::-1])
    one = write_reports(first, tmp_path / "one")
    two = write_reports(second, tmp_path / "two")
    assert [path.name for path in one.paths] == [
        *["leaderboard.md", "leaderboard.svg", "leaderboard.png"]
    ]
    for left, right in zip(one.paths, two.paths, strict=True):
        assert left.read_bytes() == right.read_bytes()
        assert str(tmp_path).encode() not in left.read_bytes()


def test_files_with_the_same_bytes_are_left_alone(tmp_path: Path) -> None:
    results = fill(tmp_path / "results", some_records()[:4])
    summary = write_reports(results, tmp_path / "out")
    assert summary.written == summary.paths
    before = [path.stat().st_mtime_ns for path in summary.paths]
    assert write_reports(results, tmp_path / "out").written == ()
    assert [path.stat().st_mtime_ns for path in summary.paths] == before
    write_record(results, record("gpd", 0, 0.75))
    assert write_reports(results, tmp_path / "out").written == summary.paths


def test_the_page_links_the_figure_by_a_relative_path(tmp_path: Path) -> None:
    write_reports(fill(tmp_path / "results", some_records()[:4]), tmp_path / "out")
    page = (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8")
    links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", page)
    assert links
    assert all((tmp_path / "out" / link).is_file() for link in links)


def test_an_unreadable_file_is_a_problem_and_a_footnote(tmp_path: Path) -> None:
    results = fill(tmp_path / "results", some_records()[:4])
    (results / "quick" / "broken.json").write_text("{oops", encoding="utf-8")
    (results / "old.json").write_text('{"schema": 0}', encoding="utf-8")
    summary = write_reports(results, tmp_path / "out")
    assert summary.records == 4
    assert len(summary.problems) == 2
    page = (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8")
    assert "- quick/broken.json: not a readable record" in page
    assert "- old.json: record schema 0" in page


def test_superseded_records_are_counted(tmp_path: Path) -> None:
    newer = record("kd", 0, 0.9, finished="2026-01-01T00:00:00Z")
    results = fill(tmp_path / "results", [record("kd", 0, 0.1), newer])
    summary = write_reports(results, tmp_path / "out")
    assert (summary.records, summary.superseded) == (2, 1)
    page = (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8")
    assert "1 superseded" in page
    assert "10.00" not in page


def test_only_failures_still_give_a_report(tmp_path: Path) -> None:
    results = fill(tmp_path / "results", [failure("kd", 0, "no"), failure("gpd", 0, "no")])
    write_reports(results, tmp_path / "out")
    page = (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8")
    assert "- gpd, seed 0, failed: ValueError: no" in page


def test_no_records_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no records under") as caught:
        write_reports(tmp_path, tmp_path / "out")
    assert caught.value.hint == "run `python -m bench all` first"
    (tmp_path / "broken.json").write_text("", encoding="utf-8")
    with pytest.raises(BenchError, match=r"cannot read: broken\.json"):
        write_reports(tmp_path, tmp_path / "out")


def test_a_method_keeps_its_look_across_facets_and_state_stays_clean() -> None:
    import matplotlib
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    more = [record("kd", 0, 0.4, task="imdb"), record("m3", 0, 0.5, task="imdb")]
    context = Context(collect([*some_records(), *more]).frame)
    figure = draw(context.sections, context.looks)
    assert encode(figure, "svg").startswith(b"<?xml")
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == []

    def colours(facet: int) -> dict[str, str]:
        ax = figure.axes[facet]
        names = [label.get_text().split(" (")[0] for label in ax.get_yticklabels()]
        means = {
            float(line.get_ydata()[0]): line.get_color()
            for line in ax.get_lines()
            if line.get_marker() in ("o", "s", "D", "^") and len(line.get_ydata()) == 1
        }
        return {name: means[at] for at, name in enumerate(names) if at in means}

    assert colours(1).items() <= colours(0).items()
    assert set(colours(1)) == {"kd", "m3"}


def test_importing_and_rendering_needs_no_torch() -> None:
    code = (
        "import sys, bench.report, bench.report.figures.dots, bench.report.leaderboard; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
