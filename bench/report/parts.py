"""The list of the report's parts.

To add one, write a function from :class:`~bench.report.content.Context` to the parts it
contributes (none when there is nothing to show) in a module of its own, and name it here::

    def heat_maps(context: Context) -> Iterator[Part]:
        found = ...                        # from context.frame, context.sections, context.records
        if found:
            yield Part("Title", (Text("How to read it."), Table(...), Picture("name", draw, "alt")))

Every renderer (Markdown, HTML page, table files, figures) works through this list, in this order.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from bench.report.ablation_page import ablation_parts
from bench.report.companions import companion_parts
from bench.report.content import Block, Builder, Context, Part, Picture, Table
from bench.report.leaderboard import overview, tasks
from bench.report.pictures import pictures
from bench.report.rates_page import rate_parts
from bench.report.samples import sample_parts
from bench.report.standings import standings

PARTS: tuple[Builder, ...] = (
    overview,
    standings,
    rate_parts,
    tasks,
    pictures,
    companion_parts,
    ablation_parts,
    sample_parts,
)


def build(context: Context) -> list[Part]:
    """Return all parts of the report; no two tables and no two pictures share a name."""
    taken: set[str] = set()
    return [
        replace(part, blocks=tuple(_own_name(block, taken) for block in part.blocks))
        for builder in PARTS
        for part in builder(context)
    ]


def _own_name(block: Block, taken: set[str]) -> Block:
    """Return ``block`` with a number after its name if that is taken."""
    if not isinstance(block, Table | Picture) or not block.name:
        return block
    kind = type(block).__name__
    numbered = (block.name if at == 1 else f"{block.name}-{at}" for at in count(1))
    # some file systems tell no capitals apart
    name = next(each for each in numbered if f"{kind} {each}".casefold() not in taken)
    taken.add(f"{kind} {name}".casefold())
    return replace(block, name=name)
