"""Records on disk: one JSON file a cell, written whole or not at all.

A record lives at ``ROOT/PRESET/TASK/METHOD/seedN-KEY12.json``; test predictions lie beside it in
a compressed ``.npz``.  Nothing here overwrites another cell's file: the key is in the name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError

SCHEMA = 1
BESIDE = (".cost.json", ".samples.json")  # JSON files that are no records
Record = dict[str, Any]


def slug(text: str) -> str:
    """Return ``text`` as one safe path component (letters, digits, ``._=+-``)."""
    cleaned = re.sub(r"[^A-Za-z0-9._=+-]+", "-", text).strip("-.")
    return cleaned[:100] or "unnamed"


def record_path(root: Path, record: Mapping[str, Any]) -> Path:
    """Return where ``record`` belongs below ``root``."""
    cell = record["cell"]
    folder = root / slug(cell["preset"]) / slug(cell["task"]) / slug(cell["label"])
    return folder / f"seed{int(cell['seed'])}-{slug(record['key'])[:12]}.json"


def samples_path(root: Path, record: Mapping[str, Any]) -> Path:
    """Return where the generated inputs that are shown for ``record`` belong below ``root``."""
    return record_path(root, record).with_suffix(".samples.json")


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to a temporary file, flush it to disk and rename it over ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_record(root: Path, record: Record) -> Path:
    """Write ``record`` below ``root`` and return its path."""
    path = record_path(root, record)
    text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_atomically(path, text.encode() + b"\n")
    return path


def read_record(path: Path) -> Record:
    """Read one record; raises :class:`BenchError` when it is not one of this schema."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: not a readable record: {error}") from error
    if not isinstance(record, dict) or "schema" not in record:
        raise BenchError(f"{path}: not a record", "a record is a JSON object with a 'schema'")
    if record["schema"] != SCHEMA:
        raise BenchError(
            f"{path}: record schema {record['schema']!r}", f"this version reads {SCHEMA}"
        )
    missing = {"key", "status", "cell", "task"} - record.keys()
    if missing:
        raise BenchError(f"{path}: record lacks {', '.join(sorted(missing))}")
    return record


def record_files(root: Path) -> Iterator[Path]:
    """Yield every record file below ``root`` in a fixed order."""
    if root.is_dir():
        yield from sorted(
            path
            for path in root.rglob("*.json")
            if not path.name.startswith(".") and not path.name.endswith(BESIDE)
        )


def read_costs(root: Path) -> tuple[list[Record], list[str]]:
    """Read all cost records below ``root``; returns them and one line for each unreadable one."""
    records, problems = [], []
    for path in sorted(root.rglob("*.cost.json")) if root.is_dir() else ():
        try:
            records.append(read_record(path))
        except BenchError as error:
            problems.append(str(error))
    return records, problems


def read_records(root: Path) -> tuple[list[Record], list[str]]:
    """Read all records below ``root``; returns them and one line for each unreadable file."""
    records, problems = [], []
    for path in record_files(root):
        try:
            records.append(read_record(path))
        except BenchError as error:
            problems.append(str(error))
    return records, problems


def write_predictions(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Save ``arrays`` as a compressed ``.npz``; returns the sha256 of the file."""
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
    data = buffer.getvalue()
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    """Load what :func:`write_predictions` saved, refusing pickled content."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
