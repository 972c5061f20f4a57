"""The leaderboard as one figure: every seed a dot, every method a line, every task a facet."""

from __future__ import annotations

import io
import math
import textwrap
from dataclasses import replace
from typing import Any

import matplotlib
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.report.frame import CEILING, REFERENCE
from bench.report.sections import Section, sections
from bench.report.text import metric_name, scale, unit

HASH_SALT = "distillation-bench"
MARKERS = ("o", "s", "D", "^")
SEED_OFFSET = 0.3  # of a line: beneath the mean, which would hide them
REFERENCE_COLOUR, CEILING_COLOUR = "#555555", "#000000"
_STYLE: dict[Any, Any] = {  # matplotlib types its keys one by one
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "svg.fonttype": "path",
    "svg.hashsalt": HASH_SALT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 9,
}
Look = tuple[str, str]
MOST_ROWS = 40  # in one facet; the tables have all


def draw(frame: pd.DataFrame) -> Figure:
    """Return the figure of ``frame``: a facet for each section, best method on top.

    No pyplot state is touched, so nothing has to be closed and no display is needed.
    """
    parts = [_head(section) for section in sections(frame)]
    columns = max(1, 2 if len(parts) == 4 else min(len(parts), 3))
    rows = max(1, math.ceil(len(parts) / columns))
    tallest = max((len(section.lines) for section in parts), default=1)
    names = [_plain(label) for label in sorted(set(frame.label))]
    longest = max((len(line) for name in names for line in name.split("\n")), default=0)
    pitch = 0.36 if any("\n" in name for name in names) else 0.27  # inches for one method
    style: dict[Any, Any] = {**seaborn.axes_style("whitegrid"), **_STYLE}
    with matplotlib.rc_context(style):
        figure = Figure(
            figsize=(
                max(7.0, (3.4 + 0.075 * longest) * columns),
                rows * (1.3 + pitch * tallest) + 0.6,
            ),
            layout="constrained",
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        looks = _looks(frame)
        for ax, section in zip(axes, parts, strict=False):
            _facet(ax, section, looks)
        for ax in axes[len(parts) :]:
            ax.set_visible(False)
        figure.legend(handles=_legend(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _head(section: Section) -> Section:
    """Return ``section`` with the rows a figure can show: the best, and the reference."""
    if len(section.lines) <= MOST_ROWS:
        return section
    kept = [line for line in section.lines if line.label == REFERENCE]
    kept = [line for line in section.lines if line not in kept][: MOST_ROWS - len(kept)] + kept
    shown = [line for line in section.lines if line in kept]  # in the table's order
    title = f"{section.title} (best {len(shown)} of {len(section.lines)})"
    return replace(section, lines=shown, title=title)


def encode(figure: Figure, form: str) -> bytes:
    """Return ``figure`` as the bytes of an "svg" or "png" file, the same bytes every time."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format=form, dpi=130, metadata=metadata)
    return buffer.getvalue()


def _looks(frame: pd.DataFrame) -> dict[str, Look]:
    """Give each label one colour and marker for the whole figure.

    The palette has fewer colours than there are methods, so the marker changes with each round.
    """
    palette = seaborn.color_palette("colorblind").as_hex()
    # Grey is the reference's, and yellow is hard to see on white.
    palette = [colour for colour in palette if colour not in ("#949494", "#ece133")]
    names = sorted(set(frame.label) - {REFERENCE, CEILING})
    looks = {
        name: (palette[at % len(palette)], MARKERS[at // len(palette) % len(MARKERS)])
        for at, name in enumerate(names)
    }
    return looks | {REFERENCE: (REFERENCE_COLOUR, "o"), CEILING: (CEILING_COLOUR, "o")}


def _facet(ax: Axes, section: Section, looks: dict[str, Look]) -> None:
    factor = scale(section.metric)
    reference = section.reference
    if reference is not None and reference.best is not None:
        ax.axvline(reference.best.mean * factor, color=REFERENCE_COLOUR, ls="--", lw=1, zorder=1)
    if section.teacher is not None:
        ax.axvline(section.teacher * factor, color=CEILING_COLOUR, ls=(0, (1, 1.5)), lw=1, zorder=1)
    seeds = pd.DataFrame(
        [
            {"score": score * factor, "place": place + SEED_OFFSET, "label": line.label}
            for place, line in enumerate(section.lines)
            for _, score in sorted(line.scores.items())
        ],
        columns=["score", "place", "label"],
    )
    if not seeds.empty:
        # Without jitter: it would draw from NumPy's global state.
        seaborn.stripplot(
            seeds,
            x="score",
            y="place",
            hue="label",
            palette={name: look[0] for name, look in looks.items()},
            jitter=False,
            native_scale=True,
            orient="h",
            size=3.5,
            alpha=0.7,
            legend=False,
            zorder=2,
            ax=ax,
        )
    for place, line in enumerate(section.lines):
        colour, marker = looks[line.label]
        if line.best is None:
            ax.text(
                0.02, place, "no result", transform=ax.get_yaxis_transform(), va="center",
                fontsize=8, color="#777777", style="italic",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, zorder=3,
            )  # fmt: skip
            continue
        ax.errorbar(
            line.best.mean * factor,
            place,
            xerr=None if line.best.sd is None else line.best.sd * factor,
            color=colour,
            marker=marker,
            markersize=7,
            markeredgecolor="white",
            markeredgewidth=0.8,
            elinewidth=1.6,
            capsize=2.5,
            zorder=3,
        )
    _label(ax, section)


def _label(ax: Axes, section: Section) -> None:
    names = [_plain(line.label) for line in section.lines]
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
    ax.set_xlabel(f"test {_plain(metric_name(section.metric))}{unit(section.metric)}{better}")
    where = f"preset {section.preset}, source {section.source}, {section.device}"
    where = _plain(where, 48)
    ax.set_title(_plain(section.title, 38) + "\n" * (where.count("\n") + 1), loc="left", pad=2)
    ax.text(0, 1.01, where, transform=ax.transAxes, fontsize=8, color="#555555", va="bottom")


def _plain(label: str, width: int = 24) -> str:
    """Return ``label`` on at most two lines, and with no mathematics in it for matplotlib."""
    lines = textwrap.wrap(label, width, max_lines=2, placeholder=" …") or [""]
    return "\n".join(lines).replace("$", r"\$")


def _legend() -> list[Line2D]:
    grey = "#777777"
    return [
        Line2D([], [], ls="", marker="o", ms=3.5, color=grey, alpha=0.6, label="one seed"),
        Line2D([], [], marker="o", ms=7, mec="white", color=grey, label="mean ± sd over seeds"),
        Line2D([], [], color=REFERENCE_COLOUR, ls="--", lw=1, label=REFERENCE),
        Line2D([], [], color=CEILING_COLOUR, ls=(0, (1, 1.5)), lw=1, label=CEILING),
    ]
