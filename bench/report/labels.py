"""Test score by number of labelled samples, where a task was run with several numbers of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.config import parse_spec
from bench.errors import BenchError
from bench.report.roles import CEILING
from bench.report.sections import Section


@dataclass(frozen=True)
class Point:
    """The scores of one method with a number of labels, in the metric's unit.

    Attributes:
        labels: labelled training samples.
        mean: over seeds.
        low: the lowest seed.
        high: the highest seed.
    """

    labels: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class LabelCurves:
    """The methods of one task over its numbers of labelled samples.

    Attributes:
        title: the task without the number, and the data of its teacher.
        where: preset, source and device (and whose results these are).
        metric: of all scores.
        points: of each method, fewest labels first; methods with two points or more.
    """

    title: str
    where: str
    metric: str
    points: dict[str, list[Point]] = field(default_factory=dict)


def label_curves(sections: Sequence[Section]) -> list[LabelCurves]:
    """Return the curves of the tasks that ``sections`` hold with two numbers of labels or more.

    All labels count as one more number.  Tasks whose teachers learned from different samples are
    never on one curve, but with all labels there is no such difference.

    Args:
        sections: of one group, that is one preset, source and device.
    """
    few: dict[tuple[str, tuple[str, ...], str], list[Section]] = {}
    whole: dict[tuple[str, str], Section] = {}
    for section in sections:
        try:
            name, options = parse_spec(section.task)
        except BenchError:  # a stranger's task may be called anything
            continue
        if options.pop("n", None):
            rest = tuple(f"{key}={value}" for key, value in sorted(options.items()))
            few.setdefault((name, rest, section.metric), []).append(section)
        elif not options:
            whole[name, section.metric] = section
    found = []
    for (name, rest, metric), family in sorted(few.items()):
        everything = whole.get((name, metric))
        made = _curves(":".join([name, *rest]), [*family, *([everything] if everything else [])])
        if made.points:
            found.append(made)
    return found


def _curves(title: str, family: Sequence[Section]) -> LabelCurves:
    points: dict[str, list[Point]] = {}
    for labels, section in sorted(
        ((_labels(section), section) for section in family), key=lambda pair: pair[0]
    ):
        for label, point in _points(section, labels):
            points.setdefault(label, []).append(point)
    several = {label for label, each in points.items() if len({p.labels for p in each}) > 1}
    points = {label: points[label] for label in sorted(several)}
    if not points.keys() - {CEILING}:
        points = {}
    return LabelCurves(title, family[0].where, family[0].metric, points)


def _points(section: Section, labels: int) -> Iterator[tuple[str, Point]]:
    for line in section.lines:
        if labels and line.best and line.like_for_like:
            scores = line.scores.values()
            yield line.label, Point(labels, line.best.mean, min(scores), max(scores))


def _labels(section: Section) -> int:
    """Return the number of labelled training samples in the records; 0 if none can be used."""
    counts = section.cells.rows_train.dropna()
    most = 0.0 if counts.empty else float(counts.max())
    return int(most) if 0 < most < 2**53 else 0
