"""Datasets from a mirror: parquet files below one folder on disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.data.base import ELSEWHERE, DatasetRef, check_columns
from bench.data.fingerprint import files_fingerprint
from bench.errors import BenchError, first_line, nearest

SHARD = re.compile(r"(?P<split>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.parquet")


class Mirror:
    """Parquet files below one folder, in the hub's own names and columns.

    A split is ``ROOT/NAME/SPLIT.parquet`` or hub-style shards anywhere below ``ROOT/NAME``
    (``SPLIT-00000-of-00002.parquet``); where ``ROOT/NAME/CONFIG`` exists, that is searched instead.
    """

    kind = "mirror"

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def read(self, ref: DatasetRef, split: str) -> pa.Table:
        """Return one split; :class:`BenchError` names the file, column or split that is wrong."""
        tables = []
        for path in self._files(ref, split):
            with _opened(path) as file:
                check_columns(ref, file.schema_arrow.names, str(path))
                try:
                    table = file.read(columns=list(ref.columns))
                except (pa.ArrowException, OSError) as error:
                    raise _broken(path, error) from error
            tables.append(table.select(ref.columns).replace_schema_metadata(None))
        try:
            return pa.concat_tables(tables)
        except pa.ArrowException as error:
            raise _broken(self.root / ref.name, error) from error

    def fingerprint(self, ref: DatasetRef, splits: Sequence[str]) -> str:
        """Return a hash of the names and bytes of the files of ``splits``."""
        files = [path for split in splits for path in self._files(ref, split)]
        return files_fingerprint(self.root, files)

    def revision(self, ref: DatasetRef) -> str:
        """Return an empty string: a mirror does not say which commit it was made from."""
        return ""

    def problem(self, ref: DatasetRef, splits: Sequence[str]) -> str | None:
        """Return why ``splits`` cannot be read, by files and columns; the data is not read."""
        try:
            for path in (path for split in splits for path in self._files(ref, split)):
                with _opened(path) as file:
                    check_columns(ref, file.schema_arrow.names, str(path))
        except BenchError as error:
            return str(error)
        return None

    def has(self, ref: DatasetRef, split: str) -> bool:
        """Return whether there are files of ``split``."""
        return bool(self._find(ref).get(split))

    def _files(self, ref: DatasetRef, split: str) -> list[Path]:
        """Return the files of ``split`` in order; :class:`BenchError` if a shard is missing."""
        found = self._find(ref)
        if split not in found:
            where = self.root / ref.name
            if not where.is_dir():
                raise BenchError(f"the mirror {self.root} has no folder {ref.name}", ELSEWHERE)
            raise BenchError(f"{where}: no split '{split}'", nearest(split, found))
        files = found[split]
        shard = SHARD.fullmatch(files[0].name)
        expected = int(shard["count"]) if shard else 1
        if len(files) != expected or len({path.parent for path in files}) > 1:
            raise BenchError(
                f"{files[0].parent}: {len(files)} files for split '{split}' of {ref.name}, "
                f"{expected} expected",
                "shards are missing, or two copies of the dataset lie below one folder",
            )
        return files

    def _find(self, ref: DatasetRef) -> dict[str, list[Path]]:
        """Return the files of every split that ``ref`` has here, sorted by name."""
        parts = [*ref.name.split("/"), *([ref.config] if ref.config else [])]
        if not all(re.fullmatch(r"\w[\w.+-]*", part) for part in parts):
            raise BenchError(f"'{ref.name}' is not a dataset's name", "such as uoft-cs/cifar10")
        base = self.root / ref.name
        if ref.config and (base / ref.config).is_dir():
            base = base / ref.config
        self._check_inside(base)
        found = {path.stem: [path] for path in sorted(base.glob("*.parquet"))}
        shards: dict[str, list[Path]] = {}
        for path in sorted(base.rglob("*-of-*.parquet")):
            if match := SHARD.fullmatch(path.name):
                found.pop(path.stem, None)
                shards.setdefault(match["split"], []).append(path)
        found = shards | found  # a single file goes before shards of the same split
        for path in (path for files in found.values() for path in files):
            self._check_inside(path)
        return found

    def _check_inside(self, path: Path) -> None:
        if not path.resolve().is_relative_to(self.root):
            raise BenchError(f"{path} leads outside the mirror", "links must stay below BENCH_DATA")


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> BenchError:
    return BenchError(f"{path}: not readable as parquet: {first_line(error)}", "copy it again")
