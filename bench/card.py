"""Where a method or a baseline comes from, for the reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """Where a method comes from and which choices in it are ours, for the reports.

    Attributes:
        title: the name used in print.
        paper: authors, year and arXiv number.
        confirmed: what follows the primary source.
        choices: what the source leaves open and was chosen here.
        not_like_for_like: why its scores must not be read beside the others' as they stand, a
            phrase with a verb ("retrains the teacher …"); marked in every table.
    """

    title: str
    paper: str = ""
    confirmed: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    not_like_for_like: str = ""
