"""The part of the report on learning rates."""

from __future__ import annotations

from collections.abc import Iterator

from bench.report import text
from bench.report.content import Block, Context, Heading, Part, Table, Text, Value
from bench.report.frame import REFERENCE, SECOND
from bench.report.groups import Group
from bench.report.rates import Rates, rate_families
from bench.report.remarks import group_caption
from bench.report.sections import Line, Section, Versus, hold
from bench.stats import improvement

READING = (
    "The same task with the same settings at several learning rates. A method with large gradients "
    "looks good at a rate that is too low for the others, so a gain at one rate may be the rate's. "
    "On the right every row has the rate at which its mean validation score over seeds is highest, "
    "chosen from the same rates for all, and is compared there, seed by seed. A row that lacks a "
    "rate or a seed has no such choice. Overview and ranks above take each row at its own rate."
)


def rate_parts(context: Context) -> Iterator[Part]:
    """Yield one part with a table for each task that was run at several rates."""
    blocks: list[Block] = []
    for rates in rate_families(context.sections):
        first = rates.sections[0]
        told = ", ".join(rates.settings)
        preset = f"{first.base_preset} with {told}" if told else first.base_preset
        heading = f"{first.title} ({first.where_with(preset)})"
        blocks += [Heading(heading), _table(rates, heading), *_ends(rates)]
    if blocks:
        yield Part("Learning rates", (Text(READING), *blocks))


def _ends(rates: Rates) -> Iterator[Text]:
    """Yield a note on the rows whose own rate is the lowest or the highest that was run."""
    found: dict[str, list[str]] = {"lowest": [], "highest": []}
    for label in rates.labels:
        chosen = rates.chosen(label)
        if chosen and chosen[0] is rates.sections[0]:
            found["lowest"].append(label)
        elif chosen and chosen[0] is rates.sections[-1]:
            found["highest"].append(label)
    told = [f"the {end} rate for {', '.join(labels)}" for end, labels in found.items() if labels]
    if told:
        yield Text(
            f"Best at an end of the range, so perhaps better beyond: {'; '.join(told)}.", "note"
        )


def _table(rates: Rates, title: str) -> Table:
    first = rates.sections[0]
    kinds = {line.label: line.kind for section in rates.sections for line in section.lines}
    best = {label: rates.chosen(label) for label in rates.labels}
    others = [name for name in (REFERENCE, SECOND) if best.get(name)]
    points = " (points)" if text.unit(first.metric) else ""
    head = ["method"]
    head += [f"at {section.learning_rate:g}{text.unit(first.metric)}" for section in rates.sections]
    head += ["own rate", f"test there{text.unit(first.metric)}"]
    for other in others:
        head += [f"gain over {other}{points}", f"95 % interval{points}"]
    placed = []
    for label in rates.labels:
        found = best[label]
        row = [Value(label, label, italic=kinds[label] == "baseline")]
        row += [_score(section.line(label), section) for section in rates.sections]
        if found is None:
            row += [Value(text.NOTHING)] * (2 + 2 * len(others))
            placed.append((0.0, label, row))
            continue
        section, line = found
        rate = section.learning_rate
        row += [Value(f"{rate:g}", rate), _score(line, section)]
        for other in others:
            held = _held(line, best[other], label == other)
            row += _difference(held, section.metric)
        score = improvement(line.best.mean if line.best else 0.0, 0.0, section.direction)
        placed.append((score, label, row))
    placed.sort(key=lambda each: (best[each[1]] is None, -each[0], each[1]))
    return Table(
        name=f"rates-{first.slug}",
        head=head,
        rows=[row for _, _, row in placed],
        title=title,
        source=group_caption(Group(rates.sections)),
    )


def _held(line: Line, other: tuple[Section, Line] | None, same: bool) -> Versus | None:
    if other is None or same:
        return None
    section, base = other
    return hold(line.scores, base.scores, section.direction)


def _score(line: Line | None, section: Section) -> Value:
    if line is None or line.best is None:
        return Value(text.NOTHING)
    return Value(text.spread(line.best, section.metric), line.best.mean)


def _difference(held: Versus | None, metric: str) -> list[Value]:
    if held is None:
        return [Value(text.NOTHING), Value(text.NOTHING)]
    shown = text.interval(held.interval, metric, signed=True)
    low = held.interval.low if held.interval else None
    return [Value(text.gain(held.gain, metric), held.gain.mean), Value(shown, low)]
