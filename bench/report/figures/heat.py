"""Gains of every method on every task as a heat map."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn
from matplotlib.figure import Figure

from bench.report.figures.style import plain, styled
from bench.report.groups import Group
from bench.report.roles import REFERENCE


def draw(group: Group) -> Figure:
    """Return the map: best mean gain on top, then rows that lack a task, by name."""
    found: Mapping[str, Mapping[str, float]] = group.gains
    columns = [group.column(section) for section in group.sections]
    tasks = [name for name in columns if any(name in row for row in found.values())]

    def place(label: str) -> tuple[bool, float, str]:
        # means over different tasks put nobody in an order
        row = found[label]
        return (True, 0.0, label) if len(row) < len(tasks) else (False, -sum(row.values()), label)

    labels = sorted(found, key=place)
    values = np.array([[found[label].get(task, np.nan) for task in tasks] for label in labels])
    extent = max(float(np.nanmax(np.abs(values))), 0.1)
    width = max(4.6, 2.4 + 0.72 * len(tasks))
    with styled(min(width, 12.0), 1.3 + 0.3 * len(labels)) as figure:
        ax = figure.subplots()
        ax.set_facecolor("#eeeeee")
        ax.grid(visible=False)
        seaborn.heatmap(
            values,
            cmap="PuOr_r",  # told apart whatever one's colour vision
            vmin=-extent,
            vmax=extent,
            center=0,
            annot=True,
            fmt="+.1f",
            annot_kws={"fontsize": 8},
            linewidths=1,
            cbar_kws={"label": f"gain over {REFERENCE} (points)"},
            xticklabels=[_short(task) for task in tasks],
            yticklabels=[plain(label) for label in labels],
            ax=ax,
        )
        ax.tick_params(axis="y", rotation=0)
        ax.tick_params(axis="x", rotation=90 if len(tasks) > 4 else 0)
        for row, column in zip(*np.where(np.isnan(values)), strict=True):
            ax.text(column + 0.5, row + 0.5, "–", ha="center", va="center", color="#777777")
    return figure


def _short(task: str) -> str:
    return plain(task.replace(":", " ").replace("recipe.", ""), 20, lines=4)
