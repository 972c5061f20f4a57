"""The lines beneath tables: data, seeds, devices, teacher, dates and code they came from."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.report.groups import Group
from bench.report.roles import CEILING
from bench.report.sections import Section, distinct
from bench.report.text import count, metric_name, number, scale


def caption(section: Section) -> str:
    """Return the line beneath a table: data, rows, limits, seeds, device, teacher, dates, code."""
    cells = section.cells
    ok = cells[cells.status == "ok"]
    seeds = _listed_seeds([section])
    devices = [section.device, *(name for name in distinct(ok.device_name))]
    parts = [
        f"Data: {section.source} source, {_listed(ok.data_name)}; {_rows(ok)}",
        *(f"Dropped as unusable: {rows}" for rows in distinct(ok.dropped)),
        *(limit.rstrip(".") for limit in _limits(cells)),
        f"Preset {section.told_preset}, seeds {seeds}, on {': '.join(devices[:2])}"
        + "".join(f" and {name}" for name in devices[2:]),
        f"Students trained {'; '.join(distinct(ok.recipe))}" if distinct(ok.recipe) else "",
        _teacher(section),
        f"Finished {dates(cells)}, revision {_listed(ok.revision)}, torch {_listed(ok.torch)}",
    ]
    if len(devices) > 2:
        parts.append("Run on more than one machine, so the times do not compare")
    return ". ".join(part[0].upper() + part[1:] for part in parts if part) + "."


def group_caption(group: Group) -> str:
    """Return the line beneath a table across tasks."""
    cells = pd.concat([section.cells for section in group.sections])
    ok = cells[cells.status == "ok"]
    first = group.sections[0]
    seeds = _listed_seeds(group.sections)
    hardware = ", ".join(distinct(ok.device_name)) or "an unknown machine"
    tasks = "; ".join(
        f"{section.task} with {', '.join(section.settings)}"
        if group.mixed and section.settings
        else section.task
        for section in group.sections
    )
    return (
        f"Data: {first.source} source, {_listed(ok.data_name)}. Tasks {tasks}. "
        f"Preset {group.preset if group.mixed else first.told_preset}, seeds "
        f"{seeds}, on {first.device}: {hardware}. Finished {dates(cells)}, revision "
        f"{_listed(ok.revision)}, torch {_listed(ok.torch)}."
    )


def _listed_seeds(sections: Sequence[Section]) -> str:
    """Return the seeds of the trained students; of all rows where there is none of them.

    What is run once, whatever the seed, has seed 0.
    """
    lines = [(section, line) for section in sections for line in section.lines]
    chosen = [each for each in lines if each[1].trained_student] or lines
    found = {int(row["seed"]) for section, line in chosen for row in section.rows[line.label]}
    return ", ".join(str(seed) for seed in sorted(found))


def dates(cells: pd.DataFrame) -> str:
    """Return the first and last day in the column ``finished``, or the one day."""
    days = distinct(moment[:10] for moment in cells.finished)
    if not days:
        return "on an unknown day"
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _limits(cells: pd.DataFrame) -> list[str]:
    """Return what readers must know of the data, in the latest records' words for the same data."""
    latest = cells.sort_values("finished", kind="stable").groupby("fingerprint").tail(1)
    return distinct(latest.limits)


def _rows(ok: pd.DataFrame) -> str:
    columns = {"rows_train": "train", "rows_validation": "validation", "rows_test": "test"}
    known = []
    for column, name in columns.items():
        sizes = sorted({int(value) for value in ok[column] if not pd.isna(value)})
        if sizes:
            known.append(" or ".join(f"{size:,}" for size in sizes) + f" {name}")
    return ", ".join(known) + " rows" if known else "number of rows unknown"


def _teacher(section: Section) -> str:
    if section.teacher is None:
        return ""
    names = distinct(section.cells.teacher_name)
    named = f"Teacher {', '.join(names)}" if names else "Teacher"
    score = number(section.teacher, section.metric)
    line = section.line(CEILING)
    parameters = f" with {count(line.deployed)} parameters" if line and line.deployed else ""
    percent = " %" if scale(section.metric) == 100.0 else ""
    return f"{named}{parameters}, test {metric_name(section.metric)} {score}{percent}"


def _listed(column: pd.Series) -> str:
    names = distinct(column)
    return ", ".join(names) if names else "unknown"
