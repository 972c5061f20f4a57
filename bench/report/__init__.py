"""Everything a reader sees, rendered from the records alone; nothing here trains or imports torch.

Rendering is a pure function of the records: the same records in any order give the same bytes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from bench.report.content import Context

__all__ = ["ReportSummary", "render", "write_reports"]


@dataclass(frozen=True)
class ReportSummary:
    """The outcome of a rendering.

    Attributes:
        paths: every report file, whether or not its bytes changed.
        written: those that were written, because they were missing or different.
        records: number of records read.
        superseded: number of them replaced by another record of the same cell.
        problems: one line for each record that could not be used as it stands.
        refused: number of those that could not be used at all.
    """

    paths: tuple[Path, ...]
    written: tuple[Path, ...]
    records: int
    superseded: int
    problems: tuple[str, ...]
    refused: int = 0


def write_reports(results: Path, out: Path) -> ReportSummary:
    """Render all records below ``results`` into ``out``.

    Writes ``leaderboard.md``, ``index.html``, ``tables/`` (LaTeX, CSV and HTML), ``figures/`` (SVG
    and PNG) and ``SHA256SUMS`` over all of them.  A file whose bytes would not change is left
    alone; one that an earlier rendering wrote and this one does not is removed.  Where records,
    code and report files are those of the last rendering, nothing is rendered again.

    Raises:
        BenchError: there is no readable record below ``results``.
    """
    from bench.report.again import inputs_digest, remember, remembered

    digest = inputs_digest(results)
    same = remembered(results, out, digest)
    if same is not None:
        return same
    from threadpoolctl import threadpool_limits

    from bench.report.drawing import early_drawer
    from bench.report.files import write_files
    from bench.report.select import load

    # the matrices are small: threads would only wait for each other; the drawer is started with
    # collections off, and collects once a picture
    with uncollected(), early_drawer(results) as drawer, threadpool_limits(1):
        context = load(results)
        paths, written = write_files(out, render(context, drawer))
    summary = ReportSummary(
        paths=paths,
        written=written,
        records=len(context.records),
        superseded=context.superseded,
        problems=tuple(context.problems),
        refused=context.refused,
    )
    remember(results, out, digest, summary)
    return summary


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage in the context: with ten thousand records it would take seconds."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def render(context: Context, drawer: ProcessPoolExecutor | None = None) -> dict[str, bytes]:
    """Return the files of the report by path.

    Args:
        context: of the records.
        drawer: draws the pictures, if it has been started.
    """
    # Deferred: the libraries behind tables and figures take a second to load.
    from bench.privacy import harmless
    from bench.report.drawing import drawing
    from bench.report.files import table_files
    from bench.report.index import render_index
    from bench.report.leaderboard import render_leaderboard
    from bench.report.parts import build

    parts = build(context)
    pictures = [picture for part in parts for picture in part.pictures]
    with drawing(pictures, drawer) as pending:
        tables = table_files(context, parts)
        leaderboard = harmless(render_leaderboard(context, parts)).encode()
        drawn = pending()
    svg = {name: forms["svg"] for name, forms in drawn.items()}
    return {
        "leaderboard.md": leaderboard,
        "index.html": harmless(render_index(context, parts, svg)).encode(),
        **tables,
        **{
            f"figures/{name}.{form}": data
            for name, forms in drawn.items()
            for form, data in forms.items()
        },
    }
