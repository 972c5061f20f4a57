"""Across tasks: mean ranks, interquartile mean, probability of improvement, tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.across import (
    TASKS_FOR_INTERVAL,
    TASKS_FOR_TEST,
    critical_difference,
    interquartile_interval,
    interquartile_mean,
    probability_of_improvement,
)
from bench.report import text
from bench.report.captions import group_caption
from bench.report.content import Block, Context, Heading, Part, Picture, Table, Text, Value
from bench.report.groups import WORTHWHILE_GAP, Group, comparable
from bench.report.looks import Look
from bench.report.pictures import draw
from bench.report.roles import REFERENCE, SECOND
from bench.stats import LEVEL, SEEDS_FOR_TEST, Interval

READING = f"""\
Over the trained students that finished every seed of every task. Mean rank: 1 is best on all tasks;
each task counts once, with its mean over seeds. Gap closed: the interquartile mean over all runs,
0 % being the mean of {REFERENCE} and 100 % the teacher. P(better): the chance that a run of the
method beats a run of the other one, averaged over tasks. All this speaks of these tasks and of no
others, and tasks made from the same data are not independent.""".replace("\n", " ")
INTERVAL = "95 % interval"
INTERVALS = {
    True: " Intervals are 95 % bootstrap intervals over seeds within each task, widened for few.",
    False: f" No intervals: they need {SEEDS_FOR_TEST} seeds each of {TASKS_FOR_INTERVAL} tasks.",
}

MIXED = " These tables differ in data and schedule (below)."
CHOSEN = " Where a task has several tables, the one with the most methods stands for it."


def standings(context: Context) -> Iterator[Part]:
    """Yield the standing of the methods across the tasks of each group that has several."""
    made: list[Block] = []
    for group in (each for found in context.overall for each in comparable(found)):
        if len(group.sections) < 2 or len(group.labels) < 2:
            continue
        made.append(Heading(group.heading))
        table = _table(group)
        reading = READING + INTERVALS[INTERVAL in table.head]
        reading += MIXED * group.mixed + CHOSEN * group.chosen
        made += [Text(reading), table, Text(_tests(group))]
        notes = _left_out(group)
        if notes:
            made.append(Text(notes, "note"))
        made += _pictures(group, context.looks)
    if made:
        yield Part("Across tasks", tuple(made))


def _table(group: Group) -> Table:
    labels = list(map(str, group.ranks.index))
    columns = [
        ("method", [Value(label, label, italic=_is_baseline(group, label)) for label in labels]),
        ("mean rank", [Value(f"{rank:.2f}", float(rank)) for rank in group.ranks]),
    ]
    pairs = {}
    if group.with_gap:
        pairs["gap closed, IQM (%)"] = [_closed(group, label) for label in labels]
    for other in (each for each in (REFERENCE, SECOND) if each in group.labels):
        pairs[f"P(better than {other}) (%)"] = [_better(group, label, other) for label in labels]
    for name, found in pairs.items():
        columns.append((name, [value for value, _ in found]))
        if any(interval.text != text.NOTHING for _, interval in found):
            columns.append((INTERVAL, [interval for _, interval in found]))
    return Table(
        name=f"standings-{group.slug}",
        head=[name for name, _ in columns],
        rows=[list(row) for row in zip(*(cells for _, cells in columns), strict=True)],
        title=f"Standing across {len(group.sections)} tasks, {group.where}",
        source=group_caption(group),
    )


def _is_baseline(group: Group, label: str) -> bool:
    return any(line.label == label and line.kind == "baseline" for line in group.sections[0].lines)


def _closed(group: Group, label: str) -> tuple[Value, Value]:
    runs = group.closed(label)
    if not runs:
        return Value(text.NOTHING), Value(text.NOTHING)
    mean = interquartile_mean(runs)
    return Value(f"{mean * 100:.1f}", mean), _percent(interquartile_interval(runs))


def _better(group: Group, label: str, other: str) -> tuple[Value, Value]:
    if label == other:
        return Value(text.NOTHING), Value(text.NOTHING)
    chance, interval = probability_of_improvement(group.runs(label), group.runs(other))
    return Value(f"{chance * 100:.0f}", chance), _percent(interval, 0)


def _percent(interval: Interval | None, digits: int = 1) -> Value:
    if interval is None:
        return Value(text.NOTHING)
    low, high = interval.low * 100, interval.high * 100
    return Value(f"[{low:.{digits}f}, {high:.{digits}f}]", low)


def _tests(group: Group) -> str:
    found = group.friedman
    count = len(group.sections)
    if found is None:
        if count < TASKS_FOR_TEST:
            return (
                f"{count} tasks are too few for a test of ranks ({TASKS_FOR_TEST} are needed): "
                "the order above may be luck."
            )
        return "Two methods only: no test of ranks."
    p = text.p_value(found.p)
    verdict = "differ" if found.p < LEVEL else "do not differ significantly"
    distance = critical_difference(found.methods, found.tasks)
    return (
        f"Friedman's test (Iman and Davenport's F) over {found.tasks} tasks: p "
        f"{p if p.startswith('<') else '= ' + p}, so the methods {verdict}. Nemenyi's critical "
        f"difference of mean ranks at 5 % is {distance:.2f}."
    )


def _left_out(group: Group) -> str:
    told = []
    if group.left_out:
        told.append(f"Left out, since a seed or a task is missing: {', '.join(group.left_out)}.")
    if group.set_apart:
        told.append(f"Not ranked, as not on the terms of all: {', '.join(group.set_apart)}.")
    without = [group.column(s) for s in group.sections if s not in group.with_gap]
    if without:
        told.append(
            f"No gap worth closing ({WORTHWHILE_GAP * 100:.0f} point) between teacher and "
            f"{REFERENCE}, so not part of the gap closed: {', '.join(without)}."
        )
    return " ".join(told)


def _pictures(group: Group, looks: dict[str, Look]) -> Iterator[Picture]:
    if group.friedman is not None:
        yield Picture(
            f"ranks-{group.slug}",
            partial(draw, "ranks", group, looks),
            f"Critical-difference diagram, {group.where}",
            "Mean ranks over tasks, best on the left; a bar joins methods that Nemenyi's test at "
            "5 % does not tell apart.",
        )
    if group.with_gap and REFERENCE in group.labels:
        yield Picture(
            f"profiles-{group.slug}",
            partial(draw, "profiles", group, looks),
            f"Performance profiles, {group.where}",
            "The share of runs that close more than so much of the teacher gap; every task counts "
            "alike. Higher is better.",
        )
