"""Learning curves on validation: the mean over seeds, and the range of the seeds around it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.curves import Curve
from bench.report.figures.style import grid, legend_beneath, plain, styled, title
from bench.report.looks import Look
from bench.report.sections import Section
from bench.report.text import metric_name, scale, unit

MOST_BANDS = 8  # more bands than this hide one another


def draw(
    sections: Sequence[Section],
    curves: Sequence[Mapping[str, Curve]],
    looks: Mapping[str, Look],
) -> Figure:
    """Return the figure: a facet for each section, a line for each method."""
    columns = min(2, len(sections))
    rows = math.ceil(len(sections) / columns)
    labels = sorted({label for found in curves for label in found})
    with styled(7.0, 2.7 * rows + 0.4 + 0.19 * -(-len(labels) // 4)) as figure:
        axes = grid(figure, len(sections), columns)
        for ax, section, found in zip(axes, sections, curves, strict=True):
            _facet(ax, section, found, looks)
        legend_beneath(figure, labels, looks)
    return figure


def _facet(
    ax: Axes, section: Section, curves: Mapping[str, Curve], looks: Mapping[str, Look]
) -> None:
    factor = scale(section.metric)
    for label, curve in curves.items():
        colour, marker, dash = looks[label]
        at = np.asarray(curve.epochs)
        ax.plot(
            at,
            np.asarray(curve.mean) * factor,
            color=colour,
            lw=1.4,
            ls=dash,
            marker=marker if len(at) <= 30 else None,
            markersize=3.5,
        )
        if len(curves) <= MOST_BANDS and curve.seeds > 1:
            low, high = np.asarray(curve.low) * factor, np.asarray(curve.high) * factor
            ax.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)
    _crop(ax, curves, factor)
    ax.set_xlabel("epoch")
    ax.set_ylabel(f"validation {plain(metric_name(section.metric))}{unit(section.metric)}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    title(ax, section)


def _crop(ax: Axes, curves: Mapping[str, Curve], factor: float) -> None:
    """Leave the first quarter out of the scale, as the ends of the curves are compared."""
    late = [
        value * factor
        for curve in curves.values()
        for column in (curve.low, curve.high)
        for value in column[len(column) // 4 :]
        if len(column) > 3
    ]
    if late:
        room = 0.06 * (max(late) - min(late)) or 0.01
        ax.set_ylim(min(late) - room, max(late) + room)
