"""What all figures share: the look of text and axes, the writing of names, the making of files."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter

from bench.report.labels import LabelCurves
from bench.report.looks import Look
from bench.report.sections import Section

HASH_SALT = "distillation-bench"
DPI = 130
GREY = "#555555"
_STYLE: dict[Any, Any] = {  # matplotlib types its keys one by one
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "legend.fontsize": 8,
    "svg.fonttype": "path",
    "svg.hashsalt": HASH_SALT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 9,
}


@contextmanager
def styled(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of ``width`` × ``height`` inches to draw on.

    No pyplot state is touched, so nothing has to be closed and no display is needed.
    """
    with matplotlib.rc_context({**seaborn.axes_style("whitegrid"), **_STYLE}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def grid(figure: Figure, count: int, columns: int) -> list[Axes]:
    """Return ``count`` facets in rows of ``columns``; the rest of the last row is hidden."""
    axes = figure.subplots(-(-count // columns), columns, squeeze=False).flatten()
    for ax in axes[count:]:
        ax.set_visible(False)
    return list(axes[:count])


def encode(figure: Figure, form: str) -> bytes:
    """Return ``figure`` as the bytes of an "svg" or "png" file, the same bytes every time.

    The first call lays the figure out, for all its files: that takes as long as writing one.
    """
    buffer = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Date": None, "Creator": None}}
    if form == "png":  # a level of 6, the default, takes twice as long for a twentieth less
        options = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}}
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format=form, dpi=DPI, **options)
        figure.set_layout_engine("none")
    return buffer.getvalue()


def plain(label: str, width: int = 24, lines: int = 2) -> str:
    """Return ``label`` on a few lines, with nothing that matplotlib reads as mathematics."""
    wrapped = textwrap.wrap(label, width, max_lines=lines, placeholder=" …") or [""]
    return "\n".join(wrapped).replace("$", r"\$")


def legend_beside(figure: Figure, axes: Axes, title: str = "") -> None:
    """Put the legend of ``axes`` to the right of the figure, in as many columns as it takes."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside right upper",
            ncols=1 + (len(handles) - 1) // 20,
            frameon=False,
            title=title or None,
        )


def legend_beneath(figure: Figure, labels: Sequence[str], looks: Mapping[str, Look]) -> None:
    """Put a legend of methods, with their lines, under the figure, four in a row."""
    handles = [handle(label, looks[label], line=True) for label in labels]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def handle(label: str, look: Look, *, line: bool = False) -> Line2D:
    """Return the legend handle of a method."""
    dash = look.dash if line else ""
    style: dict[str, Any] = {"ms": 6, "mec": "white", "mew": 0.8, "ls": dash}
    return Line2D([], [], color=look.colour, marker=look.marker, label=plain(label), **style)


def place(ax: Axes, where: str, width: int = 54) -> None:
    """Write right above ``ax`` where something ran, cut between words to ``width`` characters."""
    short = textwrap.shorten(where, width, placeholder=" …").replace("$", r"\$")
    look: dict[str, Any] = {"fontsize": 7, "color": GREY, "va": "bottom"}
    above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    ax.annotate(short, (0, 1), (0, 2), **above, **look)


def task(title: str, width: int = 36) -> str:
    """Return a task's title on at most two lines, which may break between a variant's options."""
    return plain(title.replace(":", ": "), width)


def title(ax: Axes, section: Section | LabelCurves, *, room: int = 60) -> None:
    """Write the section's task above ``ax`` on the left, with where it ran beneath.

    Text wider than its axes would push the next ones away: ``room`` is the number of small letters
    that fit.
    """
    ax.set_title(task(section.title, 36 if room > 40 else 25) + "\n", loc="left", pad=2)
    place(ax, section.where, room)


def plain_ticks(ax: Axes) -> None:
    """Write the numbers of the x axis as 0.25, 500, 2 k, 1.5 M instead of powers of ten."""
    thousands = EngFormatter(sep=" ")

    def written(value: float, position: int | None = None) -> str:
        # a prefix below one would make "250 m" of a quarter, which reads as minutes
        return thousands(value, position) if abs(value) >= 1000 else f"{value:.6g}"

    ax.xaxis.set_major_formatter(FuncFormatter(written))


@dataclass(frozen=True)
class Mark:
    """A mean with its error bar: its position, the bar's ends, and the method's look."""

    x: float
    y: float
    low: float
    high: float
    look: Look


def draw_marks(ax: Axes, marks: Sequence[Mark], *, across: bool) -> None:
    """Draw ``marks``; bars run across or upright.

    All bars are one collection, and so are all marks of one shape: with an artist for each,
    hundreds of methods would take many seconds to draw.
    """
    if not marks:
        return
    colours = [mark.look.colour for mark in marks]
    lows, highs = [mark.low for mark in marks], [mark.high for mark in marks]
    style: dict[str, Any] = {"colors": colours, "linewidth": 1.5, "zorder": 3}
    if across:
        ax.hlines([mark.y for mark in marks], lows, highs, **style)
    else:
        ax.vlines([mark.x for mark in marks], lows, highs, **style)
    for shape in sorted({mark.look.marker for mark in marks}):
        chosen = [mark for mark in marks if mark.look.marker == shape]
        ax.scatter(
            [mark.x for mark in chosen],
            [mark.y for mark in chosen],
            c=[mark.look.colour for mark in chosen],
            marker=shape,
            s=48,
            edgecolors="white",
            linewidths=0.8,
            zorder=4,
        )
