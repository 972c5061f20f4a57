"""Real, reconstructed and perturbed images side by side."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.report.figures.style import plain, styled
from bench.report.sample_files import Samples, decode

RIGHT, WRONG = "#222222", "#b30000"
COLUMNS = 12  # images of a row that fit a page


def draw(samples: Samples) -> Figure:
    """Return the grid of images: one row per kind, one column per sample."""
    count = min(len(samples.kinds[0].shown), COLUMNS)
    with styled(1.05 * count + 0.9, 1.35 * len(samples.kinds) + 0.1) as figure:
        grid = figure.subplots(len(samples.kinds), count, squeeze=False)
        for axes, kind in zip(grid, samples.kinds, strict=True):
            for ax, shown, verdict in zip(axes, kind.shown, kind.verdicts, strict=False):
                ax.imshow(decode(shown), interpolation="nearest")
                ax.set_xticks([])
                ax.set_yticks([])
                ax.set_title(
                    plain(str(verdict), 18),
                    fontsize=7,
                    fontweight="normal",
                    pad=2,
                    color=RIGHT if verdict.right else WRONG,
                )
            axes[0].set_ylabel(plain(kind.name))
    return figure
