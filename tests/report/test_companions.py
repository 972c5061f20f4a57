"""Curves of models trained beside the student, from records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench.report.figure import encode
from factory import record

from bench.report import write_reports
from bench.report.companions import draw, mean_curve, panels
from bench.report.frame import collect
from bench.store import Record, write_record


def with_curves(
    label: str = "gpd", seed: int = 0, names: tuple[str, ...] = ("dynamic teacher",), **more: Any
) -> Record:
    """Return a record of four epochs, the second of which was not scored."""
    made = record(label, seed, 0.8, **more)
    metric = made["task"]["metric"]
    made["epochs"] = [
        {
            "epoch": epoch,
            "validation": None if epoch == 2 else {metric: 0.5 + 0.1 * epoch + 0.01 * seed},
        }
        | (
            {}
            if epoch == 2 or not names
            else {"companions": {name: {metric: 0.52 + 0.1 * epoch} for name in names}}
        )
        for epoch in (1, 2, 3, 4)
    ]
    if made["teacher"]:
        made["teacher"]["validation"] = {metric: 0.95}
    return made


def shown(records: list[Record]) -> Any:
    return panels(collect(records).frame, records)


def test_a_panel_holds_every_seed_of_a_method_and_task() -> None:
    records = [with_curves(seed=seed) for seed in (1, 0)]
    records += [with_curves("kd", names=()), with_curves(task="imdb"), record("scratch")]
    first, second = shown(records)
    assert (first.title, first.label) == ("amazon · embedded snippets", "gpd")
    assert first.student == [
        {1: pytest.approx(0.6), 3: pytest.approx(0.8), 4: pytest.approx(0.9)},
        {1: pytest.approx(0.61), 3: pytest.approx(0.81), 4: pytest.approx(0.91)},
    ]
    assert list(first.companions) == ["dynamic teacher"]
    assert [sorted(curve) for curve in first.companions["dynamic teacher"]] == [[1, 3, 4]] * 2
    assert first.teachers == [0.95]
    assert second.title.startswith("imdb")


def test_superseded_and_failed_records_are_not_drawn() -> None:
    old = with_curves(finished="2024-01-01T00:00:00+00:00")
    broken = with_curves("gpd_scratch")
    broken["status"] = "failed"
    (panel,) = shown([old, with_curves(), broken])
    assert panel.label == "gpd" and len(panel.student) == 1


def test_the_mean_is_over_epochs_that_all_seeds_have() -> None:
    assert mean_curve([{1: 1.0, 2: 2.0}, {2: 4.0, 3: 5.0}, {}]) == {2: 3.0}
    assert mean_curve([]) == {}


@pytest.mark.parametrize("entry", [None, 3, {"companions": None}, {"companions": {"d": None}}])
def test_odd_entries_do_not_stop_the_report(entry: Any) -> None:
    made = with_curves()
    made["epochs"].append(entry)
    (panel,) = shown([made])
    assert sorted(panel.student[0]) == [1, 3, 4]


def test_the_figure_shows_student_companion_and_teacher() -> None:
    records = [with_curves(seed=seed) for seed in (0, 1)]
    figure = draw(shown(records))
    (ax,) = figure.axes
    ends = sorted(round(float(line.get_ydata()[-1]), 6) for line in ax.get_lines())
    # two seeds and their mean of each, and the static teacher's line
    assert ends == [90.0, 90.5, 91.0, 92.0, 92.0, 92.0, 95.0]
    assert ax.get_xlabel() == "epoch" and "validation accuracy" in ax.get_ylabel()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["student", "dynamic teacher", "static teacher", "one seed"]
    alone = with_curves(teacher=None)
    labels = [text.get_text() for text in draw(shown([alone])).legends[0].get_texts()]
    assert "static teacher" not in labels
    # as many panels as there are, whatever the grid
    many = [with_curves(task=f"task{number}") for number in range(5)]
    assert sum(each.get_visible() for each in draw(shown(many)).axes) == 5


def test_the_files_are_written_only_where_there_is_something_and_always_the_same(
    tmp_path: Path,
) -> None:
    plain, curved = tmp_path / "plain", tmp_path / "curved"
    write_record(plain, record("kd"))
    for seed in (0, 1):
        write_record(curved, with_curves(seed=seed))
    assert all(
        "companions" not in path.name for path in write_reports(plain, tmp_path / "one").paths
    )
    first = write_reports(curved, tmp_path / "two")
    names = [path.name for path in first.paths]
    assert names[-2:] == ["companions.svg", "companions.png"]
    assert "(figures/companions.svg)" in (tmp_path / "two" / "leaderboard.md").read_text()
    assert write_reports(curved, tmp_path / "two").written == ()
    second = write_reports(curved, tmp_path / "three")
    for one, other in zip(first.paths, second.paths, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_title_is_not_read_as_mathematics() -> None:
    made = with_curves(label="gpd ($r$=2)")
    made["task"]["title"] = "a $very$ long title of a task whose name does not fit one line at all"
    assert encode(draw(shown([made])), "png").startswith(b"\x89PNG")
