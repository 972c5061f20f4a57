"""The parts that are pictures; their code is loaded only when a file has to be written."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.report.content import Block, Context, Heading, Part, Picture
from bench.report.curves import Curve, curves
from bench.report.groups import Group
from bench.report.labels import label_curves
from bench.report.sections import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(module: str, *arguments: Any) -> Figure:
    """Call ``draw`` of a module of :mod:`bench.report.figures`, which is loaded only now."""
    loaded = importlib.import_module(f"bench.report.figures.{module}")
    figure: Figure = loaded.draw(*arguments)
    return figure


def gain_map(group: Group) -> Iterator[Picture]:
    """Yield the map of gains, method by task; nothing where there is no gain to show."""
    if len(group.sections) > 1 and group.gains:
        yield Picture(
            f"gains-{group.slug}",
            partial(draw, "heat", group),
            f"Mean gain over the plain student, method by task, {group.where}",
            "Mean paired gains in points of rows with all seeds; grey is not there.",
        )


def pictures(context: Context) -> Iterator[Part]:
    """Yield the pictures of each group of sections, in one part."""
    blocks: list[Block] = []
    for group in context.groups:
        blocks.append(Heading(group.heading))
        blocks += _pictures(context, group)
    if blocks:
        yield Part("Figures", tuple(blocks))


def _pictures(context: Context, group: Group) -> Iterator[Picture]:
    sections, looks = group.sections, context.looks
    costs = [context.costs_of(section) for section in sections]
    found = [curves(context, section) for section in sections]

    yield Picture(
        f"scores-{group.slug}",
        partial(draw, "dots", sections, looks),
        f"Test scores of every method, seed by seed, {group.where}",
        "Small dots are seeds (left out where there are very many), large ones means; bars are "
        "95 % intervals where there are seeds enough, else one standard deviation.",
    )
    by_labels = label_curves(sections)
    if by_labels:
        yield Picture(
            f"labels-{group.slug}",
            partial(draw, "labels", by_labels, looks),
            f"Test score by number of labelled samples, {group.where}",
            "Means over seeds; bars reach from the lowest seed to the highest. All points have the "
            "preset's epochs, so with fewer labels a student takes fewer steps too.",
        )
    measured = any(cost.state == "ok" for each in costs for cost in each.values())
    students = [
        cost.get(line.label)
        for section, cost in zip(sections, costs, strict=True)
        for line in section.lines
        if line.best and line.trained_student
    ]
    if any(cost.state == "ok" for cost in students if cost):
        yield Picture(
            f"tradeoff-{group.slug}",
            partial(draw, "tradeoff", sections, costs, looks),
            f"Test score against training cost and inference cost, {group.where}",
            "Up is better, left is cheaper; of the methods that were measured, none right of and "
            "below the dashed front is worth its cost on the mean. Bars are one standard "
            "deviation. Students of equal parameters and FLOPs are one network: they share the "
            "median of their latencies.",
        )
    if any(found):
        yield Picture(
            f"curves-{group.slug}",
            partial(draw, "curves", sections, found, looks),
            f"Validation score by epoch, {group.where}",
            "Means over seeds; bands reach from the lowest seed to the highest. The first quarter "
            "may lie outside, so that the ends can be told apart." + _left_out(sections, found),
        )
    if measured:
        yield Picture(
            f"cost-{group.slug}",
            partial(draw, "bars", sections, costs, looks),
            f"Throughput and memory of every method, {group.where}",
            "Measured apart from accuracy; training with the teacher cached where that works. "
            "Students of equal inference FLOPs are one network and share the median of its rates.",
        )


def _left_out(sections: Sequence[Section], found: Sequence[Mapping[str, Curve]]) -> str:
    """Return a sentence on the trained students that have no curve; empty where all have one."""
    lacking = {
        line.label
        for section, drawn in zip(sections, found, strict=True)
        for line in section.lines
        if line.best and line.trained_student and line.label not in drawn
    }
    if not lacking:
        return ""
    return (
        f" Left out, as fewer than two of their epochs were scored: {', '.join(sorted(lacking))}."
    )
