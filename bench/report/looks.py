"""One colour, marker and dash for each method, the same in every figure and on the page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bench.report.roles import CEILING, REFERENCE

# seaborn's "colorblind" palette without grey, which is the reference's, and without yellow, pink
# and tan, which are hard to see on white or to tell from orange; wine is Paul Tol's.  Written out
# so that the page can use it without loading a drawing library.
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#56b4e9", "#882255")
MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES = ("-", "--", "-.", ":")


class Look(NamedTuple):
    """How a method is drawn."""

    colour: str
    marker: str
    dash: str = "-"


REFERENCE_COLOUR, CEILING_COLOUR = "#555555", "#000000"


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """Return the look of each label.

    The palette has fewer colours than there are methods, so marker and dash change with each
    round.  Methods without options come first: most figures show those, which then share fewer.
    """
    names = sorted(set(labels) - {REFERENCE, CEILING}, key=lambda name: ("(" in name, name))
    made = {}
    for at, name in enumerate(names):
        round_, colour = divmod(at, len(PALETTE))
        made[name] = Look(
            PALETTE[colour], MARKERS[round_ % len(MARKERS)], DASHES[round_ % len(DASHES)]
        )
    return made | {REFERENCE: Look(REFERENCE_COLOUR, "o"), CEILING: Look(CEILING_COLOUR, "o")}
