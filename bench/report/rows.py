"""The rows of the page's leaderboard: one for each method of each section."""

from __future__ import annotations

from dataclasses import dataclass

from bench.report import text
from bench.report.columns import COLUMNS
from bench.report.content import Context, Value
from bench.report.costs import Cost
from bench.report.lines import Line
from bench.report.roles import REFERENCE
from bench.report.sections import Section

OURS = "this project"


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        at: its number, which run cards refer to.
        label: the method with its options.
        method: as registered.
        anchor: id of the method's card on the page.
        cells: the cells after the method and where it ran.
        slowdown: seconds of a training step over those of the plain student; None if unmeasured.
        extra: parameters trained and thrown away.
    """

    at: int
    label: str
    method: str
    kind: str
    anchor: str
    task: str
    preset: str
    source: str
    device: str
    origin: str
    cells: tuple[Value, ...]
    slowdown: float | None
    extra: Value
    section: Section
    line: Line


HEAD = (
    "test score",
    "gain over " + REFERENCE,
    "gap closed (%)",
    "parameters",
    "train s",
    "training samples/s",
    "latency ms",
    "seeds",
)


def rows(context: Context) -> list[Row]:
    """Return the rows of all sections, each section best first."""
    methods = sorted({str(method) for method in context.frame.method})
    anchors = {method: f"method-{at}" for at, method in enumerate(methods)}
    made: list[Row] = []
    for section in context.sections:
        method_of = dict(zip(section.cells.label, section.cells.method, strict=True))
        costs = context.costs_of(section)
        base = _step(costs.get(REFERENCE))
        for line in section.lines:
            method, cost = str(method_of[line.label]), costs.get(line.label)
            step = _step(cost)
            made.append(
                Row(
                    at=len(made),
                    label=line.label,
                    method=method,
                    kind=line.kind,
                    anchor=anchors[method],
                    task=section.task,
                    preset=section.preset,
                    source=section.source,
                    device=section.device,
                    origin=section.origin or OURS,
                    cells=_cells(line, section, cost),
                    slowdown=step / base if step and base and line.label != REFERENCE else None,
                    extra=Value(text.count(line.train_only)),
                    section=section,
                    line=line,
                )
            )
    return made


def _step(cost: Cost | None) -> float | None:
    rate = cost.train_rate if cost else None
    return 1 / rate if rate else None


def _cells(line: Line, section: Section, cost: Cost | None) -> tuple[Value, ...]:
    by_key = {column.key: column for column in COLUMNS}

    def shown(key: str) -> Value:
        return by_key[key].value(line, section)

    percent = text.unit(section.metric).strip(" ()")
    metric = text.metric_name(section.metric)
    test = shown("test")
    if line.best is not None:
        test = Value(f"{test.text} {percent} {metric}".replace("  ", " "), test.sort, test.bold)
    rate = cost.train_rate if cost else None
    p50 = cost.p50 if cost else None
    return (
        test,
        shown("gain"),
        shown("closed"),
        shown("parameters"),
        shown("train_s"),
        Value(text.NOTHING if rate is None else f"{rate:.0f}", rate),
        Value(text.NOTHING if p50 is None else f"{1000 * p50:.2f}", p50),
        shown("seeds"),
    )
