"""Other people's results: read from a record file or a CSV, checked, and marked as theirs.

An imported record carries ``external`` with its origin.  Records of different origins never share a
table, so external results have tables of their own, marked in each title.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.config import Config, build, content_hash
from bench.errors import BenchError
from bench.report.frame import collect
from bench.report.roles import CEILING, REFERENCE
from bench.report.rows import OURS
from bench.report.text import UNBOUNDED_METRICS
from bench.store import (
    SCHEMA,
    Record,
    read_bytes,
    read_record,
    record_path,
    write_record,
    writing,
)

FOLDER = "external"
MOST_BYTES = 50 * 2**20


class ExternalRow(Config):
    """One line of a CSV of results; unknown columns are refused, empty cells are left out.

    Attributes:
        task: what it was run on; the name of one of our tasks only if the data are the same.
        method: the method's name; ours where it is the same method.
        seed: of the run.
        score: on the test split, in the metric's own unit (accuracy 0.7066, not 70.66).
        metric: of the score.
        direction: "max" where larger is better; must be given for a metric that is no share.
        kind: "baseline" for what distillation is compared with ("scratch", "teacher").
        setting: model pair, schedule and whatever else must agree for two rows to compare.
        data: the data set's full name.
        device: what it ran on.
        teacher: the teacher's name.
        teacher_score: its score on the same split.
        parameters: of the deployed student.
        train_seconds: of the run.
        selection: how the epoch was chosen; many papers report the best epoch on test.
        url: where it was published.
        date: when, as 2025-03-01.
    """

    task: str = Field(min_length=1, max_length=80)
    method: str = Field(min_length=1, max_length=80)
    seed: int = Field(ge=0, lt=2**63)
    score: float
    metric: str = Field(default="accuracy", min_length=1, max_length=40)
    direction: Literal["max", "min"] = "max"
    kind: Literal["method", "baseline"] = "method"
    setting: str = Field(default="published", min_length=1, max_length=120)
    data: str = Field(default="", max_length=200)
    device: str = Field(default="unknown device", min_length=1, max_length=80)
    teacher: str = Field(default="", max_length=80)
    teacher_score: float | None = None
    parameters: int | None = Field(default=None, ge=0)
    train_seconds: float | None = Field(default=None, ge=0)
    selection: str = Field(default="unknown", max_length=80)
    url: str = Field(default="", max_length=300, pattern=r"^(https?://[^\s<>\"]+)?$")
    date: str = Field(default="", pattern=r"^(\d{4}-\d{2}-\d{2})?$")


def import_results(path: Path, origin: str, results: Path, *, replace: bool = False) -> list[Path]:
    """Read and check ``path``, write it below ``results`` as records of ``origin``; return paths.

    Nothing is written unless everything is valid.

    Args:
        path: a record (``.json``) or a table (``.csv``, the columns of :class:`ExternalRow`).
        origin: whose results these are, shown wherever they are.
        results: folder of the records.
        replace: whether records imported before may be overwritten by different ones.

    Raises:
        BenchError: naming the file, the line and what is wrong.
    """
    name = " ".join(origin.split())
    if not name or not name.isprintable() or len(name) > 80 or name == OURS:
        raise BenchError(
            f"origin '{origin}' does not say whose results these are",
            f"1 to 80 printable characters, not '{OURS}'",
        )
    try:
        data = read_bytes(path, MOST_BYTES)
    except OSError as error:
        raise BenchError(f"'{path}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BenchError(f"'{path}' cannot be read: {error}") from error
    mark = {"origin": name, "file": path.name, "sha256": hashlib.sha256(data).hexdigest()}
    if path.suffix == ".csv":
        records = _from_csv(path, data, mark)
    elif path.suffix == ".json":
        records = [_from_record(path, mark)]
    else:
        raise BenchError(f"'{path}' is neither a .json record nor a .csv table")
    root = results / FOLDER / hashlib.sha256(name.encode()).hexdigest()[:12]
    for record in records:
        there = record_path(root, record)
        if replace or not there.exists():
            continue
        if _said(read_record(there)) != _said(record):
            raise BenchError(f"'{there.name}' was imported before and differs", "use --replace")
    with writing(f"'{results}'", "use --results"):
        return [write_record(root, record) for record in records]


def _said(record: Record) -> Record:
    """Return what ``record`` says, but for the file it was read from."""
    return {name: value for name, value in record.items() if name != "external"}


def _from_record(path: Path, mark: Mapping[str, str]) -> Record:
    """Return a record of this suite, run by somebody else, marked as theirs."""
    record = read_record(path)
    if record.get("kind") == "cost" or path.name.endswith(".cost.json"):
        raise BenchError(f"{path.name}: cost records are not imported", "import the cells")
    found = collect([record])
    if found.problems:
        raise BenchError(f"{path.name}: {found.problems[0]}")
    # predictions stay where they are, and another key keeps this from passing for a run of ours
    kept = {name: value for name, value in record.items() if name != "predictions"}
    key = content_hash(["external", mark["origin"], str(record["key"])])
    return {**kept, "key": key, "external": dict(mark)}


def _from_csv(path: Path, data: bytes, mark: Mapping[str, str]) -> list[Record]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BenchError(f"{path.name}: not UTF-8 at byte {error.start}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    records: list[Record] = []
    lines: dict[str, int] = {}
    try:
        heads = list(reader.fieldnames or ())
        twice = next((name for name in heads if heads.count(name) > 1), None)
        if twice is not None:
            raise BenchError(f"{path.name}: column '{twice}' is given twice", "each column once")
        for values in reader:
            line = reader.line_num
            if None in values or None in values.values():
                raise BenchError(f"{path.name}, line {line}: {_columns(reader)} cells expected")
            given = {name: cell.strip() for name, cell in values.items() if cell.strip()}
            row = build(ExternalRow, given, f"{path.name}, line {line}")
            _check_unit(row, f"{path.name}, line {line}")
            record = _record(row, mark)
            if record["key"] in lines:
                first = lines[record["key"]]
                raise BenchError(f"{path.name}, line {line}: the same run as line {first}")
            lines[record["key"]] = line
            records.append(record)
    except csv.Error as error:
        raise BenchError(f"{path.name}, line {reader.line_num}: {error}") from error
    if not records:
        raise BenchError(f"{path.name} holds no results", f"columns: {', '.join(_fields())}")
    return records


def _columns(reader: csv.DictReader[str]) -> int:
    return len(reader.fieldnames or ())


def _fields() -> list[str]:
    return list(ExternalRow.model_fields)


def _check_unit(row: ExternalRow, where: str) -> None:
    if row.metric in UNBOUNDED_METRICS:
        if "direction" not in row.model_fields_set:
            raise BenchError(f"{where}: {row.metric} without a direction", "max or min")
        return
    for name, value in (("score", row.score), ("teacher_score", row.teacher_score)):
        if value is not None and not -1.0 <= value <= 1.0:
            raise BenchError(f"{where}: {name} = {value:g} is not a share", "0.7066, not 70.66")


def _record(row: ExternalRow, mark: Mapping[str, str]) -> Record:
    """Return ``row`` as a record that holds only what is known."""
    identity = [row.task, row.method, row.setting, row.metric, row.device, row.seed]
    test = {row.metric: row.score}
    teacher = None
    if row.teacher or row.teacher_score is not None:
        score = {} if row.teacher_score is None else {row.metric: row.teacher_score}
        teacher = {"key": "", "name": row.teacher, "test": score}
    chosen = f"Epoch chosen by: {row.selection}."
    return {
        "schema": SCHEMA,
        "key": content_hash(["external", mark["origin"], *identity]),
        "status": "ok",
        "cell": {
            "kind": "baseline" if row.method in (REFERENCE, CEILING) else row.kind,
            "method": row.method,
            "label": row.method,
            "options": {},
            "config": {},
            "task": row.task,
            "preset": row.setting,
            "overrides": {},
            "source": "published",
            "seed": row.seed,
        },
        "task": {
            "title": f"{row.task} · {row.data}" if row.data else row.task,
            "metric": row.metric,
            "direction": row.direction,
            "limits": chosen,
        },
        "error": None,
        "metrics": {"best": {"epoch": None, "test": test}, "last": {}},
        "parameters": {"deployed": row.parameters},
        "timings": {"train_s": row.train_seconds},
        "data": {"name": row.data, "source": "published"},
        "teacher": teacher,
        "environment": {"device": row.device},
        "external": {**mark, "url": row.url},
        "finished": f"{row.date}T00:00:00+00:00" if row.date else "",
    }
