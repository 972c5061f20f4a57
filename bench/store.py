"""Records on disk: one JSON file a cell, written whole or not at all.

A record lives at ``ROOT/PRESET/TASK/METHOD/seedN-KEY12.json``; test predictions lie beside it in
a compressed ``.npz``.  Nothing here overwrites another cell's file: the key is in the name.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError

# versions of the three kinds of JSON files, raised when what they hold changes
SCHEMA = 1
COST_SCHEMA = 1  # in the key of a measurement
SAMPLES_SCHEMA = 1
# what a killed writer of this module leaves behind; anything else is somebody else's
LEFTOVER = re.compile(r"\..+\.(?:json|npz)\.[a-z0-9_]{8}\.tmp")
UMASK = os.umask(0o077)  # of this process: it can only be read by setting it
os.umask(UMASK)
BESIDE = (".cost.json", ".samples.json")  # JSON files that are no records
STATUSES = ("ok", "skipped", "failed", "oom", "diverged", "timeout")
EACH = "best_test_each"  # the array of what single test samples scored
# what reading a damaged archive may raise
DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
LARGEST = 64 * 2**20  # bytes of a record; a published one has about ten thousand
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


def each_path(root: Path, record: Mapping[str, Any]) -> Path:
    """Return where what single test samples scored belongs: small, unlike the predictions."""
    return record_path(root, record).with_suffix(".each.npz")


@contextmanager
def writing(what: str, hint: str) -> Iterator[None]:
    """Refuse a place that cannot be written in one line; a full disk is not caught here.

    Raises:
        BenchError: for a file where a folder is needed, or the other way round, or no permission.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise BenchError(f"{what} cannot be written: {error.strerror}", hint) from error


def check_writable(folder: Path) -> None:
    """Raise :class:`BenchError` unless records can be written below ``folder``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"'{folder}' cannot be made: {error.strerror}", "use --results") from error
    try:
        # permission bits do not tell of a read-only mount or a full disk: only writing does
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"written")
    except OSError as error:
        raise BenchError(
            f"'{folder}' cannot be written: {error.strerror}", "use --results"
        ) from error


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` as :func:`replacing` does."""
    with replacing(path) as stream:
        stream.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[io.BufferedRandom]:
    """Open a temporary file to write and read; at the end, flush it to disk and make it ``path``.

    Others may read it as the process's umask says: folders may be shared.  After an error it is
    removed, and ``path`` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w+b") as stream:
            yield stream
            stream.flush()
            if hasattr(os, "fchmod"):  # a temporary file is its owner's alone
                os.fchmod(stream.fileno(), 0o666 & ~UMASK)
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # of a full disk the system names no file
        raise


def remove_leftovers(root: Path, *, older_than: float = 3600.0) -> int:
    """Remove what killed writers left half-written below ``root``; returns how many files.

    Younger ones may be somebody's at work.
    """
    removed = 0
    for path in root.rglob(".*.tmp"):
        if not LEFTOVER.fullmatch(path.name):
            continue  # somebody else's
        try:
            if abs(time.time() - path.stat().st_mtime) > older_than:
                path.unlink()
                removed += 1
        except OSError:
            continue
    return removed


def write_record(root: Path, record: Record) -> Path:
    """Write ``record`` below ``root`` and return its path."""
    path = record_path(root, record)
    write_atomically(path, as_json(record))
    return path


def as_json(content: Mapping[str, Any]) -> bytes:
    """Return ``content`` as the JSON that all files of this suite are written in.

    Raises:
        ValueError: for a number that JSON cannot hold: NaN or infinite.
    """
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return text.encode() + b"\n"


def read_record(path: Path) -> Record:
    """Read one record, of a cell or a cost; :class:`BenchError` when it is not of its schema.

    A record may be a stranger's: what the rest of the suite relies on is checked here.
    """
    try:
        record = json.loads(read_text(path, LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise BenchError(f"{path}: not a readable record: {_why(error)}") from error
    if not isinstance(record, dict) or "schema" not in record:
        raise BenchError(f"{path}: not a record", "a record is a JSON object with a 'schema'")
    schema, known = record["schema"], COST_SCHEMA if path.name.endswith(BESIDE[0]) else SCHEMA
    if type(schema) is not int or schema != known:
        newer = type(schema) is int and schema > known
        hint = f"this version reads {known}" + ("; update the suite" if newer else "")
        raise BenchError(f"{path}: record schema {schema!r:.40}", hint)
    missing = {"key", "status", "cell", "task"} - record.keys()
    if missing:
        raise BenchError(f"{path}: record lacks {', '.join(sorted(missing))}")
    problem = _malformed(record)
    if problem:
        raise BenchError(f"{path}: malformed record: {problem}")
    return record


def _malformed(record: Record) -> str | None:
    if record["status"] not in STATUSES:
        return f"status {record['status']!r:.40} is none of {', '.join(STATUSES)}"
    if not (isinstance(record["key"], str) and re.fullmatch(r"[0-9a-f]{64}", record["key"])):
        return f"key {record['key']!r:.40} is no sha256"
    for name in ("cell", "task"):
        if not isinstance(record[name], dict):
            return f"'{name}' is no object"
    cell = record["cell"]
    for name in ("preset", "task", "label"):
        if not isinstance(cell.get(name), str):
            return f"cell.{name} is no text"
    if type(cell.get("seed")) is not int:
        return "cell.seed is no whole number"
    for name in ("options", "preset_values"):
        if not isinstance(cell.get(name, {}), dict):
            return f"cell.{name} is no object"
    parts = ("error", "metrics", "environment", "data", "teacher", "timings", "revision")
    for name in (*parts, "model_revisions"):
        if not isinstance(record.get(name), dict | None):
            return f"'{name}' is no object"
    return None


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``; an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_text(path: Path, limit: int) -> str:
    """Return the UTF-8 text of an ordinary file of at most ``limit`` bytes.

    Raises:
        OSError: when it cannot be read.
        ValueError: when it is no ordinary file, too large or no UTF-8.
    """
    return read_bytes(path, limit).decode("utf-8")


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of an ordinary file of at most ``limit`` bytes.

    A pipe, a device or a giant under an innocent name would hang or fill the memory.

    Raises:
        OSError: when it cannot be read.
        ValueError: when it is no ordinary file, or too large.
    """
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
        raise ValueError("it is no ordinary file")
    with path.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")
    return data


def files_below(root: Path, pattern: str) -> list[Path]:
    """Return the files below ``root`` in a fixed order; what is hidden, or in hidden folders, not.

    Editors and notebooks keep copies of files in such folders.
    """
    if not root.is_dir():
        return []
    found = sorted(root.rglob(pattern), key=str)
    return [
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]


def record_files(root: Path) -> Iterator[Path]:
    """Yield every record file below ``root`` in a fixed order."""
    for path in files_below(root, "*.json"):
        if not path.name.endswith(BESIDE):
            yield path


def read_costs(root: Path) -> tuple[list[Record], list[str]]:
    """Read all cost records below ``root``; returns them and one line for each unreadable one."""
    return _read_all(files_below(root, "*.cost.json"))


def read_records(root: Path) -> tuple[list[Record], list[str]]:
    """Read all records below ``root``; returns them and one line for each unreadable file."""
    return _read_all(record_files(root))


def _read_all(paths: Iterable[Path]) -> tuple[list[Record], list[str]]:
    records, problems = [], []
    for path in paths:
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
