"""Real, reconstructed and perturbed images side by side."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from bench.report.samples import verdict_text


def draw(samples: dict[str, Any]) -> Figure:
    """Return the grid of a sample file's images: a row a kind, a column a sample."""
    rows, count = samples["rows"], len(samples["labels"])
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 8}):
        figure = Figure(figsize=(1.05 * count + 0.9, 1.3 * len(rows) + 0.1), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(rows), count, squeeze=False)
        for axes, row in zip(grid, rows, strict=True):
            for at, ax in enumerate(axes):
                ax.imshow(_image(row["shown"][at]), interpolation="nearest")
                ax.set_xticks([])
                ax.set_yticks([])
                verdict = row["verdicts"][at]
                right = verdict["class"] == samples["labels"][at]
                ax.set_title(
                    _plain(verdict_text(verdict, samples)),
                    fontsize=7,
                    pad=2,
                    color="#222222" if right else "#b30000",
                )
            axes[0].set_ylabel(row["kind"])
    return figure


def _image(encoded: str) -> Image.Image:
    with Image.open(io.BytesIO(base64.b64decode(encoded)), formats=("PNG",)) as image:
        return image.convert("RGB")


def _plain(label: str) -> str:
    return label.replace("$", r"\$")
