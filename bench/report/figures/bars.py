"""Memory and throughput of every method, as bars: one row per task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.costs import Cost, rates_of_networks
from bench.report.figures.style import GREY, plain, plain_ticks, styled, title
from bench.report.looks import Look
from bench.report.sections import Section

PANELS: tuple[tuple[str, Callable[[Cost], float | None]], ...] = (
    ("training, samples/s", lambda cost: cost.train_rate),
    ("inference, samples/s", lambda cost: cost.rate),
    ("training memory, MiB", lambda cost: cost.train_memory and cost.train_memory / 2**20),
)


def draw(
    sections: Sequence[Section],
    costs: Sequence[Mapping[str, Cost]],
    looks: Mapping[str, Look],
) -> Figure:
    """Return the figure: three panels for each section that was measured."""
    rows = [(s, cost) for s, cost in zip(sections, costs, strict=True) if measured(cost)]
    heights = [1.1 + 0.22 * len(measured(cost)) for _, cost in rows]
    with styled(7.0, sum(heights) + 0.3) as figure:
        axes = figure.subplots(len(rows), 3, squeeze=False, sharey="row", height_ratios=heights)
        for panels, (section, cost) in zip(axes, rows, strict=True):
            found = _at_one_rate(measured(cost))
            for ax, (name, read) in zip(panels, PANELS, strict=True):
                _panel(ax, found, name, read, looks)
            # the panels of a row share their axis: its ticks are set once
            panels[0].set_yticks(range(len(found)), [plain(each) for each in found], fontsize=8)
            panels[0].set_ylim(len(found) - 0.4, -0.6)
            title(panels[0], section, room=36)
    return figure


def measured(costs: Mapping[str, Cost]) -> dict[str, Cost]:
    """Return the costs that were measured, by name of the method."""
    return {label: cost for label, cost in sorted(costs.items()) if cost.state == "ok"}


def _at_one_rate(costs: Mapping[str, Cost]) -> dict[str, Cost]:
    """Return ``costs`` with the median inference rate of all that serve the same network."""
    rates = rates_of_networks(costs.values())
    return {
        label: replace(cost, rate=median(rates[cost.network]))
        if cost.network and rates.get(cost.network)
        else cost
        for label, cost in costs.items()
    }


def _panel(
    ax: Axes,
    costs: Mapping[str, Cost],
    name: str,
    read: Callable[[Cost], float | None],
    looks: Mapping[str, Look],
) -> None:
    labels = list(costs)
    values = [read(costs[label]) for label in labels]
    side = ax.get_yaxis_transform()
    for at, value in enumerate(values):
        if value is None:  # of a teacher serving alone is measured
            ax.text(0.02, at, "not measured", va="center", size=7, color=GREY, transform=side)
    colours = [looks[label][0] if label in looks else "#777777" for label in labels]
    ax.barh(range(len(labels)), [value or 0.0 for value in values], color=colours, height=0.7)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(name)
    if any(values):
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
        plain_ticks(ax)
    else:
        ax.set_xticks([])
