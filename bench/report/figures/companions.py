"""Validation scores by epoch of a student and of the models trained beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.report.companions import Curve, Panel, mean_curve
from bench.report.figures.style import grid, place, plain, styled, task
from bench.report.text import metric_name, scale, unit

STUDENT, TEACHER = "student", "static teacher"
STUDENT_COLOUR, TEACHER_COLOUR = "#0173b2", "#000000"
# Told apart without colour too: by dash and marker.
COMPANION_LOOKS = (("#d55e00", "--", "s"), ("#029e73", "-.", "D"), ("#882255", ":", "^"))
COLUMNS = 3


def draw(shown: list[Panel]) -> Figure:
    """Return the figure: one facet per panel, thin lines for seeds, thick ones for means."""
    columns = max(1, min(len(shown), COLUMNS))
    rows = max(1, math.ceil(len(shown) / columns))
    names = sorted({name for panel in shown for name in panel.companions})
    looks = {name: COMPANION_LOOKS[at % len(COMPANION_LOOKS)] for at, name in enumerate(names)}
    with styled(max(5.0, 3.5 * columns), 2.9 * rows + 0.6) as figure:
        for ax, panel in zip(grid(figure, len(shown), columns), shown, strict=True):
            _facet(ax, panel, looks)
        figure.legend(
            handles=_legend(looks, any(panel.teachers for panel in shown)),
            loc="outside lower center",
            ncols=2 * columns,
            frameon=False,
        )
    return figure


def _facet(ax: Axes, panel: Panel, looks: Mapping[str, tuple[str, str, str]]) -> None:
    factor = scale(panel.metric)
    for value in panel.teachers:
        ax.axhline(value * factor, color=TEACHER_COLOUR, ls=(0, (1, 1.5)), lw=1.2, zorder=1)
    lines = [(STUDENT_COLOUR, "-", "o", panel.student)]
    lines += [(*looks[name], curves) for name, curves in sorted(panel.companions.items())]
    means = []
    for colour, dash, marker, curves in lines:
        for curve in curves if len(curves) > 1 else ():
            _line(ax, curve, factor, color=colour, lw=0.7, alpha=0.35, zorder=2)
        means.append(mean_curve(curves))
        _line(
            ax, means[-1], factor, color=colour, ls=dash, lw=1.8, marker=marker, ms=4,
            markevery=max(1, len(means[-1]) // 10), mec="white", mew=0.6, zorder=3,
        )  # fmt: skip
    if len(means) == 2:  # the gap itself
        epochs = sorted(means[0].keys() & means[1].keys())
        low, high = ([mean[epoch] * factor for epoch in epochs] for mean in means)
        ax.fill_between(epochs, low, high, color=lines[1][0], alpha=0.12, lw=0, zorder=1)
    ax.set_xlabel("epoch")
    ax.set_ylabel(f"validation {plain(metric_name(panel.metric))}{unit(panel.metric)}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.set_title(f"{plain(panel.label, 36)}\n{task(panel.title)}\n", loc="left", pad=2)
    place(ax, panel.where)


def _line(ax: Axes, curve: Curve, factor: float, **look: Any) -> None:
    epochs = sorted(curve)
    ax.plot(epochs, [curve[epoch] * factor for epoch in epochs], **look)


def _legend(looks: Mapping[str, tuple[str, str, str]], teacher: bool) -> list[Line2D]:
    thick: dict[str, Any] = {"lw": 1.8, "ms": 4, "mec": "white", "mew": 0.6}
    handles = [Line2D([], [], color=STUDENT_COLOUR, marker="o", label=STUDENT, **thick)]
    handles += [
        Line2D([], [], color=colour, ls=dash, marker=marker, label=plain(name), **thick)
        for name, (colour, dash, marker) in looks.items()
    ]
    if teacher:
        handles.append(
            Line2D([], [], color=TEACHER_COLOUR, ls=(0, (1, 1.5)), lw=1.2, label=TEACHER)
        )
    handles.append(Line2D([], [], color="#777777", lw=0.7, alpha=0.6, label="one seed"))
    return handles
