"""The columns a table of scores can have, by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.report import text
from bench.report.content import Value
from bench.report.lines import Line
from bench.report.roles import REFERENCE, SECOND
from bench.report.sections import Section
from bench.stats import SEEDS_FOR_TEST


@dataclass(frozen=True)
class Column:
    """One column of a table of scores.

    Attributes:
        key: its name on the command line.
        head: its heading in a given section.
        value: its cell for a line of a section.
        shown: whether a section has anything to put there.
        usual: whether tables show it unless columns are asked for by name.
        directed: whether smaller is better in it when it is in the section's metric.
    """

    key: str
    head: Callable[[Section], str]
    value: Callable[[Line, Section], Value]
    shown: Callable[[Section], bool] = lambda section: True
    usual: bool = True
    directed: bool = False


def _name(line: Line, section: Section) -> Value:
    return Value(line.label, line.label, italic=line.kind == "baseline")


def _test(line: Line, section: Section) -> Value:
    if line.best is None:
        return Value(absent(line))
    shown = text.spread(line.best, section.metric)
    return Value(shown, line.best.mean, bold=line.label in section.winners)


def _interval(line: Line, section: Section) -> Value:
    shown = text.interval(line.interval, section.metric)
    return Value(shown, line.interval.low if line.interval else None)


def _tested(section: Section) -> bool:
    return any(line.interval for line in section.lines)


def _versus(other: str, what: str) -> Callable[[Line, Section], Value]:
    """Return the cells of a column on the differences to ``other``."""

    def value(line: Line, section: Section) -> Value:
        held = line.versus.get(other)
        if held is None:
            return Value(text.NOTHING)
        if what == "gain":
            shown = text.gain(held.gain, section.metric) + fewer_pairs(held.gain.pairs, line.ok)
            return Value(shown, held.gain.mean, bold=held.significant and line.on_same_terms)
        if what == "interval":
            shown = text.interval(held.interval, section.metric, signed=True)
            return Value(shown, held.interval.low if held.interval else None)
        if held.adjusted is None:
            return Value(f"{held.gain.pairs} of {SEEDS_FOR_TEST} seeds")
        return Value(text.p_value(held.adjusted), held.adjusted)

    return value


def _gain(line: Line, section: Section) -> Value:
    shown = text.gain(line.gain, section.metric)
    if line.gain is None:
        return Value(shown)
    shown += fewer_pairs(line.gain.pairs, line.ok) if line.paired else " (unpaired)"
    return Value(shown, line.gain.mean)


def fewer_pairs(pairs: int, seeds: int) -> str:
    """Return how many pairs a gain is from where the other row lacks some of the ``seeds``."""
    return "" if pairs == seeds else f" ({pairs} pairs)"


def _closed(line: Line, section: Section) -> Value:
    if line.closed is not None:
        shown = f"{line.closed * 100:.0f}"
        return Value("0" if shown == "-0" else shown, line.closed)
    no_gap = line.gain is not None and line.teacher is not None
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


def _spread(name: str, metric: str = "") -> Callable[[Line, Section], Value]:
    """Return the cells of a column that shows the spread ``name`` of a line."""

    def value(line: Line, section: Section) -> Value:
        found = getattr(line, name)
        return Value(text.spread(found, metric or section.metric), found.mean if found else None)

    return value


def _plain(name: str, write: Callable[[float | None], str]) -> Callable[[Line, Section], Value]:
    """Return the cells of a column that shows the number ``name`` of a line."""
    return lambda line, section: Value(write(getattr(line, name)), getattr(line, name))


def _fixed(head: str) -> Callable[[Section], str]:
    return lambda section: head


def _against(other: str) -> tuple[Column, ...]:
    """Return the columns on the differences to ``other``, none of them usual."""
    suffix = f"_{other}"

    def there(section: Section) -> bool:
        return section.line(other) is not None

    return (
        Column(
            f"gain{suffix}",
            lambda s: f"gain over {other}{text.points(s.metric)}",
            _versus(other, "gain"),
            there,
            False,
        ),
        Column(
            f"interval{suffix}",
            lambda s: f"95 % interval{text.points(s.metric)}",
            _versus(other, "interval"),
            there,
            False,
        ),
        Column(
            f"p{suffix}", _fixed(f"p against {other} (Holm)"), _versus(other, "p"), there, False
        ),
    )


def _has_f1(section: Section) -> bool:
    return section.metric != "macro_f1" and any(line.macro_f1 for line in section.lines)


COLUMNS: tuple[Column, ...] = (
    Column("method", _fixed("method"), _name),
    Column("test", _test_head, _test, directed=True),
    Column(
        "interval",
        lambda s: f"95 % interval{text.unit(s.metric)}",
        _interval,
        _tested,
        directed=True,
    ),
    Column("last", lambda s: f"last epoch{text.unit(s.metric)}", _spread("last"), directed=True),
    Column("macro_f1", _fixed("macro-F1 (%)"), _spread("macro_f1", "macro_f1"), _has_f1),
    Column("gain", lambda s: f"gain over {REFERENCE}{text.points(s.metric)}", _gain),
    Column("closed", _fixed("gap closed (%)"), _closed),
    *_against(REFERENCE),
    *_against(SECOND),
    Column(
        "agreement",
        _fixed("agreement (%)"),
        _spread("agreement", "agreement"),
        lambda s: any(line.agreement for line in s.lines),
    ),
    Column("parameters", _fixed("parameters"), _plain("deployed", text.count)),
    Column("extra", _fixed("extra"), _plain("train_only", text.count)),
    Column("train_s", _fixed("train s"), _plain("train_seconds", text.seconds)),
    Column("seeds", _fixed("seeds"), _seeds),
)


def further(section: Section) -> list[Column]:
    """Return a column for each held-out split beside the official test."""
    return [_further(name) for name in section.further]


def _further(name: str) -> Column:
    def value(line: Line, section: Section) -> Value:
        spread = line.further.get(name)
        return Value(text.spread(spread, section.metric), spread.mean if spread else None)

    return Column(name, lambda s: f"{name}{text.unit(s.metric)}", value, directed=True)


def usual(section: Section) -> list[Column]:
    """Return the columns of a section's table by default."""
    columns = [column for column in COLUMNS if column.usual and column.shown(section)]
    at = next(place for place, column in enumerate(columns) if column.key == "gain")
    return [*columns[:at], *further(section), *columns[at:]]
