"""Beneath a retrieval table: the other judged metrics, and differences tested query by query."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.fingerprint import file_sha256
from bench.errors import BenchError
from bench.report import text
from bench.report.content import Block, Table, Value
from bench.report.names import file_name
from bench.report.roles import REFERENCE, SECOND
from bench.report.sections import Section
from bench.stats import PairedTest, holm, mean_and_sd, paired_test
from bench.store import DAMAGED, EACH, Record, each_path, read_predictions, record_path

JUDGED = ("ndcg@10", "recall@100", "recall@1000")
Scores = Mapping[str, np.ndarray]

CAPTION = """\
Differences of {metric} by test query, each query's score averaged over the seeds that \
both rows have: mean with \
95 % interval over queries, p from {draws:,} random sign flips of the queries' differences \
(two-sided), corrected by Holm over the rows of a column; in brackets on how many queries the row \
is better / worse. They speak of other queries on the same collection, not of other training runs: \
the spread over seeds stands above."""


def read_each(results: Path, records: Sequence[Record]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the scores of single test queries by record key, and a line for each damaged file.

    They are saved beside the record with its rankings, and again in a small file of their own, for
    records that are published without rankings.  Records with neither (other families, failed
    cells) are left out.
    """
    found: dict[str, np.ndarray] = {}
    problems = []
    for record in records:
        saved = record.get("predictions")
        family = (record.get("task") or {}).get("family")
        if record.get("status") != "ok" or family != "retrieval" or not isinstance(saved, dict):
            continue
        try:
            scores = _with_rankings(results, record, saved)
            scores = _alone(results, record) if scores is None else scores
        except (BenchError, TypeError, OverflowError, *DAMAGED) as error:
            name = str(record.get("key"))[:12]
            problems.append(f"record {name}: its rankings cannot be read ({error})")
            continue
        if scores is not None:
            found[str(record["key"])] = scores
    return found, problems


def _with_rankings(results: Path, record: Record, saved: Mapping[str, Any]) -> np.ndarray | None:
    """Return the scores in the predictions that the record names; None if there are none.

    Raises:
        BenchError: for a file of another checksum, or scores that are not the record's.
    """
    path = record_path(results, record).with_name(str(saved["file"]))
    if path.name != str(saved["file"]) or not path.is_file():
        return None
    if file_sha256(path) != saved["sha256"]:
        raise BenchError("not the file that its record names")
    arrays = read_predictions(path)
    return _checked(arrays[EACH], record) if EACH in arrays else None


def _alone(results: Path, record: Record) -> np.ndarray | None:
    """Return the scores in the small file; None if there is none."""
    path = each_path(results, record)
    return _checked(read_predictions(path)[EACH], record) if path.is_file() else None


def _checked(array: np.ndarray, record: Record) -> np.ndarray:
    """Return the scores for a test; :class:`BenchError` if their mean is not the record's score."""
    scores = np.asarray(array, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < 2:
        raise BenchError("a test needs a score each of two queries or more")
    told = record["metrics"]["best"]["test"][record["task"]["metric"]]
    if not np.isfinite(scores).all() or not abs(float(scores.mean()) - told) < 1e-9:
        raise BenchError("its queries' mean is not the record's score")
    return scores


def query_table(section: Section, each: Scores) -> list[Block]:
    """Return the table; nothing for another family."""
    names = [name for name in JUDGED if _has(section, f"test_{name}")]
    if not names:
        return []
    scores = {line.label: _by_seed(section, line.label, each) for line in section.lines}
    once = {line.label for line in section.lines if not line.paired}
    columns = {
        other: found
        for other in (REFERENCE, SECOND)
        if scores.get(other) and (found := _tests(scores, other, once))
    }
    rows = []
    for line in section.lines:
        if not line.best:
            continue
        cells = section.cells[(section.cells.label == line.label) & (section.cells.status == "ok")]
        row = [Value(line.label, italic=line.kind == "baseline")]
        for name in names:
            values = cells[f"test_{name}"].dropna().tolist()
            spread = mean_and_sd(values) if values else None
            row.append(Value(text.spread(spread, name), spread.mean if spread else None))
        row += [_shown(tests.get(line.label), section.metric) for tests in columns.values()]
        rows.append(row)
    heads = [f"{text.metric_name(name)} (%)" for name in names]
    heads += [f"over {other}{text.points(section.metric)}" for other in columns]
    draws = next((test.draws for found in columns.values() for test in found.values()), 0)
    told = CAPTION.format(metric=text.metric_name(section.metric), draws=draws)
    return [
        Table(
            name=file_name("queries", *section.place),
            head=["method", *heads],
            rows=rows,
            title=f"Query by query: {section.title}, preset {section.preset}",
            source=told if columns else "",
        )
    ]


def _has(section: Section, column: str) -> bool:
    return column in section.cells and bool(section.cells[column].notna().any())


def _by_seed(section: Section, label: str, each: Scores) -> dict[int, np.ndarray]:
    """Return each query's scores by seed of ``label``; empty where any is missing."""
    cells = section.cells[(section.cells.label == label) & (section.cells.status == "ok")]
    found = {
        int(seed): each[key] for seed, key in zip(cells.seed, cells.key, strict=True) if key in each
    }
    whole = len(found) == len(cells) and len({len(row) for row in found.values()}) == 1
    return found if whole else {}


def _tests(
    scores: Mapping[str, Mapping[int, np.ndarray]], other: str, once: Collection[str]
) -> dict[str, PairedTest]:
    """Return the tests of every row against ``other`` on their common seeds, p by Holm.

    A row of ``once`` was run once and is held against the mean over all seeds.
    """
    found = {}
    for label, mine in scores.items():
        base = scores[other]
        seeds = mine.keys() & base.keys()
        alone = label in once or other in once
        ours, theirs = (
            [row[seed] for seed in sorted(row if alone else seeds)] for row in (mine, base)
        )
        if label != other and ours and theirs and len(ours[0]) == len(theirs[0]):
            found[label] = paired_test(np.mean(ours, axis=0) - np.mean(theirs, axis=0))
    corrected = holm({label: test.p for label, test in found.items()})
    return {label: test._replace(p=corrected[label]) for label, test in found.items()}


def _shown(test: PairedTest | None, metric: str) -> Value:
    if test is None:
        return Value(text.NOTHING)
    low, high = (text.number(value, metric, signed=True) for value in test.interval)
    p = text.p_value(test.p)
    equals = "" if p.startswith("<") else "= "
    mean = text.number(test.mean, metric, signed=True)
    return Value(f"{mean} [{low}, {high}], p {equals}{p} ({test.better} / {test.worse})", test.mean)
