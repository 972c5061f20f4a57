"""One colour and one marker for each method, the same in every figure and on the page."""

from __future__ import annotations

from collections.abc import Iterable

from bench.report.frame import CEILING, REFERENCE

# seaborn's "colorblind" palette without grey, which is the reference's, and yellow, which is hard
# to see on white.  Written out so that the page can use it without loading a drawing library.
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#56b4e9")
MARKERS = ("o", "s", "D", "^", "v", "P")
REFERENCE_COLOUR, CEILING_COLOUR = "#555555", "#000000"
Look = tuple[str, str]


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """Give each label its colour and marker.

    The palette has fewer colours than there are methods, so the marker changes with each round.
    """
    names = sorted(set(labels) - {REFERENCE, CEILING})
    made = {
        name: (PALETTE[at % len(PALETTE)], MARKERS[at // len(PALETTE) % len(MARKERS)])
        for at, name in enumerate(names)
    }
    return made | {REFERENCE: (REFERENCE_COLOUR, "o"), CEILING: (CEILING_COLOUR, "o")}
