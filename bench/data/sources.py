"""Opens a data source by its name; :mod:`bench.data.base` defines what a source is."""

from __future__ import annotations

import os
from pathlib import Path

from bench.data.base import ELSEWHERE, DatasetRef, Source
from bench.data.hub import Hub
from bench.data.mirror import Mirror
from bench.errors import BenchError, unknown

__all__ = ["KINDS", "DatasetRef", "Hub", "Mirror", "Source", "open_source"]

KINDS = ("hub", "mirror")


def open_source(kind: str, root: str | Path | None = None) -> Source:
    """Return the source called ``kind``.

    Args:
        kind: "hub" or "mirror".
        root: the mirror's folder; ``$BENCH_DATA`` when not given.

    Raises:
        BenchError: for another kind, or a mirror whose folder is not given or does not exist.
    """
    if kind == "hub":
        return Hub()
    if kind != "mirror":
        raise unknown("data source", kind, KINDS)
    chosen = root or os.environ.get("BENCH_DATA")
    if not chosen:
        raise BenchError("no mirror is named: BENCH_DATA is not set", ELSEWHERE)
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        what = "is not a directory" if folder.exists() else "does not exist"
        raise BenchError(f"the mirror {folder} {what}", ELSEWHERE)
    return Mirror(folder)
