"""The parts that are pictures; what draws them is loaded only when a file has to be written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.report.content import Context, Heading, Part, Picture
from bench.report.curves import curves
from bench.report.groups import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pictures(context: Context) -> Iterator[Part]:
    """Yield the pictures of each group of sections."""
    for group in context.groups:
        heading = Heading(group.where[0].upper() + group.where[1:])
        yield Part("Figures", (heading, *_pictures(context, group)))


def _pictures(context: Context, group: Group) -> Iterator[Picture]:
    sections, looks = group.sections, context.looks
    costs = [context.costs_of(section) for section in sections]
    found = [curves(context, section) for section in sections]

    def dots() -> Figure:
        from bench.report.figures.dots import draw

        return draw(sections, looks)

    def tradeoff() -> Figure:
        from bench.report.figures.tradeoff import draw

        return draw(sections, costs, looks)

    def bars() -> Figure:
        from bench.report.figures.bars import draw

        return draw(sections, costs, looks)

    def learning() -> Figure:
        from bench.report.figures.curves import draw

        return draw(sections, found, looks)

    def heat() -> Figure:
        from bench.report.figures.heat import draw

        return draw(group)

    yield Picture(
        f"scores-{group.slug}",
        dots,
        f"Test scores of every method, seed by seed, {group.where}",
        "Small dots are seeds, large ones means; bars are 95 % intervals where there are seeds "
        "enough, else one standard deviation.",
    )
    if len(sections) > 1 and any(line.gain for s in sections for line in s.lines):
        yield Picture(
            f"gains-{group.slug}",
            heat,
            f"Mean gain over the plain student, method by task, {group.where}",
            "Mean paired gains in points; grey is not there.",
        )
    if any(line.best and line.trained_student for s in sections for line in s.lines):
        yield Picture(
            f"tradeoff-{group.slug}",
            tradeoff,
            f"Test score against training cost and inference cost, {group.where}",
            "Up is better, left is cheaper; no method right of and below the dashed front is worth "
            "its cost on the mean. Bars are one standard deviation.",
        )
    if any(found):
        yield Picture(
            f"curves-{group.slug}",
            learning,
            f"Validation score by epoch, {group.where}",
            "Means over seeds; bands reach from the lowest seed to the highest. The first quarter "
            "may lie outside, so that the ends can be told apart.",
        )
    if any(cost.state == "ok" for of_section in costs for cost in of_section.values()):
        yield Picture(
            f"cost-{group.slug}",
            bars,
            f"Throughput and memory of every method, {group.where}",
            "Measured apart from accuracy; training with the teacher cached where that works.",
        )
