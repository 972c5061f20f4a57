"""Test score over the number of labelled samples: means, and the range of the seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.report.figures.style import GREY, grid, legend_beneath, plain, styled, title
from bench.report.labels import LabelCurves, Point
from bench.report.looks import Look
from bench.report.roles import CEILING
from bench.report.text import metric_name, scale, unit

WIDTH_OF_A_TICK = 0.2  # of the axis, where two facets stand side by side


def draw(curves: Sequence[LabelCurves], looks: Mapping[str, Look]) -> Figure:
    """Return the figure: a facet for each task, a line for each method."""
    columns = min(2, len(curves))
    rows = math.ceil(len(curves) / columns)
    labels = sorted({label for each in curves for label in each.points} - {CEILING})
    with styled(7.0, 3.0 * rows + 0.4 + 0.19 * -(-len(labels) // 4)) as figure:
        axes = grid(figure, len(curves), columns)
        for ax, each in zip(axes, curves, strict=True):
            _facet(ax, each, looks)
        legend_beneath(figure, labels, looks)
    return figure


def _facet(ax: Axes, curves: LabelCurves, looks: Mapping[str, Look]) -> None:
    factor = scale(curves.metric)
    for label, points in curves.points.items():
        if label == CEILING:  # so far above that it would press the others together
            _teacher(ax, points, factor)
            continue
        colour, marker, dash = looks[label]
        at = [point.labels for point in points]
        mean = [point.mean * factor for point in points]
        ax.plot(at, mean, color=colour, lw=1.4, ls=dash, marker=marker, markersize=4)
        low = [point.low * factor for point in points]
        high = [point.high * factor for point in points]
        ax.vlines(at, low, high, color=colour, lw=1.2)
    ax.set_xscale("log")
    ticks = sorted({point.labels for points in curves.points.values() for point in points})
    room = math.log(ticks[-1] / ticks[0])
    narrow = any(math.log(b / a) < WIDTH_OF_A_TICK * room for a, b in itertools.pairwise(ticks))
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,.0f}"))
    ax.tick_params(axis="x", labelrotation=35 if narrow else 0)
    ax.set_xlabel("labelled training samples")
    ax.set_ylabel(f"test {plain(metric_name(curves.metric))}{unit(curves.metric)}")
    title(ax, curves)


def _teacher(ax: Axes, points: Sequence[Point], factor: float) -> None:
    """Write the teacher's scores in a corner, in words that nobody takes for a point's."""
    means = sorted(point.mean * factor for point in points)
    found = list(dict.fromkeys(f"{mean:.1f}" for mean in means))
    words = f"teacher {found[0]}" if len(found) == 1 else f"teacher {found[0]} to {found[-1]}"
    words += ", not drawn"
    ax.text(0.98, 0.03, words, transform=ax.transAxes, ha="right", fontsize=8, color=GREY)
