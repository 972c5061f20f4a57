"""The table of paired differences: every method against the plain student and against plain KD."""

from __future__ import annotations

from bench.report.captions import caption
from bench.report.columns import COLUMNS
from bench.report.content import Block, Table, Text, Value
from bench.report.names import file_name
from bench.report.roles import REFERENCE, SECOND
from bench.report.sections import Section
from bench.stats import SEEDS_FOR_TEST

SHOWN = (
    "method",
    *(f"{what}_{other}" for other in (REFERENCE, SECOND) for what in ("gain", "interval", "p")),
)


def differences(section: Section) -> list[Block]:
    """Return the tables and how to read them; nothing where no method has a pair of runs.

    There is one table for the test split and one for each further held-out split.
    """
    source = caption(section)
    blocks = _differences(section, source)
    for split in section.further:
        blocks += _differences(section.scored_on(split), source, split)
    return blocks


def _differences(section: Section, source: str, split: str = "") -> list[Block]:
    lines = [line for line in section.lines if line.versus]
    if not lines:
        return []
    found = [held for line in lines for held in line.versus.values()]
    tested = any(held.p is not None for held in found)
    bounded = any(held.interval for held in found)
    columns = [
        column
        for column in COLUMNS
        if column.key in SHOWN
        and column.shown(section)
        and (tested or not column.key.startswith("p_"))
        and (bounded or not column.key.startswith("interval_"))
    ]
    if not bounded and section.line(SECOND) is None and not split:
        return []  # the gain over the plain student stands in the table above
    rows: list[list[Value]] = [
        [column.value(line, section) for column in columns] for line in lines
    ]
    on = f" on {split}" if split else ""
    table = Table(
        name=file_name("differences", split, *section.place),
        head=[column.head(section) for column in columns],
        rows=rows,
        source=source,
        beside=True,
        title=f"Paired differences{on}: {section.title}, {section.where}",
    )
    return [
        Text(f"Paired differences{on}, seed by seed:"),
        table,
        Text(_reading(section, tested, bounded)),
    ]


def _reading(section: Section, tested: bool, bounded: bool) -> str:
    if not tested:
        few = (
            f"Too few seeds for tests ({SEEDS_FOR_TEST} are needed): these differences may be luck."
        )
        wide = " The intervals are Student's t over seeds, wide as so few of them deserve."
        return few + (wide if bounded else "")
    others = f"{REFERENCE} or {SECOND}" if section.line(SECOND) else REFERENCE
    return (
        f"Differences to {others} in bold are significant at 5 % (paired t-test over seeds, "
        "Holm's correction over the rows)."
    )
