"""The part of the report on learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.report import text
from bench.report.captions import group_caption
from bench.report.columns import absent
from bench.report.content import Block, Context, Heading, Part, Table, Text, Value
from bench.report.groups import Group
from bench.report.lines import Line, Versus, hold
from bench.report.presets import told
from bench.report.rates import Rates
from bench.report.remarks import terms
from bench.report.roles import REFERENCE, SECOND
from bench.report.sections import Section
from bench.stats import improvement

READING = (
    "The same task with the same settings at several learning rates. A loss that suits a low rate "
    "looks good at a rate that is too low for the others, so a gain at one rate may be the rate's. "
    "On the right every row has the rate at which its mean validation score over seeds is best, "
    "chosen from the same rates for all, and is compared there, seed by seed. A row that lacks a "
    "rate, or a seed at one of them, has no such choice; a rate at which one of its runs failed is "
    "not chosen."
)
OWN = " Overview and ranks above take each row at its own rate."
APART = (
    "The plain student, or every other row, lacks a rate or a seed here: overview and ranks keep "
    "these tables apart."
)


def rate_parts(context: Context) -> Iterator[Part]:
    """Yield one part with a table for each task that was run at several rates."""
    blocks: list[Block] = []
    for rates in context.rates:
        if not any(section.line(label) for section in rates.sections for label in rates.labels):
            continue
        first = rates.sections[0]
        heading = f"{first.title} ({first.where_with(told(first.base_preset, rates.settings))})"
        blocks += [Heading(heading), _table(rates, heading)]
        for split in rates.further:
            blocks += [
                Text(f"The same rates, chosen as above, on {split}:"),
                _table(rates, heading, split),
            ]
        notes = [*_ends(rates), *_terms(rates), *([] if rates.own else [APART])]
        if notes:
            blocks.append(Text(" ".join(notes), "note"))
    if blocks:
        own = any(rates.own for rates in context.rates)
        yield Part("Learning rates", (Text(READING + OWN * own), *blocks))


def _ends(rates: Rates) -> Iterator[str]:
    """Yield a note on the rows whose own rate is the lowest or highest that was run."""
    found: dict[str, list[str]] = {"lowest": [], "highest": []}
    for label, (section, _) in rates.chosen.items():
        if section is rates.sections[0]:
            found["lowest"].append(label)
        elif section is rates.sections[-1]:
            found["highest"].append(label)
    ends = [f"the {end} rate for {', '.join(labels)}" for end, labels in found.items() if labels]
    if ends:
        yield f"Best at an end of the range, so perhaps better beyond: {'; '.join(ends)}."


def _terms(rates: Rates) -> list[str]:
    """Return why rows are not on the terms of all, each reason once."""
    return list(dict.fromkeys(each for section in rates.sections for each in terms(section)))


def _table(rates: Rates, title: str, split: str = "") -> Table:
    """Return the table of the test split, or of a further held-out one by its name."""
    scored = _scored(rates, split)
    first = rates.sections[0]
    kinds = {line.label: line.kind for section in rates.sections for line in section.lines}
    others = [name for name in (REFERENCE, SECOND) if name in scored.chosen]
    unit, points = text.unit(first.metric), text.points(first.metric)
    head = ["method"]
    head += [f"at {section.learning_rate:g}{unit}" for section in rates.sections]
    head += ["own rate", f"{split or 'test'} there{unit}"]
    for other in others:
        head += [f"gain over {other}{points}", f"95 % interval{points}"]
    rows = []
    for label in sorted(rates.labels, key=lambda label: _place(scored, label)):
        row = [Value(label, label, italic=kinds[label] == "baseline")]
        row += [_at(section, label) for section in scored.sections]
        rows.append([*row, *_own(scored, label, others)])
    return Table(
        name=f"rates-{split}-{first.slug}" if split else f"rates-{first.slug}",
        head=head,
        rows=rows,
        title=f"{title}, {split}" if split else title,
        source=group_caption(Group(rates.sections)),
    )


class _Scored(NamedTuple):
    """Sections by rate, and those of each row's own rate, all with the scores of one split."""

    sections: Sequence[Section]
    chosen: Mapping[str, tuple[Section, Line]]


def _scored(rates: Rates, split: str) -> _Scored:
    """Return ``rates`` with the scores of ``split``; what validation chose stays chosen."""
    if not split:
        return _Scored(rates.sections, rates.chosen)
    scored = {id(section): section.scored_on(split) for section in rates.sections}
    chosen = {
        label: (scored[id(section)], line)
        for label, (section, _) in rates.chosen.items()
        if (line := scored[id(section)].line(label))
    }
    return _Scored(list(scored.values()), chosen)


def _place(scored: _Scored, label: str) -> tuple[bool, float, str]:
    """Return a row's sort key: best first, then those without a choice, by name."""
    found = scored.chosen.get(label)
    if found is None or found[1].best is None:
        return True, 0.0, label
    return False, -improvement(found[1].best.mean, 0.0, found[0].direction), label


def _own(scored: _Scored, label: str, others: Sequence[str]) -> list[Value]:
    """Return the cells of a row at its own rate, and its differences to ``others`` at theirs."""
    if label not in scored.chosen:
        return [Value(text.NOTHING)] * (2 + 2 * len(others))
    section, line = scored.chosen[label]
    row = [Value(f"{section.learning_rate:g}", section.learning_rate), _score(line, section)]
    for other in others:
        base = scored.chosen[other][1]
        comparable = label != other and line.paired
        held = hold(line.scores, base.scores, section.direction) if comparable else None
        row += _difference(held, section.metric)
    return row


def _at(section: Section, label: str) -> Value:
    """Return the score of ``label`` at the rate of ``section``, or why it has none."""
    line = section.any_line(label)
    if line is None:
        return Value(text.NOTHING)
    return _score(line, section) if line.best else Value(absent(line))


def _score(line: Line, section: Section) -> Value:
    assert line.best is not None
    return Value(text.spread(line.best, section.metric), line.best.mean)


def _difference(held: Versus | None, metric: str) -> list[Value]:
    if held is None:
        return [Value(text.NOTHING), Value(text.NOTHING)]
    shown = text.interval(held.interval, metric, signed=True)
    low = held.interval.low if held.interval else None
    return [Value(text.gain(held.gain, metric), held.gain.mean), Value(shown, low)]
