"""The parts that are pictures; what draws them is loaded only when a file has to be written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.report.content import Context, Part, Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scores(context: Context) -> Iterator[Part]:
    """Yield the scores of every method, seed by seed."""

    def draw() -> Figure:
        from bench.report.figures.dots import draw

        return draw(context.sections, context.looks)

    yield Part(
        "Scores", (Picture("leaderboard", draw, "Test scores of every method, seed by seed"),)
    )
