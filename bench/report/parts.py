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

from bench.report.ablation_page import ablation_parts
from bench.report.companions import companion_parts
from bench.report.content import Builder, Context, Part
from bench.report.leaderboard import overview, tasks
from bench.report.pictures import pictures
from bench.report.samples import sample_parts
from bench.report.standings import standings

PARTS: tuple[Builder, ...] = (
    overview,
    standings,
    tasks,
    pictures,
    companion_parts,
    ablation_parts,
    sample_parts,
)


def build(context: Context) -> list[Part]:
    """Return all parts of the report."""
    return [part for builder in PARTS for part in builder(context)]
