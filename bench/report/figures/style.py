"""What all figures share: the look of text and axes, how names are written, how files are made."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import seaborn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

HASH_SALT = "distillation-bench"
DPI = 130
GREY, PALE = "#555555", "#777777"
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


def encode(figure: Figure, form: str) -> bytes:
    """Return ``figure`` as the bytes of an "svg" or "png" file, the same bytes every time."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format=form, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def plain(label: str, width: int = 24) -> str:
    """Return ``label`` on at most two lines, and with no mathematics in it for matplotlib."""
    lines = textwrap.wrap(label, width, max_lines=2, placeholder=" …") or [""]
    return "\n".join(lines).replace("$", r"\$")
