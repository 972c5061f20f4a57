"""The leaderboard as one figure: every seed a dot, every method a line, every task a facet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.report.figures.style import Mark, draw_marks, grid, plain, styled, title
from bench.report.lines import Line
from bench.report.looks import CEILING_COLOUR, REFERENCE_COLOUR, Look
from bench.report.roles import CEILING, REFERENCE
from bench.report.sections import Section
from bench.report.text import metric_name, scale, unit

MOST_SEEDS = 1500  # of a facet: more are a smear, and a heavy file
LABEL = 28  # letters on a line of a method's name
SEED_OFFSET = 0.3  # of a line: beneath the mean, which would hide them


def draw(parts: Sequence[Section], looks: Mapping[str, Look]) -> Figure:
    """Return one figure: a facet for each section, best method on top."""
    columns = max(1, min(len(parts), 2))
    rows = max(1, math.ceil(len(parts) / columns))
    tallest = max((len(section.lines) for section in parts), default=1)
    names = [
        plain(label, LABEL)
        for label in sorted({line.label for section in parts for line in section.lines})
    ]
    longest = max((len(line) for name in names for line in name.split("\n")), default=0)
    pitch = 0.36 if any("\n" in name for name in names) else 0.27  # inches for one method
    width = max(7.0, (2.2 + 0.075 * longest) * columns)  # what a column of text is wide
    with styled(width, rows * (1.3 + pitch * tallest) + 0.6) as figure:
        for ax, section in zip(grid(figure, len(parts), columns), parts, strict=True):
            _facet(ax, section, looks)
            title(ax, section, room=60 if columns == 1 else 40)
        figure.legend(handles=_legend(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _facet(ax: Axes, section: Section, looks: Mapping[str, Look]) -> None:
    factor = scale(section.metric)
    reference = section.reference
    if reference is not None and reference.best is not None:
        ax.axvline(reference.best.mean * factor, color=REFERENCE_COLOUR, ls="--", lw=1, zorder=1)
    if section.teacher is not None:
        ax.axvline(section.teacher * factor, color=CEILING_COLOUR, ls=(0, (1, 1.5)), lw=1, zorder=1)
    seeds = [
        (score * factor, place + SEED_OFFSET, looks[line.label].colour)
        for place, line in enumerate(section.lines)
        for _, score in sorted(line.scores.items())
    ]
    if seeds and len(seeds) <= MOST_SEEDS:
        x, y, colours = zip(*seeds, strict=True)
        ax.scatter(x, y, c=list(colours), s=12, alpha=0.7, linewidths=0, zorder=2)
    marks = []
    for place, line in enumerate(section.lines):
        if line.best is None:
            ax.text(
                0.02, place, "no result", transform=ax.get_yaxis_transform(), va="center",
                fontsize=8, color="#777777", style="italic",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, zorder=3,
            )  # fmt: skip
            continue
        low, high = _bar(line)
        marks.append(
            Mark(line.best.mean * factor, place, low * factor, high * factor, looks[line.label])
        )
    draw_marks(ax, marks, across=True)
    _label(ax, section)


def _bar(line: Line) -> tuple[float, float]:
    """Return the ends of the error bar: the interval, else the deviation, else nothing."""
    assert line.best is not None
    if line.interval is not None:
        return line.interval.low, line.interval.high
    sd = line.best.sd or 0.0
    return line.best.mean - sd, line.best.mean + sd


def _label(ax: Axes, section: Section) -> None:
    names = [plain(line.label, LABEL) for line in section.lines]
    counts = [
        "" if line.complete or not line.ok else f" ({line.ok}/{line.planned})"
        for line in section.lines
    ]
    ax.set_yticks(
        range(len(names)), [name + seeds for name, seeds in zip(names, counts, strict=True)]
    )
    for tick, line in zip(ax.get_yticklabels(), section.lines, strict=True):
        tick.set_fontstyle("italic" if line.kind == "baseline" else "normal")
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_ylabel("")
    ax.grid(visible=True, axis="x", color="#e6e6e6", linewidth=0.7)
    ax.grid(visible=True, axis="y", color="#f2f2f2", linewidth=0.7)
    better = ", lower is better" if section.direction == "min" else ""
    ax.set_xlabel(f"test {plain(metric_name(section.metric))}{unit(section.metric)}{better}")


def _legend() -> list[Line2D]:
    grey = "#777777"
    return [
        Line2D([], [], ls="", marker="o", ms=3.5, color=grey, alpha=0.6, label="one seed"),
        Line2D(
            [], [], marker="o", ms=7, mec="white", color=grey, label="mean, 95 % interval or sd"
        ),
        Line2D([], [], color=REFERENCE_COLOUR, ls="--", lw=1, label=REFERENCE),
        Line2D([], [], color=CEILING_COLOUR, ls=(0, (1, 1.5)), lw=1, label=CEILING),
    ]
