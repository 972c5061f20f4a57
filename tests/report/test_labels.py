"""The curve of test scores over the number of labelled samples."""

from __future__ import annotations

import pytest
from factory import context, failure, record

from bench.report.figures.labels import draw
from bench.report.labels import Point, label_curves
from bench.report.looks import looks
from bench.report.parts import build
from bench.store import Record


def at(
    rows: int, scores: dict[str, list[float]], task: str = "cifar10:n={}", **changes: object
) -> list[Record]:
    made = []
    for method, found in scores.items():
        for seed, score in enumerate(found):
            each = record(method, seed, score, task=task.format(rows), **changes)  # type: ignore[arg-type]
            each["data"]["rows"] = {"train": rows, "validation": 10, "test": 10}
            made.append(each)
    return made


FEW = at(100, {"scratch": [0.3, 0.4], "kd": [0.5, 0.6], "teacher": [0.9]})
MORE = at(4000, {"scratch": [0.5, 0.6], "kd": [0.7, 0.7], "tgt": [0.8, 0.9], "teacher": [0.9]})
ALL = at(45000, {"scratch": [0.7, 0.8], "kd": [0.9, 0.9]}, task="cifar10")
FAILED = [failure(method, 0, "no", task="cifar10:n=100") for method in ("scratch", "kd")]
for each in FAILED:
    each["data"] = {"rows": {"train": 100}}


def test_means_and_ranges_in_order_of_the_labels_and_all_of_them_last() -> None:
    (found,) = label_curves(context([*ALL, *MORE, *FEW]).sections)
    assert found.title == "cifar10" and found.metric == "accuracy"
    assert set(found.points) == {"scratch", "kd", "teacher"}  # tgt was run with one number only
    few, more, whole = found.points["scratch"]
    assert few == Point(100, pytest.approx(0.35), 0.3, 0.4)
    assert more == Point(4000, pytest.approx(0.55), 0.5, 0.6)
    assert whole == Point(45000, pytest.approx(0.75), 0.7, 0.8)
    assert [point.labels for point in found.points["teacher"]] == [100, 4000]


def test_teachers_of_different_labels_share_no_curve() -> None:
    taught = at(100, {"scratch": [0.3], "kd": [0.5]}, task="cifar10:n={}:teacher_data=all")
    assert label_curves(context([*taught, *MORE]).sections) == []
    both = label_curves(context([*taught, *MORE, *ALL]).sections)
    assert [each.title for each in both] == ["cifar10", "cifar10:teacher_data=all"]
    assert [p.labels for p in both[1].points["kd"]] == [100, 45000]


@pytest.mark.parametrize(
    "records",
    [
        ALL,
        MORE,
        [*MORE, *at(100, {"teacher": [0.9]})],  # a teacher alone is no comparison
        [*MORE, *at(12, {"kd": [0.5]}, task="cifar10:imbalance=100")],
        [*MORE, *FAILED],
        [*MORE, *at(45000, {"kd": [0.5]}, task="CIFAR-10: all of it")],  # a stranger's name
        [*MORE, *at(4000, {"scratch": [0.5], "kd": [0.6]}, task="cifar10")],
        [*MORE, *at(10**400, {"scratch": [0.5], "kd": [0.6]}, task="cifar10")],
        [*MORE, *at(-1, {"scratch": [0.5], "kd": [0.6]}, task="cifar10")],
    ],
)
def test_one_number_of_labels_is_no_curve(records: list[Record]) -> None:
    assert label_curves(context(records).sections) == []


def test_other_presets_stand_apart() -> None:
    longer = at(100, {"scratch": [0.3], "kd": [0.5]}, overrides={"epochs": 40})
    made = context([*MORE, *longer])
    assert not [p for part in build(made) for p in part.pictures if p.name.startswith("labels")]


def test_the_figure_draws_what_the_records_say() -> None:
    made = context([*FEW, *MORE, *ALL])
    (picture,) = [p for part in build(made) for p in part.pictures if p.name.startswith("labels")]
    assert "number of labelled samples" in picture.alt
    figure = draw(label_curves(made.sections), looks(made.frame.label))
    (axes,) = figure.axes
    drawn = {line.get_color(): (*line.get_xdata(), *line.get_ydata()) for line in axes.get_lines()}
    seen = looks(made.frame.label)
    assert drawn == {
        seen["scratch"].colour: pytest.approx([100, 4000, 45000, 35, 55, 75]),
        seen["kd"].colour: pytest.approx([100, 4000, 45000, 55, 70, 90]),
    }
    assert [text.get_text() for text in axes.texts if "teacher" in text.get_text()] == [
        "teacher 90.0, not drawn"
    ]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["100", "4,000", "45,000"]
    assert axes.get_xscale() == "log"


def test_teachers_scores_are_in_the_order_of_numbers() -> None:
    low = at(100, {"scratch": [0.3, 0.4], "kd": [0.5, 0.6], "teacher": [0.098]})
    high = at(4000, {"scratch": [0.5, 0.6], "kd": [0.7, 0.7], "teacher": [0.85]})
    made = context([*low, *high])
    (axes,) = draw(label_curves(made.sections), looks(made.frame.label)).axes
    assert axes.texts[0].get_text() == "teacher 9.8 to 85.0, not drawn"
