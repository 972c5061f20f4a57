"""A folder for any static host: reports, the records behind them, checksums, badge, citation."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import NamedTuple

from markupsafe import escape

import bench
from bench.errors import BenchError
from bench.report import render
from bench.report.content import Context
from bench.report.costs import usable_costs
from bench.report.files import SUMS, read_sums, write_files
from bench.report.frame import usable
from bench.report.sample_files import showable
from bench.report.sections import distinct
from bench.report.select import load
from bench.store import files_below, read_record, record_files, writing

README = """# Distillation Bench: published results

`index.html` is the page, `leaderboard.md` the same as text, `tables/` and `figures/` for papers,
`results/` the records that it is rendered from (one JSON file a cell). Only the agreement of
student and teacher is read off saved predictions, large `.npz` files that are here where they
were published with `--predictions`. Check that nothing changed on the way with
`sha256sum --check SHA256SUMS`, and render it again with
`python -m bench report --results results --reports again`; without the predictions the agreement
is then left out.
"""


class Publication(NamedTuple):
    """What was published: the records' context, and its files."""

    context: Context
    paths: tuple[Path, ...]


def publish(results: Path, out: Path, *, predictions: bool = False) -> Publication:
    """Write the publication of the records below ``results`` into ``out``.

    Args:
        results: folder of the records.
        out: a new or empty folder, or an earlier publication.
        predictions: publish the saved predictions too, which are large.

    Raises:
        BenchError: when ``out`` holds something else, lies within ``results`` or contains it, or
            cannot be written, or when there are no records.
    """
    source, target = results.resolve(), out.resolve()
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise BenchError(f"'{out}' and '{results}' lie within each other", "choose another folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not _ours(out):
        raise BenchError(f"'{out}' holds something else", "choose a new or empty folder")
    context = load(results)
    made = {
        **render(context),
        **_records(source, predictions),
        "README.md": README.encode(),
        "CITATION.cff": citation(context).encode(),
        "badge.svg": badge(context).encode(),
        ".nojekyll": b"",
    }
    with writing(f"'{out}'", "choose another folder"):
        paths, _ = write_files(out, made)
    return Publication(context, paths)


def _ours(out: Path) -> bool:
    return {"index.html", "CITATION.cff"} <= read_sums(out / SUMS).keys()


def _records(source: Path, predictions: bool) -> dict[str, bytes]:
    """Return by path the records that the report could use, and the files beside them.

    Links that lead elsewhere are left out.
    """
    paths = list(filter(_usable, files_below(source, "*.cost.json")))
    for path in filter(_usable, record_files(source)):
        samples = path.with_suffix(".samples.json")
        paths += [path, path.with_suffix(".each.npz")]
        paths += [samples] if showable(samples) else []
        paths += [path.with_suffix(".npz")] if predictions else []
    found = {}
    for path in sorted(paths):
        name = path.relative_to(source)
        if path.is_file() and path.resolve().is_relative_to(source):
            found[f"results/{name.as_posix()}"] = path.read_bytes()
    return found


def _usable(path: Path) -> bool:
    """Return whether the report can use the record, or cost record, in ``path``."""
    try:
        record = read_record(path)
    except BenchError:
        return False
    if path.name.endswith(".cost.json"):
        return bool(usable_costs([record])[0])
    return usable(record)


def citation(context: Context) -> str:
    """Return a citation file (Citation File Format 1.2.0) for the results."""
    ours = context.frame[context.frame.origin == ""]
    days = distinct(moment[:10] for moment in ours.finished)
    released = next((day for day in reversed(days) if _is_day(day)), "")
    revisions = [name.removesuffix("+uncommitted") for name in distinct(ours.revision)]
    lines = [
        "cff-version: 1.2.0",
        'message: "If you use these results, please cite them."',
        "type: dataset",
        'title: "Distillation Bench: results"',
        "authors:",
        '  - name: "The contributors of Distillation Bench"',
        f"version: {json.dumps(bench.__version__)}",
        *([f"date-released: {released}"] if released else []),
        *([f"commit: {json.dumps(revisions[-1])}"] if len(revisions) == 1 else []),
        "license: MIT",
        f"abstract: {json.dumps(_count(context) + ', one protocol.')}",
    ]
    return "\n".join(lines) + "\n"


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _count(context: Context) -> str:
    """Return how many methods, tasks and runs of ours there are, in words."""
    frame = context.cells
    frame = frame[(frame.status == "ok") & (frame.origin == "")]
    numbers = (frame.method.nunique(), frame.task.nunique(), len(frame))
    words = ("method", "task", "run")
    return ", ".join(f"{n} {w}{'' if n == 1 else 's'}" for n, w in zip(numbers, words, strict=True))


def badge(context: Context) -> str:
    """Return an SVG badge that says how much was run."""
    left, right = "distillation bench", _count(context)
    widths = [round(6.4 * len(part)) + 12 for part in (left, right)]
    whole = sum(widths)
    centres = widths[0] / 2, widths[0] + widths[1] / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" '
        f'aria-label="{escape(left)}: {escape(right)}">'
        f'<rect width="{widths[0]}" height="20" fill="#444444"/>'
        f'<rect x="{widths[0]}" width="{widths[1]}" height="20" fill="#0157a8"/>'
        '<g fill="#ffffff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" '
        f'font-size="11"><text x="{centres[0]:g}" y="14">{escape(left)}</text>'
        f'<text x="{centres[1]:g}" y="14">{escape(right)}</text></g></svg>\n'
    )
