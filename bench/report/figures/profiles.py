"""Performance profiles: the share of runs above each threshold (Agarwal et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bench.across import profile
from bench.report.figures.style import GREY, legend_beside, plain, styled
from bench.report.groups import Group
from bench.report.looks import Look


def draw(group: Group, looks: Mapping[str, Look]) -> Figure:
    """Return the profiles of all methods of ``group``."""
    closed = {label: group.closed(label) for label in map(str, group.ranks.index)}
    runs = {label: found for label, found in closed.items() if found}
    pooled = np.concatenate([np.concatenate(found) for found in runs.values()])
    low, high = np.quantile(pooled, (0.02, 0.98))
    thresholds = np.linspace(min(low, -0.1), max(high, 0.5), 201)
    with styled(7.0, 3.6) as figure:
        axes = figure.subplots()
        for label, found in runs.items():
            axes.step(
                thresholds,
                profile(found, thresholds),
                where="post",
                color=looks[label].colour,
                ls=looks[label].dash,
                lw=1.6,
                label=plain(label),
            )
        for at in (0.0, 1.0):
            if thresholds[0] <= at <= thresholds[-1]:
                axes.axvline(at, color=GREY, lw=0.8, ls="--", zorder=1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("teacher gap closed (0 % the plain student, 100 % the teacher)")
        axes.set_ylabel("share of runs above")
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(thresholds[0], thresholds[-1])
        legend_beside(figure, axes)
    return figure
