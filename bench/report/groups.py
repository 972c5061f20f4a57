"""Accuracy by class group, beneath the table of a long-tailed task."""

from __future__ import annotations

from bench.metrics.groups import GROUPS, PREFIX
from bench.report import text
from bench.report.sections import Section
from bench.stats import mean_and_sd

CAPTION = """\
Test accuracy by how many training samples a class has: the range from the largest to the smallest \
class is cut into three equal parts of its logarithm."""


def group_table(section: Section) -> list[str]:
    """Return the lines of the table of class groups; none where no record has any."""
    names = [name for name in GROUPS if f"test_{PREFIX}{name}" in section.cells]
    names = [name for name in names if section.cells[f"test_{PREFIX}{name}"].notna().any()]
    if not names:
        return []
    rows = []
    for line in section.lines:
        cells = section.cells[(section.cells.label == line.label) & (section.cells.status == "ok")]
        shown = []
        for name in names:
            scores = cells[f"test_{PREFIX}{name}"].dropna().tolist()
            shown.append(text.spread(mean_and_sd(scores) if scores else None, "accuracy"))
        rows.append([text.escape(line.label), *shown])
    head = ["method", *(f"{name} (%)" for name in names)]
    return [*text.table(head, rows), "", f"<sub>{CAPTION}</sub>", ""]
