"""Learning curves of methods that train a second model beside the student: is the gap kept?

For each such method and task: the validation score of the student and of its companion by epoch,
and the static teacher's as a line.  Whatever has ``companions`` in its record's epochs is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from bench.report.content import Context, Part, Picture
from bench.report.pictures import draw
from bench.store import Record

ALT = "Validation score by epoch of student, companion and static teacher"
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
        where: preset, source and device.
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
    shown = panels(context.frame, context.records)
    if shown:
        picture = Picture("companions", partial(draw, "companions", shown), ALT, CAPTION)
        yield Part("Learning curves of models trained beside the student", (picture,))


def panels(frame: pd.DataFrame, records: Iterable[Record]) -> list[Panel]:
    """Return a panel for each method and task with companions in its records.

    Args:
        frame: the rows that count, a cell each (:func:`bench.report.frame.collect`).
        records: the records they were made from, and any others.
    """
    by_key = {str(record.get("key")): record for record in records}
    if frame.empty:
        return []
    found = []
    same = ["preset", "source", "device", "task", "metric", "label"]
    for key, rows in frame[frame.status == "ok"].groupby(same, sort=True):
        preset, source, device, _, metric, label = map(str, key)
        title = str(rows.title.iloc[0])
        panel = Panel(title, f"preset {preset}, source {source}, {device}", label, metric)
        for row in rows.sort_values("seed").itertuples():
            _add(panel, by_key.get(str(row.key), {}))
        if panel.companions:
            found.append(panel)
    return found


def _add(panel: Panel, record: Mapping[str, Any]) -> None:
    entries = [entry for entry in record.get("epochs") or () if isinstance(entry, dict)]
    names = sorted({name for entry in entries for name in entry.get("companions") or ()})
    if not names:
        return
    own = {entry.get("epoch"): entry.get("validation") for entry in entries}
    panel.student.append(_curve(own, panel.metric))
    for name in names:
        scores = {e.get("epoch"): (e.get("companions") or {}).get(name) for e in entries}
        panel.companions.setdefault(name, []).append(_curve(scores, panel.metric))
    teacher = ((record.get("teacher") or {}).get("validation") or {}).get(panel.metric)
    if isinstance(teacher, int | float) and teacher not in panel.teachers:
        panel.teachers.append(float(teacher))


def _curve(scores: Mapping[Any, Any], metric: str) -> Curve:
    return {
        int(epoch): float(found[metric])
        for epoch, found in scores.items()
        if isinstance(epoch, int) and isinstance(found, dict) and metric in found
    }


def mean_curve(curves: Iterable[Curve]) -> Curve:
    """Return the mean over seeds at the epochs that all of them have."""
    kept = [curve for curve in curves if curve]
    shared = sorted(set.intersection(*(set(curve) for curve in kept))) if kept else []
    return {epoch: sum(curve[epoch] for curve in kept) / len(kept) for epoch in shared}
