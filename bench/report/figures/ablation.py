"""A method's gain over two of its options, as one small figure."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.report.ablation import Ablation, Grid
from bench.report.sections import SECTION
from bench.report.text import metric_name, number, scale

# Blue better, red worse: told apart with every common colour blindness, and in grey the middle
# stays lightest.
COLOURS = "RdBu"
WIDTH = 4.6  # inches: a column of a page
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 9,
    "svg.fonttype": "path",
}


def draw(ablation: Ablation, grid: Grid) -> Figure:
    """Return the heat map of ``grid``: mean paired gain, a diverging map centred on zero."""
    factor = scale(ablation.metric)
    largest = max(abs(gain.mean) * factor for gain in grid.gains.values()) or 1.0
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, 1.5 + 0.52 * len(grid.rows)), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        shades = matplotlib.colormaps[COLOURS]
        norm = Normalize(-largest, largest)
        for y, row in enumerate(grid.rows):
            for x, column in enumerate(grid.columns):
                gain = grid.gains.get((row, column))
                if gain is None:
                    _missing(ax, x, y)
                    continue
                colour = shades(norm(gain.mean * factor))
                ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, lw=0))
                shown = number(gain.mean, ablation.metric, signed=True)
                ink = "white" if _luminance(colour) < 0.45 else "black"
                if gain.pairs != _usual(grid):
                    shown += f"\n(n={gain.pairs})"
                ax.text(x, y, shown, ha="center", va="center", color=ink, linespacing=1.1)
        if grid.default is not None:
            at = grid.columns.index(grid.default[1]), grid.rows.index(grid.default[0])
            corner = at[0] - 0.47, at[1] - 0.47
            ax.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, lw=1.6, ec="black"))
        _frame(ax, grid)
        mappable = matplotlib.cm.ScalarMappable(norm, shades)
        bar = figure.colorbar(mappable, ax=ax, fraction=0.05, pad=0.03)
        bar.set_label("points" if factor == 100.0 else _plain(metric_name(ablation.metric)))
        bar.outline.set_visible(False)  # type: ignore[operator]
        figure.suptitle(_title(ablation, grid), fontsize=9, x=0.02, ha="left")
    return figure


def _title(ablation: Ablation, grid: Grid) -> str:
    places = dict(zip(SECTION, ablation.place, strict=True))
    seeds = _usual(grid)
    framed = "; framed: the default" if grid.default is not None else ""
    return _plain(
        f"{ablation.method}: gain over {ablation.reference} in {metric_name(ablation.metric)}\n"
        f"{ablation.title}, preset {places['preset']}\n"
        f"mean of {seeds} paired seed{'s'[: seeds - 1]}{framed}"
    )


def _usual(grid: Grid) -> int:
    """Return the largest number of paired seeds of a cell; a cell with fewer says so."""
    return max(gain.pairs for gain in grid.gains.values())


def _missing(ax: Axes, x: int, y: int) -> None:
    ax.add_patch(
        Rectangle(
            (x - 0.5, y - 0.5), 1, 1, facecolor="white", edgecolor="#bbbbbb", hatch="///", lw=0
        )
    )


def _frame(ax: Axes, grid: Grid) -> None:
    ax.set_xticks(range(len(grid.columns)), [f"{value:g}" for value in grid.columns])
    ax.set_yticks(range(len(grid.rows)), [f"{value:g}" for value in grid.rows])
    ax.set_xlim(-0.5, len(grid.columns) - 0.5)
    ax.set_ylim(-0.5, len(grid.rows) - 0.5)
    ax.set_xlabel(_plain(grid.column))
    ax.set_ylabel(_plain(grid.row))
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _luminance(colour: tuple[float, ...]) -> float:
    red, green, blue = colour[:3]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _plain(label: str) -> str:
    """Return ``label`` with no mathematics in it for matplotlib."""
    return label.replace("$", r"\$")
