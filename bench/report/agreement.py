"""How often student and teacher predict the same, from the predictions beside the records.

No run has to be repeated for it; a cell without saved predictions (they are large and need not be
published) has no agreement.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.cache import cache_dir
from bench.errors import BenchError
from bench.report.record_row import teacher_copy
from bench.report.roles import CEILING
from bench.store import DAMAGED, Record, read_object, record_path, write_atomically

SPLIT = "best_test"


def agreements(records: Iterable[Record], results: Path) -> dict[str, float]:
    """Return the share of test samples on which student and teacher predict the same, by key.

    The teacher's predictions are those of its own row, matched by the teacher's key and, as one
    key may have been trained twice, by what it scored.  Pairs seen before are looked up by the
    checksums of both files.
    """
    students, teachers = [], {}
    for record in records:
        try:
            found = _predictions(record, results)
            teacher = _taught_by(record) if found else ("", "")
            if found and str(record["cell"]["label"]) == CEILING:
                teachers[teacher] = found
            elif found:
                students.append((str(record["key"]), teacher, found))
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # the frame says what is malformed
    if not students or not teachers:
        return {}
    store = _store()
    known = _read(store) if store else {}
    fresh: dict[str, float] = {}
    loaded: dict[tuple[str, str], np.ndarray | None] = {}
    made: dict[str, float] = {}
    for key, teacher, (path, digest) in students:
        if teacher not in teachers:
            continue
        pair = f"{digest}/{teachers[teacher][1]}"
        value = known.get(pair)
        if value is None:
            if teacher not in loaded:
                loaded[teacher] = _predicted(*teachers[teacher])
            value = _share(_predicted(path, digest), loaded[teacher])
        if value is not None:
            made[key] = fresh[pair] = value
    if store and fresh.keys() - known.keys():
        with contextlib.suppress(OSError):  # then they are computed again next time
            write_atomically(store, json.dumps({**known, **fresh}, sort_keys=True).encode())
    return made


def _taught_by(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return the teacher's key and a name for its weights."""
    teacher = record["teacher"]
    return str(teacher["key"]), teacher_copy(teacher, str(record["task"]["metric"]))


def _store() -> Path | None:
    """Return the file of pairs seen before; None where nothing can be kept."""
    try:
        return cache_dir() / "agreement.json"
    except BenchError:
        return None


def _predictions(record: Mapping[str, Any], results: Path) -> tuple[Path, str] | None:
    """Return the file of a finished record's predictions and its checksum; None without one."""
    named = record.get("predictions")
    if record.get("status") != "ok" or not isinstance(named, dict) or not record.get("teacher"):
        return None
    name = str(named["file"])
    path = record_path(results, record).parent / name
    if Path(name).name != name:  # one with a folder in it may lead anywhere
        return None
    try:
        return (path, str(named["sha256"])) if path.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def _predicted(path: Path, digest: str) -> np.ndarray | None:
    """Return predicted classes ``(N,)``; None for rankings or a file of another checksum."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            logits = arrays[SPLIT]
    except DAMAGED:
        return None
    # a retriever's are rankings, whose places are no classes
    scores = logits.ndim == 2 and np.issubdtype(logits.dtype, np.floating)
    return logits.argmax(axis=-1) if scores else None


def _share(student: np.ndarray | None, teacher: np.ndarray | None) -> float | None:
    if student is None or teacher is None or student.shape != teacher.shape or not len(student):
        return None
    return float((student == teacher).mean())


def _read(path: Path) -> dict[str, float]:
    return {name: value for name, value in read_object(path).items() if isinstance(value, float)}
