"""The critical-difference diagram (Demšar 2006)."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from bench.report.figures.style import plain, styled
from bench.report.groups import Group
from bench.report.looks import Look


def draw(group: Group, looks: Mapping[str, Look]) -> Figure:
    """Return the diagram of ``group``: mean ranks, and bars over what is not told apart."""
    # takes a second and a half to load, and only this figure needs it
    import scikit_posthocs

    shown = {label: _short(label) for label in group.labels}
    if len(set(shown.values())) < len(shown):  # two long names may be cut to the same
        shown = {label: f"{name} [{at}]" for at, (label, name) in enumerate(shown.items(), 1)}
    p = scikit_posthocs.posthoc_nemenyi_friedman(group.scores.rename(columns=shown))
    ranks = group.ranks.rename(shown)
    half = (len(ranks) + 1) // 2
    with styled(7.0, 1.2 + 0.27 * half) as figure:
        axes = figure.subplots()
        scikit_posthocs.critical_difference_diagram(
            ranks,
            p,
            ax=axes,
            label_fmt_left="{label}  {rank:.2f} ",
            label_fmt_right=" {rank:.2f}  {label}",
            color_palette={shown[label]: looks[label].colour for label in group.labels},
            label_props={"fontsize": 9},
            marker_props={"s": 28, "zorder": 3},
            elbow_props={"linewidth": 1.2},
            crossbar_props={"linewidth": 2.5, "color": "#222222", "solid_capstyle": "butt"},
            text_h_margin=0.08,
        )
        axes.set_title("mean rank over tasks (1 is best)", fontsize=9, fontweight="normal", pad=14)
        for text in axes.texts:  # some of the palette is too light for letters
            text.set_color("#222222")
        axes.grid(visible=False)
    return figure


def _short(label: str) -> str:
    return plain(label).replace("\n", " ")
