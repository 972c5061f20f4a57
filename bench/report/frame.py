"""The rows of all records as one table: which of several stands, what devices and teachers are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from bench.report.record_row import MALFORMED, UNKNOWN_DEVICE, row_of
from bench.report.shared import with_shared
from bench.store import Record

IDENTITY = ["origin", "task", "preset", "source", "device", "metric", "label", "seed"]
COLUMNS = [
    *IDENTITY,
    *["family", "title", "limits", "classes", "direction", "method", "kind", "status"],
    *["test_best", "test_last", "validation_best", "best_epoch"],
    *["deployed", "train_only", "train_seconds", "peak_memory", "agreement"],
    *["micro_batches", "taught_in_parts"],
    *["data_name", "fingerprint", "rows_train", "rows_validation", "rows_test", "dropped"],
    *["teacher_name", "teacher_score", "teacher_copy", "device_name", "torch", "revision"],
    *["error_class", "error_message", "finished", "key"],
    *["not_like_for_like", "own_teacher_score", "own_teacher_seconds", "recipe"],
    *["learning_rate", "teacher_seed", "version", "settings"],
    *["vocabulary", "generated", "shared_from"],
]


@dataclass(frozen=True)
class Collected:
    """The outcome of :func:`collect`.

    Attributes:
        frame: one row per cell with the columns :data:`COLUMNS`, then one ``test_NAME`` column for
            every metric of the best epoch on the test split; scores in the metric's unit.
        superseded: number of records replaced by another one of the same cell.
        problems: one line for each record that could not be used as it stands.
        malformed: number of those that could not be used at all.
    """

    frame: pd.DataFrame
    superseded: int
    problems: list[str]
    malformed: int = 0


def collect(records: Iterable[Record], agreement: Mapping[str, float] | None = None) -> Collected:
    """Flatten ``records`` and keep one row per cell, in an order independent of theirs.

    Two records are of the same cell when task, preset with overrides, source, device, metric,
    label and seed agree, and the teacher's seed where a table has several.  The one that finished
    last counts, except that a failed or skipped record never displaces a result: a crash on a full
    disk says nothing about the number measured before, and a published table must not lose rows to
    it.  Such a newer failure is listed among the problems.

    A row also stands in each table whose settings differ from its own in nothing that it depends
    on (:func:`with_shared`): a plain student has no teacher that could be another.

    Args:
        records: in any order.
        agreement: share of test samples on which student and teacher predict the same, by key.
    """
    agreement = agreement or {}
    rows, problems = [], []
    for record in records:
        try:
            rows.append({**row_of(record), "agreement": agreement.get(str(record["key"]))})
        except MALFORMED as error:
            name = str(record.get("key"))[:12]
            problems.append(f"record {name}: malformed ({type(error).__name__}: {error})")
    malformed = len(problems)
    _fill_devices(rows)
    _tell_teachers_apart(rows)
    rows.sort(key=lambda row: (row["status"] == "ok", _instant(row["finished"]), row["key"]))
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    newest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:  # worst claim first, so the last one stands
        identity = tuple(row[name] for name in IDENTITY)
        kept[identity] = row
        other = newest.setdefault(identity, row)
        if _instant(row["finished"]) >= _instant(other["finished"]):
            newest[identity] = row
    for identity, row in newest.items():
        if row is not kept[identity]:
            problems.append(
                f"{row['label']} on {row['task']}, {row['preset']}, seed {row['seed']}: a newer "
                f"run {row['status']} ({row['error_class']}); the older result is shown"
            )
    replaced = len(rows) - len(kept)
    placed = {tuple(row[n] for n in IDENTITY): row for row in with_shared(list(kept.values()))}
    chosen = [placed[identity] for identity in sorted(placed)]
    extra = sorted({name for row in chosen for name in row} - set(COLUMNS))
    frame = pd.DataFrame({name: _column(chosen, name) for name in (*COLUMNS, *extra)})
    return Collected(frame, replaced, sorted(problems), malformed)


def usable(record: Record) -> bool:
    """Return whether :func:`collect` can use ``record`` at all."""
    try:
        row_of(record)
    except MALFORMED:
        return False
    return True


def _column(rows: Iterable[Mapping[str, Any]], name: str) -> pd.Series:
    """Return one column; strings as Python objects, since they are read one by one."""
    values = [row.get(name) for row in rows]
    plain = any(isinstance(value, str) for value in values) or not values
    return pd.Series(values, dtype=object if plain else None)


def _fill_devices(rows: list[dict[str, Any]]) -> None:
    """Give failed cells without a device the device of their table, if it has only one."""
    known: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        if row["device"] != UNKNOWN_DEVICE:
            known.setdefault(_table(row), set()).add(row["device"])
    for row in rows:
        devices = known.get(_table(row), set())
        if row["status"] != "ok" and row["device"] == UNKNOWN_DEVICE and len(devices) == 1:
            row["device"] = next(iter(devices))


def _tell_teachers_apart(rows: list[dict[str, Any]]) -> None:
    """Mark rows of another teacher than the table's own, which is that of the lowest seed.

    Such a row gets a label of its own and does not count for the table's teacher.
    """
    tables: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["teacher_seed"] is not None:
            tables.setdefault((*_table(row), row["device"]), []).append(row)
    for taught in tables.values():
        first = min(row["teacher_seed"] for row in taught)
        for row in taught:
            if row["teacher_seed"] != first:
                row["label"] += teacher_mark(row["teacher_seed"])
                row["teacher_score"] = None


def teacher_mark(seed: float) -> str:
    """Return the end of a row's label when its teacher is not the table's own."""
    return f" (teacher seed {seed:g})"


def _table(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("origin", "task", "preset", "source"))


def _instant(finished: str) -> datetime:
    """Return the time a record finished; one without a readable time is the oldest of all."""
    try:
        moment = datetime.fromisoformat(finished)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
