"""Everything a reader sees, rendered from the records alone; nothing here trains or imports torch.

Rendering is a pure function of the records: the same records in any order give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
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

    Writes ``leaderboard.md`` and ``figures/leaderboard.svg`` and ``.png``, where a method was run
    in several configurations ``ablations.md`` with its figures, and where a method trained a model
    beside the student the curves of both; a file whose bytes would not change is left alone.

    Raises:
        BenchError: there is no readable record below ``results``.
    """
    records, unreadable = read_records(results)
    costs, unreadable_costs = read_costs(results)
    unreadable += unreadable_costs
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
    from bench.report import companions
    from bench.report.ablation_page import PAGE as ABLATIONS_PAGE
    from bench.report.ablation_page import ablation_files
    from bench.report.figure import draw, encode
    from bench.report.frame import collect
    from bench.report.leaderboard import render_leaderboard
    from bench.report.queries import read_each
    from bench.report.samples import PAGE as SAMPLES_PAGE
    from bench.report.samples import render_samples

    collected = collect(records)
    samples, unreadable_samples = render_samples(results)
    each, unreadable_each = read_each(results, records)
    problems += [*collected.problems, *unreadable_samples, *unreadable_each]
    page = render_leaderboard(
        collected.frame,
        superseded=collected.superseded,
        problems=problems,
        figure="figures/leaderboard.svg",
        costs=costs,
        each=each,
    )
    further = ablation_files(collected.frame, records)
    if further:
        page += f"\nOne method in several configurations: [{ABLATIONS_PAGE}]({ABLATIONS_PAGE}).\n"
    if samples:
        page += f"\nWhat generated training inputs look like: [{SAMPLES_PAGE}]({SAMPLES_PAGE}).\n"
    drawing = draw(collected.frame)
    beside = companions.panels(collected.frame, records)
    files = {
        out / "leaderboard.md": (page + (companions.TEXT if beside else "")).encode(),
        out / "figures" / "leaderboard.svg": encode(drawing, "svg"),
        out / "figures" / "leaderboard.png": encode(drawing, "png"),
        **{out / name: data for name, data in further.items()},
        **{out / name: data for name, data in samples.items()},
    }
    if beside:
        curves = companions.draw(beside)
        for form in ("svg", "png"):
            files[out / "figures" / f"companions.{form}"] = encode(curves, form)
    written = []
    for path, data in files.items():
        if not path.is_file() or path.read_bytes() != data:
            write_atomically(path, data)
            written.append(path)
    return ReportSummary(
        tuple(files), tuple(written), len(records), collected.superseded, tuple(problems)
    )
