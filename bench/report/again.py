"""Skips rendering when records, code and report files are the same as last time."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.cache import cache_dir
from bench.data.fingerprint import file_sha256
from bench.errors import BenchError
from bench.report.cards import PACKAGES, package_folders
from bench.report.files import SUMS, read_sums
from bench.store import write_atomically

if TYPE_CHECKING:
    from bench.report import ReportSummary

LIBRARIES = ("matplotlib", "numpy", "pandas", "pillow", "scipy", "seaborn", "tabulate", "jinja2")


def inputs_digest(results: Path) -> str:
    """Return a hash of all that a report depends on: files, code and libraries.

    Records and predictions count by name, size and time of the last change.
    """
    digest = hashlib.sha256()
    for path in sorted(results.rglob("*"), key=str) if results.is_dir() else ():
        if path.suffix not in (".json", ".npz"):
            continue
        try:
            status = path.stat()
            state = f"{status.st_size}\0{status.st_mtime_ns}"
        except OSError:  # a link that leads nowhere, or a file that is just being replaced
            state = "unreadable"
        digest.update(f"{path.relative_to(results).as_posix()}\0{state}\n".encode())
    for path in _sources():
        digest.update(file_sha256(path).encode())
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            digest.update(f"{name}\0{importlib.metadata.version(name)}\n".encode())
    return digest.hexdigest()


def _sources() -> list[Path]:
    """Return the files of the suite and of the methods, whose documentation the cards show."""
    return [
        path
        for package in ("bench", *PACKAGES)
        for folder in package_folders(package)
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".py", ".jinja", ".css", ".js")
    ]


def remembered(results: Path, out: Path, digest: str) -> ReportSummary | None:
    """Return the last rendering's outcome if its inputs were the same and its files are intact."""
    from bench.report import ReportSummary

    try:
        kept = json.loads(_note(results, out).read_text(encoding="utf-8"))
        whole = kept["inputs"] == digest and kept["sums"] == file_sha256(out / SUMS)
        if not whole or any(
            file_sha256(out / name) != sha for name, sha in read_sums(out / SUMS).items()
        ):
            return None
        told = kept["summary"]
        return ReportSummary(
            paths=tuple(out / name for name in told["paths"]),
            written=(),
            records=int(told["records"]),
            superseded=int(told["superseded"]),
            problems=tuple(map(str, told["problems"])),
            refused=int(told["refused"]),
        )
    except (BenchError, OSError, ValueError, KeyError, TypeError):
        return None


def remember(results: Path, out: Path, digest: str, summary: ReportSummary) -> None:
    """Note what was rendered; if that cannot be kept, it is rendered again next time."""
    told = asdict(summary) | {"paths": [path.relative_to(out).as_posix() for path in summary.paths]}
    del told["written"]
    kept = {"inputs": digest, "sums": file_sha256(out / SUMS), "summary": told}
    with contextlib.suppress(BenchError, OSError):
        write_atomically(_note(results, out), json.dumps(kept).encode())


def _note(results: Path, out: Path) -> Path:
    places = f"{results.resolve()}\0{out.resolve()}"
    name = hashlib.sha256(places.encode()).hexdigest()[:24]
    return cache_dir() / "reports" / f"{name}.json"
