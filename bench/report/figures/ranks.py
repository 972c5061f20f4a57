"""The critical-difference diagram (Demšar 2006)."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from bench.report.figures.style import plain, styled
from bench.report.groups import Group
from bench.report.looks import Look


def draw(group: Group, looks: Mapping[str, Look]) -> Figure:
    """Return the diagram of ``group``: mean ranks, and bars over those not told apart."""
    # takes a second and a half to load, and only this figure needs it
    import scikit_posthocs

    names = [plain(label).replace("\n", " ") for label in group.labels]
    if len(set(names)) < len(names):  # two long names may be cut to the same
        names = [f"{name} [{at}]" for at, name in enumerate(names, 1)]
    # by number: names go through sets, whose order no two processes share
    numbers = {label: at for at, label in enumerate(group.labels)}
    p = scikit_posthocs.posthoc_nemenyi_friedman(group.scores.rename(columns=numbers))
    ranks = group.ranks.rename(numbers)
    half = (len(ranks) + 1) // 2
    with styled(7.0, 1.2 + 0.27 * half) as figure:
        axes = figure.subplots()
        drawn = scikit_posthocs.critical_difference_diagram(
            ranks,
            p,
            ax=axes,
            label_fmt_left="{label}",
            label_fmt_right="{label}",
            color_palette={at: looks[label].colour for label, at in numbers.items()},
            label_props={"fontsize": 9},
            marker_props={"s": 28, "zorder": 3},
            elbow_props={"linewidth": 1.2},
            crossbar_props={"linewidth": 2.5, "color": "#222222", "solid_capstyle": "butt"},
            text_h_margin=0.08,
        )
        for text in drawn["labels"]:
            at = int(text.get_text())
            left, rank = text.get_ha() == "right", f"{ranks[at]:.2f}"
            text.set_text(f"{names[at]}  {rank} " if left else f" {rank}  {names[at]}")
            text.set_color("#222222")  # some of the palette is too light for letters
        axes.set_title("mean rank over tasks (1 is best)", fontsize=9, fontweight="normal", pad=14)
        axes.grid(visible=False)
    return figure
