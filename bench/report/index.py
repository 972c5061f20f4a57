"""The page ``index.html``: one file with everything in it, for any browser, from disk or a host."""

from __future__ import annotations

import base64
import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench.failures import BROKEN
from bench.report import text
from bench.report.cards import MethodCard, read_cards
from bench.report.content import Context, Part
from bench.report.formats import html_parts
from bench.report.leaderboard import footnotes
from bench.report.rows import HEAD, OURS, Row, rows
from bench.report.runs import run_data

FOLDER = Path(__file__).parent / "page"
PLACE = ("preset", "source", "device")
ALIKE = 0.15  # of a step: two measurements of the same differ by as much


@dataclass(frozen=True)
class Shown:
    """A method card with what this report has on it.

    Attributes:
        card: what the method says about itself.
        anchor: id on the page.
        rows: its rows of the leaderboard.
        cost: its cost in words; empty when it was not measured.
        generators: the quality of its generators, one line each.
    """

    card: MethodCard
    anchor: str
    rows: Sequence[Row]
    cost: str
    generators: Sequence[str] = ()


def render_index(context: Context, parts: Sequence[Part], figures: Mapping[str, bytes]) -> str:
    """Return the page.

    Args:
        context: what the parts were built from.
        parts: the report's parts.
        figures: the SVG of each picture by name; they are put into the page.
    """
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    found = rows(context)
    filters = _filters(found)
    # a column that says the same in every row is said once
    alike = {
        field: values[0] for field, _, values in filters if field in PLACE and len(values) == 1
    }
    pictures = {name: _data_uri(data) for name, data in figures.items()}
    mine = context.cells[context.cells.origin == ""]
    return environment.get_template("index.html.jinja").render(
        style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=_json(run_data(context, found)),
        rows=found,
        head=HEAD,
        ours=OURS,
        filters=filters,
        shown_fields=[field for field in PLACE if field not in alike],
        common=[f"{field} {value}" for field, value in alike.items()],
        cards=_cards(context, found),
        parts=Markup(html_parts(parts, pictures)),
        titles=[(f"part-{at}", part.short or part.title) for at, part in enumerate(parts)],
        status=(status := mine.status.value_counts().to_dict()),
        external=len(context.cells) - len(mine),
        broken=sum(status.get(word, 0) for word in BROKEN),
        footnotes=footnotes(context),
    )


def _json(data: Any) -> Markup:
    """Return ``data`` as JSON for a script element, without a ``<`` that could end it."""
    written = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&\x7f":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return Markup(written)


def _data_uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _filters(found: Sequence[Row]) -> list[tuple[str, str, list[str]]]:
    """Return the fields to filter by: name, label, values."""
    fields = ("task", "preset", "source", "device", "origin")
    labels = dict(zip(fields, ("Task", "Preset", "Source", "Device", "Whose"), strict=True))
    return [
        (field, labels[field], sorted({getattr(row, field) for row in found})) for field in fields
    ]


def _cards(context: Context, found: Sequence[Row]) -> list[Shown]:
    known = read_cards()
    by_method: dict[str, list[Row]] = {}
    for row in found:
        by_method.setdefault(row.method, []).append(row)
    return [
        Shown(
            card=known.get(method, MethodCard(method, method)),
            anchor=of_method[0].anchor,
            rows=of_method,
            cost=_cost(of_method),
            generators=_generators(context, of_method),
        )
        for method, of_method in sorted(by_method.items())
    ]


def _generators(context: Context, of_method: Sequence[Row]) -> list[str]:
    """Return a line per generator: how much of the teacher's accuracy reconstructions keep."""
    told = set()
    for row in of_method:
        for cell in row.section.rows[row.label]:
            record = context.by_key.get(str(cell["key"]), {})
            generator: Any = record.get("generator")
            try:
                judged = generator["judged"]
                told.add(
                    f"{text.first_line(str(generator['name']), 60)} on {row.section.title}: the "
                    f"teacher keeps {float(judged['kept']):.0%} of its accuracy on reconstructions "
                    f"({float(judged['real']):.1%} on real inputs, "
                    f"{float(judged['reconstructed']):.1%} on theirs, "
                    f"{int(judged['samples']):,} validation samples)"
                )
            except (LookupError, TypeError, ValueError, OverflowError):
                continue  # without a generator, or a stranger's record
    return sorted(told)


def _cost(of_method: Sequence[Row]) -> str:
    """Return in words the cost of a method beside the plain student, as the median over tasks."""
    measured = [row for row in of_method if row.slowdown is not None]
    slower = [row.slowdown for row in measured if row.slowdown is not None]
    tasks = len({row.section.task for row in measured})
    runs = len(slower)
    extra = sorted({row.extra.text for row in of_method if row.extra.text not in ("-", "0")})
    told = []
    if slower:
        times = statistics.median(slower)
        by = f"median of {runs} measurement{'s'[: runs - 1]} on {tasks} task{'s'[: tasks - 1]}"
        told.append(
            f"A training step takes about as long as that of the plain student ({times:.2f} times, "
            f"{by})."
            if abs(times - 1) < ALIKE
            else f"A training step takes {times:.2f} times that of the plain student ({by})."
        )
    if extra:
        told.append(f"Trains {', '.join(extra)} parameters that are not deployed.")
    return " ".join(told)
