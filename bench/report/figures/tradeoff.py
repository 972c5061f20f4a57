"""Scores against costs: training on the left, inference on the right, one row per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from bench.report.costs import Cost, train_seconds
from bench.report.figures.style import (
    GREY,
    Mark,
    draw_marks,
    handle,
    plain,
    plain_ticks,
    styled,
    title,
)
from bench.report.lines import Line
from bench.report.looks import Look
from bench.report.sections import Section
from bench.report.text import metric_name, scale, unit
from bench.stats import improvement


@dataclass(frozen=True)
class Point:
    """A method in one panel: its cost, its mean score and half the length of its error bar."""

    label: str
    cost: float
    score: float
    spread: float


def draw(
    sections: Sequence[Section],
    costs: Sequence[Mapping[str, Cost]],
    looks: Mapping[str, Look],
) -> Figure:
    """Return the figure: two panels for each section.

    Args:
        sections: of one group.
        costs: of each section's methods; where they were not measured, the training panel says so
            and inference cost is the number of deployed parameters.
        looks: colour and marker of each method.
    """
    shown = sorted(
        {
            label
            for section, cost in zip(sections, costs, strict=True)
            for axis in (_training_costs(section, cost), _inference_costs(section, cost))
            for label, found in axis.items()
            if found
        }
    )
    rows = -(-len(shown) // 4)
    with styled(7.0, 2.7 * len(sections) + 0.5 + 0.19 * rows) as figure:
        axes = figure.subplots(len(sections), 2, squeeze=False, sharey="row")
        for (left, right), section, cost in zip(axes, sections, costs, strict=True):
            _training(left, section, cost, looks)
            _inference(right, section, cost, looks)
            better = ", lower is better" if section.direction == "min" else ""
            left.set_ylabel(
                f"test {plain(metric_name(section.metric))}{unit(section.metric)}{better}"
            )
            if section.direction == "min":
                left.invert_yaxis()  # and the right one, which shares it
            title(left, section)
        handles = [handle(label, looks[label]) for label in shown]
        front = Line2D([], [], color=GREY, lw=1, ls="--", label="Pareto front")
        figure.legend(handles=[*handles, front], loc="outside lower center", ncols=4, frameon=False)
    return figure


def drawn(section: Section) -> list[Line]:
    """Return the lines that have a place in the figure: finished, trained students."""
    return [line for line in section.lines if line.best and line.trained_student]


def _training(
    ax: Axes, section: Section, costs: Mapping[str, Cost], looks: Mapping[str, Look]
) -> None:
    measured = _training_costs(section, costs)
    if any(measured.values()):
        _panel(ax, section, measured, looks)
        ax.set_xlabel(f"training (s for 1000 samples){_share(section, measured)}")
    else:  # the wall time of cells that ran beside others would pass for a cost here
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color=GREY)
        ax.set_xticks([])
        ax.set_xlabel("training")


def _inference(
    ax: Axes, section: Section, costs: Mapping[str, Cost], looks: Mapping[str, Look]
) -> None:
    found = _inference_costs(section, costs)
    _panel(ax, section, found, looks)
    measured = latencies(drawn(section), costs)
    what = "ms for one sample" if measured else "deployed parameters"
    ax.set_xlabel(f"inference ({what}){_share(section, found)}")


def _training_costs(section: Section, costs: Mapping[str, Cost]) -> dict[str, float | None]:
    return {line.label: train_seconds(line, costs.get(line.label)) for line in drawn(section)}


def _inference_costs(section: Section, costs: Mapping[str, Cost]) -> Mapping[str, float | None]:
    """Return latencies, or deployed parameters where none was measured."""
    lines = drawn(section)
    return latencies(lines, costs) or {line.label: line.deployed for line in lines}


def _share(section: Section, costs: Mapping[str, float | None]) -> str:
    """Return in words how many methods a panel shows; empty when it is all of them."""
    have, all_ = sum(1 for cost in costs.values() if cost), len(drawn(section))
    return "" if have == all_ else f"\nmeasured for {have} of {all_} methods"


def latencies(lines: Sequence[Line], costs: Mapping[str, Cost]) -> dict[str, float]:
    """Return milliseconds for one sample by method.

    Students of equal parameters and FLOPs are one network, whatever taught them: differences of
    their measurements are noise, and each gets the median.
    """
    alike: dict[tuple[float | None, float | None], dict[str, float]] = {}
    for line in lines:
        cost = costs.get(line.label)
        if cost and cost.p50:
            alike.setdefault((line.deployed, cost.flops), {})[line.label] = 1000 * cost.p50
    return {label: median(each.values()) for each in alike.values() for label in each}


def _panel(
    ax: Axes, section: Section, costs: Mapping[str, float | None], looks: Mapping[str, Look]
) -> None:
    factor = scale(section.metric)
    points = [
        Point(line.label, cost, line.best.mean * factor, (line.best.sd or 0.0) * factor)
        for line in drawn(section)
        if line.best and (cost := costs.get(line.label))
    ]
    fair = {line.label for line in section.lines if line.on_same_terms}
    front = pareto([point for point in points if point.label in fair], section.direction)
    ax.plot(
        [point.cost for point in front],
        [point.score for point in front],
        drawstyle="steps-post",
        color=GREY,
        lw=1,
        ls="--",
        zorder=1,
    )
    marks = [
        Mark(p.cost, p.score, p.score - p.spread, p.score + p.spread, looks[p.label])
        for p in points
    ]
    draw_marks(ax, marks, across=False)
    ax.margins(x=0.1)
    _cost_axis(ax, [point.cost for point in points])
    ax.margins(y=0.12)


def _cost_axis(ax: Axes, costs: Sequence[float]) -> None:
    """Set a logarithmic axis where costs differ by much, else one from zero, in plain numbers."""
    if costs and max(costs) > 5 * min(costs):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    elif costs:  # a hair's breadth must not look like a gulf
        ax.set_xlim(0, 1.2 * max(costs))
    plain_ticks(ax)


def pareto(points: Sequence[Point], direction: str) -> list[Point]:
    """Return the points that no other beats in cost without losing in score, cheapest first."""
    front: list[Point] = []
    ordered = sorted(points, key=lambda p: (p.cost, -improvement(p.score, 0.0, direction), p.label))
    for point in ordered:
        if not front or improvement(point.score, front[-1].score, direction) > 0:
            front.append(point)
    return front
