"""One table on the command line: chosen tasks and columns, sorted, in a chosen format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import BenchError, unknown
from bench.report.captions import caption
from bench.report.columns import COLUMNS, Column, further, usual
from bench.report.content import Context, Table, Value
from bench.report.formats import WRITERS
from bench.report.lines import Line
from bench.report.record_row import short_revision
from bench.report.sections import Section
from bench.report.text import escape
from bench.store import Record


@dataclass(frozen=True)
class Choice:
    """What to print.

    Attributes:
        tasks: names; empty for all.
        columns: names; empty for the usual ones.
        sort: a column, best or largest first; a leading ``-`` reverses the order.
        format: one of :data:`~bench.report.formats.WRITERS`.
    """

    tasks: Sequence[str] = ()
    columns: Sequence[str] = ()
    sort: str = ""
    format: str = "markdown"


def render_choice(context: Context, choice: Choice) -> str:
    """Return the chosen tables, one for each section.

    Raises:
        BenchError: for an unknown task, column or format, naming the nearest one.
    """
    if choice.format not in WRITERS:
        raise unknown("format", choice.format, WRITERS)
    tasks = {section.task for section in context.sections}
    for task in choice.tasks:
        if task not in tasks:
            raise unknown("task with records", task, tasks)
    chosen = [s for s in context.sections if not choice.tasks or s.task in choice.tasks]
    for name in (*choice.columns, choice.sort.removeprefix("-")):
        known = {column for section in chosen for column in _known(section)}
        if name and name not in known:
            raise unknown("column", name, known)
    tables = [_table(section, choice) for section in chosen]
    write = WRITERS[choice.format]
    if choice.format == "markdown":
        return "\n".join(f"### {escape(table.title)}\n\n{write(table)}" for table in tables)
    if choice.format == "csv" and len(tables) > 1:
        tables = [_with_its_title(table) for table in tables]
    return "\n".join(map(write, tables))


def _with_its_title(table: Table) -> Table:
    """Return ``table`` with its title in a first column: CSV has no place above one."""
    return replace(
        table,
        head=["table", *table.head],
        rows=[[Value(table.title), *row] for row in table.rows],
    )


def _table(section: Section, choice: Choice) -> Table:
    columns = _columns(section, choice.columns)
    by = _known(section).get(choice.sort.removeprefix("-"))
    lines = _sorted(section, by, choice.sort.startswith("-")) if by else section.lines
    return Table(
        name=section.slug,
        head=[column.head(section) for column in columns],
        rows=[[column.value(line, section) for column in columns] for line in lines],
        title=f"{section.title}, {section.where}",
        source=caption(section),
    )


def _sorted(section: Section, by: Column, backwards: bool) -> list[Line]:
    """Return the lines, best or largest first, or reversed; those without a value come last."""
    keyed = [(by.value(line, section), line) for line in section.lines]
    numbers = [item for item in keyed if isinstance(item[0].sort, float | int)]
    words = [item for item in keyed if isinstance(item[0].sort, str)]
    smaller_first = by.directed and section.direction == "min"
    numbers.sort(key=lambda item: _number(item[0]), reverse=backwards == smaller_first)
    words.sort(key=lambda item: str(item[0].sort), reverse=backwards)
    return [line for _, line in (*numbers, *words)] + [
        line for value, line in keyed if value.sort is None
    ]


def _number(value: Value) -> float:
    return float(value.sort) if value.sort is not None else 0.0


def _columns(section: Section, names: Sequence[str]) -> list[Column]:
    if not names:
        return usual(section)
    known = _known(section)
    return [known[name] for name in names if name in known]


def _known(section: Section) -> dict[str, Column]:
    return {column.key: column for column in (*COLUMNS, *further(section))}


def load(results: Path, revision: str = "", *, beside: bool = True) -> Context:
    """Return the context of the records below ``results``.

    Args:
        results: a folder of records.
        revision: the first characters of a git revision, to read only its records.
        beside: whether costs, generated inputs and rankings are read beside the scores.

    Raises:
        BenchError: when there is no readable record, or none of ``revision``.
    """
    from bench.report.agreement import agreements
    from bench.report.costs import collect_costs, usable_costs
    from bench.report.curves import damaged_curves
    from bench.report.frame import collect
    from bench.report.hardware import of_one_machine
    from bench.report.queries import read_each
    from bench.report.sample_files import read_samples
    from bench.store import read_costs, read_records

    records, unreadable = read_records(results)
    # The reader names whole paths; a report names them from the results on.
    prefix = f"{results.as_posix()}/"
    problems = [line.replace(prefix, "") for line in unreadable]
    if not records:
        raise BenchError(
            f"no records under {results}",
            f"cannot read: {'; '.join(problems)}"
            if problems
            else "run `python -m bench all` first"
            if results == Path("results")
            else "a folder that 'bench run' wrote records into",
        )
    if revision:
        records = _of_revision(revision, records, results)
    collected = collect(records, agreements(records, results))
    if not beside:
        return Context(
            frame=collected.frame,
            records=records,
            superseded=collected.superseded,
            problems=[*problems, *collected.problems],
            refused=len(problems) + collected.malformed,
        )
    cost_records, unreadable_costs = read_costs(results)
    cost_records, unusable = usable_costs(cost_records)
    cost_records, left_out = of_one_machine(cost_records)
    costs = collect_costs(cost_records)
    problems += [line.replace(prefix, "") for line in unreadable_costs]
    samples, unshown = read_samples(results)
    each, unread = read_each(results, records)
    return Context(
        frame=collected.frame,
        costs=costs,
        records=records,
        superseded=collected.superseded,
        problems=[
            *problems,
            *collected.problems,
            *damaged_curves(records),
            *unusable,
            *left_out,
            *unshown,
            *unread,
        ],
        refused=len(problems) + collected.malformed + len(unusable) + len(unshown),
        samples=samples,
        each=each,
    )


def _of_revision(revision: str, records: Sequence[Record], results: Path) -> list[Record]:
    """Return the records of ``revision``, even where others of the same cells are newer."""
    made = [(short_revision(record.get("revision")), record) for record in records]
    found = [record for known, record in made if known.startswith(revision[:10])]
    if not found:
        there = ", ".join(sorted({known for known, _ in made if known}))
        raise BenchError(f"no record of revision '{revision}' in '{results}'", f"known: {there}")
    return found
