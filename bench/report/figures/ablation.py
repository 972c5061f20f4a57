"""A method's gain over two of its options, as one small figure."""

from __future__ import annotations

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.report.ablation import Ablation, Grid
from bench.report.figures.style import GREY, plain, styled
from bench.report.text import metric_name, number, scale

# Blue better, red worse: told apart with every common colour blindness, and in grey the middle
# stays lightest.
COLOURS = "RdBu"
LIGHT = 0.45  # luminance below which white letters are read more easily than black ones


def draw(ablation: Ablation, grid: Grid) -> Figure:
    """Return the heat map of ``grid``: mean paired gain, a diverging map centred on zero."""
    factor = scale(ablation.metric)
    largest = max(abs(gain.mean) * factor for gain in grid.gains.values()) or 1.0
    # square enough to be read, however many values there are
    width = max(5.0, 1.9 + 0.72 * len(grid.columns))
    with styled(width, 1.6 + 0.52 * len(grid.rows)) as figure:
        ax = figure.subplots()
        norm = Normalize(-largest, largest)
        for y, row in enumerate(grid.rows):
            for x, column in enumerate(grid.columns):
                _cell(ax, x, y, ablation, grid, (row, column), norm)
        if grid.default is not None:
            at = grid.columns.index(grid.default[1]), grid.rows.index(grid.default[0])
            corner = at[0] - 0.47, at[1] - 0.47
            ax.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, lw=1.6, ec="black"))
        _frame(ax, grid)
        bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=ax, fraction=0.05, pad=0.03)
        bar.set_label("points" if factor == 100.0 else plain(metric_name(ablation.metric)))
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.ax.tick_params(labelsize=8)
        _title(figure, ablation, grid)
    return figure


def _cell(
    ax: Axes,
    x: int,
    y: int,
    ablation: Ablation,
    grid: Grid,
    at: tuple[float, float],
    norm: Normalize,
) -> None:
    gain = grid.gains.get(at)
    corner = x - 0.5, y - 0.5
    if gain is None:
        ax.add_patch(Rectangle(corner, 1, 1, fc="white", ec="#bbbbbb", hatch="///", lw=0))
        return
    colour = matplotlib.colormaps[COLOURS](norm(gain.mean * scale(ablation.metric)))
    ax.add_patch(Rectangle(corner, 1, 1, facecolor=colour, lw=0))
    shown = number(gain.mean, ablation.metric, signed=True)
    if gain.pairs != _usual(grid):
        shown += f"\n(n={gain.pairs})"
    ink = "white" if _luminance(colour) < LIGHT else "black"
    ax.text(x, y, shown, ha="center", va="center", color=ink, linespacing=1.1, fontsize=9)


def _title(figure: Figure, ablation: Ablation, grid: Grid) -> None:
    seeds = _usual(grid)
    framed = "; framed: the default" if grid.default is not None else ""
    gain = f"{ablation.method}: gain over {ablation.reference} in {metric_name(ablation.metric)}"
    lines = [
        plain(gain, 60),
        plain(ablation.title, 60),
        plain(ablation.where, 70),
        f"mean of {seeds} paired seed{'s'[: seeds - 1]}{framed}",
    ]
    figure.suptitle("\n".join(lines), fontsize=8.5, x=0.02, ha="left", color=GREY)


def _usual(grid: Grid) -> int:
    """Return the largest number of paired seeds of a cell; a cell with fewer says so."""
    return max(gain.pairs for gain in grid.gains.values())


def _frame(ax: Axes, grid: Grid) -> None:
    ax.grid(visible=False)
    ax.set_xticks(range(len(grid.columns)), [f"{value:g}" for value in grid.columns])
    ax.set_yticks(range(len(grid.rows)), [f"{value:g}" for value in grid.rows])
    ax.set_xlim(-0.5, len(grid.columns) - 0.5)
    ax.set_ylim(-0.5, len(grid.rows) - 0.5)
    ax.set_xlabel(plain(grid.column))
    ax.set_ylabel(plain(grid.row))
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _luminance(colour: tuple[float, ...]) -> float:
    red, green, blue = colour[:3]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
