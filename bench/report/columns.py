"""The columns a table of scores can have, by the name the command line knows them by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.report import text
from bench.report.content import Value
from bench.report.frame import REFERENCE
from bench.report.sections import Line, Section


@dataclass(frozen=True)
class Column:
    """One column of a table of scores.

    Attributes:
        key: its name on the command line.
        head: its heading in a given section.
        value: its cell for a line of a section.
        shown: whether a section has anything to put there.
        usual: whether tables show it unless columns are asked for by name.
    """

    key: str
    head: Callable[[Section], str]
    value: Callable[[Line, Section], Value]
    shown: Callable[[Section], bool] = lambda section: True
    usual: bool = True


def _points(section: Section) -> str:
    return " (points)" if text.unit(section.metric) else ""


def _name(line: Line, section: Section) -> Value:
    return Value(line.label, line.label, italic=line.kind == "baseline")


def _test(line: Line, section: Section) -> Value:
    if line.best is None:
        return Value(absent(line))
    shown = text.spread(line.best, section.metric)
    return Value(shown, line.best.mean, bold=line.label in section.winners)


def _gain(line: Line, section: Section) -> Value:
    shown = text.gain(line.gain, section.metric)
    if line.gain is None:
        return Value(shown)
    if not line.paired:
        shown += " (unpaired)"
    elif line.gain.pairs != line.ok:  # the reference lacks some of the seeds
        shown += f" ({line.gain.pairs} pairs)"
    return Value(shown, line.gain.mean)


def _closed(line: Line, section: Section) -> Value:
    if line.closed is not None:
        shown = f"{line.closed * 100:.0f}"
        return Value("0" if shown == "-0" else shown, line.closed)
    no_gap = line.gain is not None and section.teacher is not None
    return Value("no gap" if no_gap else text.NOTHING)


def absent(line: Line) -> str:
    """Return why a line has no score."""
    if line.failed and line.skipped:
        return "failed or skipped"
    return "failed" if line.failed else "skipped"


def _seeds(line: Line, section: Section) -> Value:
    if line.complete:
        return Value(str(line.ok), line.ok)
    missing = line.planned - line.ok - line.failed - line.skipped
    counts = {"failed": line.failed, "skipped": line.skipped, "not run": missing}
    why = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    return Value(f"{line.ok}/{line.planned} ({why})", line.ok)


def _test_head(section: Section) -> str:
    better = ", lower is better" if section.direction == "min" else ""
    return f"test {text.metric_name(section.metric)}{text.unit(section.metric)}{better}"


def _macro_f1(line: Line, section: Section) -> Value:
    return Value(
        text.spread(line.macro_f1, "macro_f1"), line.macro_f1.mean if line.macro_f1 else None
    )


COLUMNS: tuple[Column, ...] = (
    Column("method", lambda s: "method", _name),
    Column("test", _test_head, _test),
    Column(
        "last",
        lambda s: f"last epoch{text.unit(s.metric)}",
        lambda line, s: Value(
            text.spread(line.last, s.metric), line.last.mean if line.last else None
        ),
    ),
    Column(
        "macro_f1",
        lambda s: "macro-F1 (%)",
        _macro_f1,
        shown=lambda s: s.metric != "macro_f1" and any(line.macro_f1 for line in s.lines),
    ),
    Column("gain", lambda s: f"gain over {REFERENCE}{_points(s)}", _gain),
    Column("closed", lambda s: "gap closed (%)", _closed),
    Column(
        "parameters",
        lambda s: "parameters",
        lambda line, s: Value(text.count(line.deployed), line.deployed),
    ),
    Column(
        "extra",
        lambda s: "extra",
        lambda line, s: Value(text.count(line.train_only), line.train_only),
    ),
    Column(
        "train_s",
        lambda s: "train s",
        lambda line, s: Value(text.seconds(line.train_seconds), line.train_seconds),
    ),
    Column("seeds", lambda s: "seeds", _seeds),
)


def further(section: Section) -> list[Column]:
    """Return a column for each held-out split beside the official test."""
    names = sorted({name for line in section.lines for name in line.further})
    return [_further(name) for name in names]


def _further(name: str) -> Column:
    def value(line: Line, section: Section) -> Value:
        spread = line.further.get(name)
        return Value(text.spread(spread, section.metric), spread.mean if spread else None)

    return Column(name, lambda s: f"{name}{text.unit(s.metric)}", value)


def usual(section: Section) -> list[Column]:
    """Return the columns a section's table has unless asked otherwise."""
    columns = [column for column in COLUMNS if column.usual and column.shown(section)]
    at = next(place for place, column in enumerate(columns) if column.key == "gain")
    return [*columns[:at], *further(section), *columns[at:]]
