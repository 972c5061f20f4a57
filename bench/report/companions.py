"""Learning curves of methods that train a second model beside the student: is the gap kept?

For each such method and task: the validation score of the student and of its companion by epoch,
and the static teacher's as a line.  Whatever has ``companions`` in its record's epochs is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.report.content import Block, Context, Heading, Part, Picture
from bench.report.curves import beside, mapping, validation
from bench.report.pictures import draw
from bench.report.record_row import finite
from bench.report.sections import Section

CAPTION = (
    "Thick lines are means over seeds, thin ones single seeds; the shaded band is the gap between "
    "the student and the model trained beside it, which never ships. Scores are on validation."
)
Curve = dict[int, float]  # score by epoch


@dataclass
class Panel:
    """What one facet shows: a method on a task, all its finished seeds.

    Attributes:
        title: the task.
        where: preset, source and device (and whose results they are).
        label: the method.
        metric: of all scores.
        student: one curve a seed, in the metric's unit.
        companions: likewise, by the companion's name.
        teachers: validation scores of the static teachers, usually one.
    """

    title: str
    where: str
    label: str
    metric: str
    student: list[Curve] = field(default_factory=list)
    companions: dict[str, list[Curve]] = field(default_factory=dict)
    teachers: list[float] = field(default_factory=list)


def companion_parts(context: Context) -> Iterator[Part]:
    """Yield the part of these curves; nothing where no method trained a second model."""
    blocks: list[Block] = []
    for group in context.groups:
        shown = [panel for section in group.sections for panel in panels(context, section)]
        if shown:
            name = f"companions-{group.slug}"
            alt = f"Validation score by epoch of student, companion and teacher, {group.where}"
            blocks.append(Heading(group.heading))
            blocks.append(Picture(name, partial(draw, "companions", shown), alt, CAPTION))
    if blocks:
        title = "Learning curves of models trained beside the student"
        yield Part(title, tuple(blocks), "Models beside the student")


def panels(context: Context, section: Section) -> list[Panel]:
    """Return a panel for each method of ``section`` with companions in its records."""
    found = []
    for label, rows in sorted(section.rows.items()):
        panel = Panel(section.title, section.where, label, section.metric)
        for row in sorted(rows, key=lambda row: int(row["seed"])):
            if row["status"] == "ok":
                _add(panel, context.by_key.get(str(row["key"]), {}))
        if panel.companions:
            found.append(panel)
    return found


def _add(panel: Panel, record: Mapping[str, Any]) -> None:
    listed = record.get("epochs")
    entries = [entry for entry in (listed if isinstance(listed, list) else ()) if beside(entry)]
    if not entries:
        return
    panel.student.append(validation(record, panel.metric))
    for name in sorted({name for entry in entries for name in beside(entry)}):
        # as an epoch's own validation scores, so that both are read alike
        scores = [{**entry, "validation": beside(entry).get(name)} for entry in entries]
        curve = validation({"epochs": scores}, panel.metric)
        panel.companions.setdefault(name, []).append(curve)
    teacher = finite(mapping(mapping(record.get("teacher")).get("validation")).get(panel.metric))
    if teacher is not None and teacher not in panel.teachers:
        panel.teachers.append(teacher)


def mean_curve(curves: Iterable[Curve]) -> Curve:
    """Return the mean over seeds at the epochs that all of them have."""
    kept = [curve for curve in curves if curve]
    shared = sorted(set.intersection(*(set(curve) for curve in kept))) if kept else []
    return {epoch: math.fsum(curve[epoch] for curve in kept) / len(kept) for epoch in shared}
