"""The report's files: tables in every format, numbers as CSV, checksums of them all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from bench.privacy import harmless
from bench.report.content import Context, Part, Table
from bench.report.formats import csv_table, html_table, inert, latex_document, latex_table
from bench.report.lines import Line
from bench.report.roles import REFERENCE, SECOND
from bench.report.sections import Section
from bench.store import write_atomically

SUMS = "SHA256SUMS"


def table_files(context: Context, parts: Iterable[Part]) -> dict[str, bytes]:
    """Return the files below ``tables/`` by path: each table, and all numbers behind them.

    ``scores.csv`` has a row for each method of each section with unrounded numbers, ``cells.csv``
    one for each cell.  ``all.tex`` sets all LaTeX tables and compiles as it is.
    """
    tables = [table for part in parts for table in part.tables if table.name]
    files: dict[str, str] = {}
    for table in tables:
        files |= _formats(table)
    files["tables/all.tex"] = latex_document(f"{table.name}.tex" for table in tables)
    files["tables/scores.csv"] = _csv(scores(context.sections))
    files["tables/cells.csv"] = _csv(context.frame.drop(columns="settings"))
    # whatever a stranger wrote, no file holds a control character
    return {path: harmless(written).encode() for path, written in files.items()}


def _formats(table: Table) -> dict[str, str]:
    return {
        f"tables/{table.name}.tex": latex_table(table),
        f"tables/{table.name}.csv": csv_table(table),
        f"tables/{table.name}.html": html_table(table),
    }


def scores(sections: Sequence[Section]) -> pd.DataFrame:
    """Return a row for each line of each section: numbers in the metric's own unit, unrounded."""
    return pd.DataFrame([_numbers(line, section) for section in sections for line in section.lines])


def _numbers(line: Line, section: Section) -> dict[str, object]:
    best, interval = line.best, line.interval
    row: dict[str, object] = {
        "origin": section.origin,
        "task": section.task,
        "preset": section.preset,
        "source": section.source,
        "device": section.device,
        "metric": section.metric,
        "direction": section.direction,
        "method": line.label,
        "kind": line.kind,
        "seeds": line.ok,
        "planned": line.planned,
        "mean": best.mean if best else None,
        "sd": best.sd if best else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "last_epoch": line.last.mean if line.last else None,
        "gap_closed": line.closed,
        "agreement": line.agreement.mean if line.agreement else None,
        "parameters": line.deployed,
        "extra_parameters": line.train_only,
        "train_seconds": line.train_seconds,
        "bold": line.label in section.winners,
    }
    for other in (REFERENCE, SECOND):
        held = line.versus.get(other)
        row |= {
            f"gain_{other}": held.gain.mean if held else None,
            f"gain_{other}_sd": held.gain.sd if held else None,
            f"gain_{other}_low": held.interval.low if held and held.interval else None,
            f"gain_{other}_high": held.interval.high if held and held.interval else None,
            f"p_{other}": held.p if held else None,
            f"p_{other}_holm": held.adjusted if held else None,
        }
    return row


def _csv(frame: pd.DataFrame) -> str:
    shown = frame.copy()
    for column in shown.columns:
        if not pd.api.types.is_numeric_dtype(shown[column]):
            shown[column] = [inert(v) if isinstance(v, str) else v for v in shown[column]]
    return shown.to_csv(index=False, lineterminator="\n")


def write_files(out: Path, files: Mapping[str, bytes]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Write files that differ and a list of all checksums; remove other files of an earlier list.

    A listed file that was changed by hand since then is not removed.

    Args:
        out: the folder.
        files: contents by path.

    Returns:
        All paths, and those that were written.
    """
    sums = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())
    )
    for name, digest in read_sums(out / SUMS).items():
        path = out / name
        inside = path.resolve().is_relative_to(out.resolve())
        stale = name not in files and inside and path.is_file()
        if stale and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            path.unlink()
    paths, written = [], []
    for name, data in {**files, SUMS: sums.encode()}.items():
        path = out / name
        paths.append(path)
        if not path.is_file() or path.read_bytes() != data:
            write_atomically(path, data)
            path.chmod(0o644)  # a temporary file's own mode would shut out a web server
            written.append(path)
    return tuple(paths), tuple(written)


def read_sums(path: Path) -> dict[str, str]:
    """Return the checksums in the list ``path`` by name; none where there is no list."""
    if not path.is_file():
        return {}
    lines = (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {parts[1]: parts[0] for parts in lines if len(parts) == 2}
