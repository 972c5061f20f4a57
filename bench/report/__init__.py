"""Everything a reader sees, rendered from the records alone; nothing here trains or imports torch.

Rendering is a pure function of the records: the same records in any order give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.report.hardware import of_one_machine
from bench.store import read_costs, read_records, write_atomically

__all__ = ["ReportSummary", "write_reports"]


@dataclass(frozen=True)
class ReportSummary:
    """What a rendering came to.

    Attributes:
        paths: every report file, whether or not its bytes changed.
        written: those of them that were written, because they were missing or different.
        records: number of records read.
        superseded: how many of them gave way to another record of the same cell.
        problems: one line for each record that could not be used as it stands.
    """

    paths: tuple[Path, ...]
    written: tuple[Path, ...]
    records: int
    superseded: int
    problems: tuple[str, ...]


def write_reports(results: Path, out: Path) -> ReportSummary:
    """Render all records below ``results`` into ``out``.

    Writes ``leaderboard.md`` and ``figures/leaderboard.svg`` and ``.png``; a file whose bytes
    would not change is left alone.

    Raises:
        BenchError: there is no readable record below ``results``.
    """
    records, unreadable = read_records(results)
    costs, unreadable_costs = read_costs(results)
    costs, left_out = of_one_machine(costs)
    unreadable += unreadable_costs + left_out
    # The reader names whole paths; a report names them from the results on.
    problems = [line.replace(f"{results.as_posix()}/", "") for line in unreadable]
    if not records:
        raise BenchError(
            f"no records under {results}",
            f"cannot read: {'; '.join(problems)}"
            if problems
            else "run `python -m bench all` first",
        )
    # Deferred: drawing libraries take a second to load, and most commands never draw.
    from bench.report.figure import draw, encode
    from bench.report.frame import collect
    from bench.report.leaderboard import render_leaderboard

    collected = collect(records)
    problems += collected.problems
    page = render_leaderboard(
        collected.frame,
        superseded=collected.superseded,
        problems=problems,
        figure="figures/leaderboard.svg",
        costs=costs,
    )
    drawing = draw(collected.frame)
    files = {
        out / "leaderboard.md": page.encode(),
        out / "figures" / "leaderboard.svg": encode(drawing, "svg"),
        out / "figures" / "leaderboard.png": encode(drawing, "png"),
    }
    written = []
    for path, data in files.items():
        if not path.is_file() or path.read_bytes() != data:
            write_atomically(path, data)
            written.append(path)
    return ReportSummary(
        tuple(files), tuple(written), len(records), collected.superseded, tuple(problems)
    )
