"""Curves of models trained beside the student, from records alone."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from factory import context, record

from bench.report import write_reports
from bench.report.companions import Panel, companion_parts, mean_curve, panels
from bench.report.content import Context, Heading
from bench.report.curves import curves
from bench.report.figures.companions import draw
from bench.report.figures.style import encode
from bench.report.select import load
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


def of(records: list[Record]) -> Context:
    return context(records)


def shown(records: list[Record]) -> list[Panel]:
    context = of(records)
    return [panel for section in context.sections for panel in panels(context, section)]


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


def test_results_of_others_are_never_drawn_with_ours() -> None:
    theirs = with_curves(seed=1)
    theirs |= {"key": "theirs", "external": {"origin": "A Paper"}}
    records = [with_curves(), theirs]
    ours, other = shown(records)
    assert [len(panel.student) for panel in (ours, other)] == [1, 1]
    assert "A Paper" not in ours.where and "external: A Paper" in other.where
    (part,) = companion_parts(of(records))
    names = [picture.name for picture in part.pictures]
    assert names == [
        "companions-quick-embedded-cpu",
        "companions-quick-embedded-cpu-A-Paper",
    ]
    headings = [block.text for block in part.blocks if isinstance(block, Heading)]
    assert headings[1] == "Preset quick, source embedded, cpu, external: A Paper"


def test_the_mean_is_over_epochs_that_all_seeds_have() -> None:
    assert mean_curve([{1: 1.0, 2: 2.0}, {2: 4.0, 3: 5.0}, {}]) == {2: 3.0}
    assert mean_curve([]) == {}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        3,
        {"companions": None},
        {"companions": {"dynamic teacher": None}},
        {"companions": ["dynamic teacher"]},
        {"epoch": 9, "companions": {"dynamic teacher": {"accuracy": float("nan")}}},
        {"epoch": "x", "companions": {"dynamic teacher": {"accuracy": 0.5}}},
    ],
)
def test_odd_entries_do_not_stop_the_report(entry: Any) -> None:
    made = with_curves()
    made["epochs"].append(entry)
    (panel,) = shown([made])
    assert sorted(panel.student[0]) == [1, 3, 4]
    assert [sorted(curve) for curve in panel.companions["dynamic teacher"]] == [[1, 3, 4]]


@pytest.mark.parametrize(
    "value", [10**400, float("inf"), "high"], ids=["a giant", "no end", "words"]
)
@pytest.mark.parametrize("whose", ["student", "companion", "teacher"])
def test_a_score_that_is_no_number_is_named_and_the_rest_is_drawn(
    tmp_path: Path, whose: str, value: Any
) -> None:
    made = with_curves()
    last = made["epochs"][-1]
    scores = {
        "student": last["validation"],
        "companion": last["companions"]["dynamic teacher"],
        "teacher": made["teacher"]["validation"],
    }
    scores[whose]["accuracy"] = value
    (tmp_path / "a.json").write_text(json.dumps(made))
    write_record(tmp_path, with_curves(seed=1))
    context = load(tmp_path)
    assert context.problems == [
        f"record {made['key'][:12]}: a score in its curves is no finite number"
    ]
    ((panel,), (section,)) = shown(context.records), context.sections
    assert len(panel.student) == 2 and panel.teachers == [0.95]
    assert curves(context, section)["gpd"].epochs[:2] == (1, 3)


@pytest.mark.parametrize("odd", [None, 3, {}, "epochs"])
def test_odd_records_have_no_curves(odd: Any) -> None:
    made = with_curves()
    made |= {"epochs": odd, "teacher": None}
    assert shown([made]) == []
    kept = with_curves()
    kept["teacher"]["validation"] = odd
    assert shown([kept])[0].teachers == []


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
    names = {path.relative_to(tmp_path / "two").as_posix() for path in first.paths}
    picture = "figures/companions-quick-embedded-cpu"
    assert {f"{picture}.svg", f"{picture}.png"} <= names
    assert f"({picture}.svg)" in (tmp_path / "two" / "leaderboard.md").read_text(encoding="utf-8")
    index = (tmp_path / "two" / "index.html").read_text(encoding="utf-8")
    assert ">Learning curves of models trained beside the student</h2>" in index
    assert 'alt="Validation score by epoch of student, companion and teacher' in index
    assert write_reports(curved, tmp_path / "two").written == ()
    second = write_reports(curved, tmp_path / "three")
    for one, other in zip(first.paths, second.paths, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_names_are_text_in_the_figure_and_inert_in_the_page(tmp_path: Path) -> None:
    made = with_curves(label="gpd ($r$=2) <b>", names=("$x$ <i>",))
    made["task"]["title"] = "a $very$ long title of a task whose name does not fit one line at all"
    figure = draw(shown([made]))
    assert encode(figure, "png").startswith(b"\x89PNG")
    assert r"\$r\$" in figure.axes[0].get_title("left")
    write_record(tmp_path / "results", made)
    for path in write_reports(tmp_path / "results", tmp_path / "out").paths:
        if path.suffix in (".md", ".html"):
            assert "<b>" not in path.read_text(encoding="utf-8")


def test_pictures_can_be_sent_to_another_process() -> None:
    (part,) = companion_parts(of([with_curves()]))
    (picture,) = pickle.loads(pickle.dumps(part.pictures))  # noqa: S301
    assert len(picture.draw().axes) == 1
