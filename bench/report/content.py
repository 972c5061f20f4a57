"""What a report is made of: parts that hold paragraphs, lists, tables and pictures.

All text in here is plain.  The renderer escapes it (:mod:`bench.report.formats`), so that parts are
built without regard to a method named ``<script>`` or ``a_b & c``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from bench.report.groups import Group, groups, overall
from bench.report.looks import Look, looks
from bench.report.rates import Rates, rate_families
from bench.report.sample_files import Samples
from bench.report.sections import Section, sections
from bench.store import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.report.costs import Cost


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: plain text.
        style: "plain", "note" (set off: what a reader must know first) or "small" (a caption).
    """

    text: str
    style: Literal["plain", "note", "small"] = "plain"


@dataclass(frozen=True)
class Bullets:
    """A list with a line above it."""

    lead: str
    items: tuple[str, ...]


@dataclass(frozen=True)
class Heading:
    """A heading within a part."""

    text: str


@dataclass(frozen=True)
class Value:
    """One cell of a table: what is shown, what it sorts by, and how it is set."""

    text: str
    sort: float | str | None = None
    bold: bool = False
    italic: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its files, lower case with hyphens; empty for a table without files.
        head: column heads.
        rows: one sequence of cells per row, as long as ``head``.
        title: beginning of a caption.
        source: where the numbers come from: data, preset, seeds, date, revision, hardware.
        beside: whether the report shows it beside a table with the same source, which is then not
            repeated.
        left: number of columns that are flush left; the others are flush right.
    """

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[Value]]
    title: str = ""
    source: str = ""
    left: int = 1
    beside: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure, drawn only when its file is written.

    Attributes:
        name: of its files, lower case with hyphens.
        draw: returns the figure; must not touch pyplot or any other global state, and must be
            picklable (a :func:`functools.partial`), since pictures are drawn by several processes.
        alt: what it shows, for those who cannot see it.
        caption: how to read it.
        photo: whether it shows images whose colours must not be inverted on a dark page.
    """

    name: str
    draw: Callable[[], Figure]
    alt: str
    caption: str = ""
    photo: bool = False


Block = Text | Bullets | Heading | Table | Picture


@dataclass(frozen=True)
class Part:
    """A part of the report under a heading of its own.

    Attributes:
        title: the heading.
        blocks: its content, in order.
        short: its name in the page's navigation, if not the title.
    """

    title: str
    blocks: tuple[Block, ...]
    short: str = ""

    @property
    def tables(self) -> tuple[Table, ...]:
        """Return the tables, in order."""
        return tuple(block for block in self.blocks if isinstance(block, Table))

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Return the pictures, in order."""
        return tuple(block for block in self.blocks if isinstance(block, Picture))


@dataclass(frozen=True)
class Context:
    """What a part may be built from.

    Attributes:
        frame: one row per cell (:mod:`bench.report.frame`).
        costs: what methods cost (:func:`bench.report.costs.collect_costs`).
        records: all readable records, for what the frame does not hold (curves, predictions).
        superseded: number of records replaced by another one of the same cell.
        problems: records that could not be used as they stand, one line each.
        refused: number of those that could not be used at all.
        samples: generated inputs saved beside the records.
        each: scores of single test queries, by the record's key.
    """

    frame: pd.DataFrame
    costs: Mapping[tuple[str, ...], Mapping[str, Cost]] = field(default_factory=dict)
    records: Sequence[Record] = ()
    superseded: int = 0
    problems: Sequence[str] = ()
    refused: int = 0
    samples: Sequence[Samples] = ()
    each: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Return the frame with each cell once, though it may stand in several tables."""
        return self.frame.drop_duplicates("key")

    @cached_property
    def sections(self) -> list[Section]:
        """Return the frame cut into like-with-like sections, computed once."""
        return sections(self.frame)

    @cached_property
    def groups(self) -> list[Group]:
        """Return the sections in groups that share preset, settings, source and device."""
        return groups(self.sections)

    @cached_property
    def rates(self) -> list[Rates]:
        """Return the tasks that were run at several learning rates."""
        return rate_families(self.sections)

    @cached_property
    def overall(self) -> list[Group]:
        """Return the sections in groups that share preset, source and device."""
        return overall(self.sections, self.rates)

    @cached_property
    def looks(self) -> dict[str, Look]:
        """Return the colour and marker of each method."""
        return looks(map(str, self.frame.label))

    def costs_of(self, section: Section) -> Mapping[str, Cost]:
        """Return what the methods of ``section`` cost; empty when nothing was measured."""
        return self.costs.get(section.place, {})

    @cached_property
    def by_key(self) -> dict[str, Record]:
        """Return the records by key."""
        return {str(record.get("key")): record for record in self.records}


Builder = Callable[[Context], Iterable[Part]]
