"""Accuracy by class group, beneath the table of a long-tailed task."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bench.metrics.groups import GROUPS, PREFIX
from bench.report import text
from bench.report.content import Block, Table, Value
from bench.report.sections import Section
from bench.stats import mean_and_sd

CAPTION = (
    "Test accuracy by how many training samples a class has: the range from the largest to the "
    "smallest class is cut into three equal parts of its logarithm."
)


def group_table(section: Section) -> Iterator[Block]:
    """Yield the table of class groups; nothing where no record has any."""
    names = [name for name in GROUPS if f"test_{PREFIX}{name}" in section.cells]
    names = [name for name in names if section.cells[f"test_{PREFIX}{name}"].notna().any()]
    if not names:
        return
    rows = []
    for line in section.lines:
        cells = [row for row in section.rows[line.label] if row["status"] == "ok"]
        shown = [Value(line.label, italic=line.kind == "baseline")]
        for name in names:
            column = (row[f"test_{PREFIX}{name}"] for row in cells)
            scores = [score for score in column if not pd.isna(score)]
            spread = mean_and_sd(scores) if scores else None
            shown.append(Value(text.spread(spread, "accuracy"), spread.mean if spread else None))
        rows.append(shown)
    yield Table(
        name=f"groups-{section.slug}",
        head=["method", *(f"{name} (%)" for name in names)],
        rows=rows,
        title=f"Class groups: {section.title}, {section.where}",
        source=CAPTION,
    )
