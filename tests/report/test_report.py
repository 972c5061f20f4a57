from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from factory import context, failure, record, world
from processes import python

from bench.errors import BenchError
from bench.report import write_reports
from bench.report.figures.dots import draw
from bench.report.figures.style import encode
from bench.report.parts import build
from bench.store import Record, write_record

if TYPE_CHECKING:
    from conftest import Call


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
    names = [path.relative_to(tmp_path / "one").as_posix() for path in one.paths]
    assert {"leaderboard.md", "index.html", "SHA256SUMS", "tables/scores.csv"} <= set(names)
    assert {"figures/scores-quick-embedded-cpu.svg", "figures/scores-quick-embedded-cpu.png"} <= {
        *names
    }
    for left, right in zip(one.paths, two.paths, strict=True):
        assert left.read_bytes() == right.read_bytes()
        assert str(tmp_path).encode() not in left.read_bytes()


@pytest.mark.slow
def test_processes_that_hash_differently_write_the_same_bytes(
    tmp_path: Path, process: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, _ = world(seeds=2, tasks=5, methods=5)  # enough tasks for every figure
    fill(tmp_path / "results", records)
    sums = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        out = tmp_path / f"reports{seed}"
        said = process("report", "--results", str(tmp_path / "results"), "--reports", str(out))
        assert said.code == 0, said.err
        sums.append((out / "SHA256SUMS").read_text())
    assert "figures/ranks-" in sums[0]
    assert sums[0] == sums[1]


def test_files_of_long_presets_keep_their_names_when_others_join_them() -> None:
    def names(devices: tuple[str, ...], tasks: tuple[str, ...] = ("amazon", "imdb")) -> set[str]:
        long = {"recipe.a_setting_with_a_name": "a" * 100, "recipe.another": "b" * 30}
        made = [
            record(label, seed, 0.7, device=device, task=task, overrides=long)
            for label in ("scratch", "kd")
            for seed in range(2)
            for task in tasks
            for device in devices
        ]
        parts = build(context(made))
        return {each.name for part in parts for each in (*part.tables, *part.pictures)}

    alone = names(("cuda",))
    both = names(("cpu", "cuda"))
    assert alone < both and len(both) == 2 * len(alone)
    assert not [name for name in both if re.search(r"-\d$", name)]
    assert max(map(len, both)) < 200


def test_files_with_the_same_bytes_are_left_alone(tmp_path: Path) -> None:
    results = fill(tmp_path / "results", some_records()[:4])
    summary = write_reports(results, tmp_path / "out")
    assert summary.written == summary.paths
    before = [path.stat().st_mtime_ns for path in summary.paths]
    assert write_reports(results, tmp_path / "out").written == ()
    assert [path.stat().st_mtime_ns for path in summary.paths] == before
    write_record(results, record("gpd", 0, 0.75))
    changed = {path.name for path in write_reports(results, tmp_path / "out").written}
    assert {"leaderboard.md", "index.html", "scores.csv", "SHA256SUMS"} <= changed


def test_what_is_no_longer_rendered_is_removed_unless_changed_by_hand(tmp_path: Path) -> None:
    results = fill(tmp_path / "results", [*some_records()[:4], record("kd", 0, 0.4, task="imdb")])
    out = tmp_path / "out"
    write_reports(results, out)
    gone, edited = (out / "tables" / f"imdb-quick-embedded-cpu.{form}" for form in ("csv", "html"))
    own = out / "tables" / "mine.csv"
    own.write_text("mine", encoding="utf-8")
    edited.write_text("changed", encoding="utf-8")
    for path in (results / "quick" / "imdb").rglob("*.json"):
        path.unlink()
    write_reports(results, out)
    assert not gone.exists()
    assert edited.exists() and own.exists()


def test_a_list_of_files_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    out = tmp_path / "out"
    out.mkdir()
    empty = hashlib.sha256(b"").hexdigest()
    (out / "SHA256SUMS").write_text(f"{empty}  ../victim\n{empty}  {victim}\n", encoding="utf-8")
    write_reports(fill(tmp_path / "results", some_records()[:4]), out)
    assert victim.exists()


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
    assert caught.value.hint == "a folder that 'bench run' wrote records into"
    (tmp_path / "broken.json").write_text("", encoding="utf-8")
    with pytest.raises(BenchError, match=r"cannot read: broken\.json"):
        write_reports(tmp_path, tmp_path / "out")


def test_a_method_keeps_its_look_across_facets_and_state_stays_clean() -> None:
    import matplotlib
    import matplotlib.pyplot as plt
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_hex

    before = dict(matplotlib.rcParams)
    more = [record("kd", 0, 0.4, task="imdb"), record("m3", 0, 0.5, task="imdb")]
    made = context([*some_records(), *more])
    figure = draw(made.sections, made.looks)
    assert encode(figure, "svg").startswith(b"<?xml")
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == []

    assert len(figure.axes) == 2
    shown = {look.colour for look in made.looks.values()}
    drawn = {
        to_hex(colour)
        for ax in figure.axes
        for marks in ax.collections
        if isinstance(marks, PathCollection)
        for colour in marks.get_facecolor()
    }
    assert drawn <= shown  # the second facet has no palette of its own


def test_importing_and_rendering_needs_no_torch() -> None:
    code = (
        "import sys, bench.report, bench.report.figures.dots, bench.report.leaderboard; "
        "sys.exit('torch' in sys.modules)"
    )
    assert python("-c", code).code == 0


def test_rows_that_were_dropped_are_told_under_the_table(tmp_path: Path) -> None:
    records = [record("scratch", 0, 0.5), record("kd", 0, 0.6)]
    for made in records:
        made["data"]["dropped"] = {"empty passages": 2, "repeated pairs": 1}
    page = write_reports(fill(tmp_path / "results", records), tmp_path / "out").paths[0]
    assert "Dropped as unusable: 2 empty passages, 1 repeated pairs." in page.read_text()
