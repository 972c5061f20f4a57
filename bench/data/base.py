"""Data sources: the reference to a dataset and the interface it is read through.

Hub and mirror give the same columns of the same type, so a task does not know which one it
reads; neither ever stands in for the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from bench.errors import BenchError, nearest

ELSEWHERE = "set BENCH_DATA to a mirror directory, or use --preset quick"


@dataclass(frozen=True)
class DatasetRef:
    """What to read of one dataset: the same reference works on the hub and in a mirror."""

    name: str  # on the hub, "uoft-cs/cifar10"; also the folder below a mirror
    revision: str  # commit on the hub
    columns: tuple[str, ...]  # the columns that are read; others are left on disk
    config: str | None = None
    files: Mapping[str, str] | None = None  # split -> path glob in the hub repository


class Source(Protocol):
    """Where datasets are read from."""

    kind: str

    def read(self, ref: DatasetRef, split: str) -> pa.Table:
        """Return ``split`` with the columns of ``ref``, in that order and without metadata."""
        ...

    def fingerprint(self, ref: DatasetRef, splits: Sequence[str]) -> str:
        """Return 64 hex digits that change when the data of ``splits`` does."""
        ...

    def revision(self, ref: DatasetRef) -> str:
        """Return the commit of ``ref`` that is read; empty where it is not known."""
        ...

    def problem(self, ref: DatasetRef, splits: Sequence[str]) -> str | None:
        """Return in one line why ``splits`` cannot be read here; ``None`` if they can."""
        ...

    def has(self, ref: DatasetRef, split: str) -> bool:
        """Return whether ``ref`` has ``split`` here."""
        ...


def check_columns(ref: DatasetRef, present: Sequence[str], where: str) -> None:
    """Raise :class:`BenchError` if a column of ``ref`` is not ``present`` in ``where``."""
    for column in ref.columns:
        if column not in present:
            raise BenchError(f"{where}: no column '{column}'", nearest(column, present))
