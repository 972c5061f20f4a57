"""Differences tested query by query: read from the arrays beside records, beneath the table."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pytest
from factory import failure, record

from bench.report import write_reports
from bench.report.queries import read_each
from bench.stats import paired_test
from bench.store import (
    EACH,
    Record,
    read_predictions,
    read_records,
    record_path,
    write_predictions,
    write_record,
)

QUERIES = 60


def keep(root: Path, made: Record, scores: np.ndarray | None) -> Record:
    """Write a retrieval record, and what its queries scored beside it."""
    made["task"]["family"] = "retrieval"
    if made["status"] == "ok":
        for when in ("best", "last"):
            made["metrics"][when]["test"] |= {"ndcg@10": 0.5, "recall@100": 0.9, "recall@1000": 1.0}
    if scores is not None:
        path = record_path(root, made).with_suffix(".npz")
        digest = write_predictions(path, {EACH: scores})
        made["predictions"] = {"file": path.name, "sha256": digest}
    write_record(root, made)
    return made


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([0.0, 0.25, 0.5, 1.0], QUERIES)


def judged(root: Path) -> dict[str, np.ndarray]:
    """Fill ``root`` with three rows; returns each row's scores by query, averaged over seeds."""
    found: dict[str, list[np.ndarray]] = {}
    for name, better in (("scratch", 0.0), ("kd", 0.2), ("lelp", 0.0)):
        for seed in range(2):
            scores = np.clip(drawn(seed) + better * (drawn(9) > 0), 0, 1)
            if name == "lelp":
                scores = scores[::-1].copy()
            keep(root, record(name, seed, float(scores.mean()), metric="mrr@10"), scores)
            found.setdefault(name, []).append(scores)
    return {name: np.mean(rows, axis=0) for name, rows in found.items()}


def page(root: Path) -> str:
    write_reports(root, root / "out")
    return (root / "out" / "leaderboard.md").read_text(encoding="utf-8")


def table(text: str) -> str:
    """Return the table of queries with its caption."""
    (start,) = (
        at for at, row in enumerate(text.splitlines()) if row.startswith("|") and "nDCG@10" in row
    )
    return "\n".join(text.splitlines()[start:]).split("</sub>")[0]


def line(text: str, start: str) -> str:
    found = next(row for row in table(text).splitlines() if row.startswith(f"| {start}"))
    return html.unescape(found.replace("\\[", "[").replace("\\]", "]"))


def test_rows_are_tested_query_by_query(tmp_path: Path) -> None:
    scores, text = judged(tmp_path), page(tmp_path)
    head = line(text, "method")
    assert "over scratch (points)" in head and "over kd (points)" in head
    assert "nDCG@10 (%)" in head and "recall@1000 (%)" in head
    found = paired_test(scores["kd"] - scores["scratch"])
    row = line(text, "kd")
    assert f"{100 * found.mean:+.2f} [{100 * found.interval[0]:+.2f}, " in row
    assert "p < 0.001" in row and f"({found.better} / {found.worse})" in row
    # of two rows that are held against scratch, the surer one's p is doubled, the other's is kept
    other = paired_test(scores["lelp"] - scores["scratch"])
    assert f"p = {other.p:.3f}" in line(text, "lelp")
    assert "9,999 random sign flips" in text


def without_rankings(root: Path) -> None:
    """Leave of each record's arrays what is published: its queries' scores alone."""
    for path in list(root.rglob("seed*.npz")):
        scores = read_predictions(path)[EACH]
        path.unlink()
        write_predictions(path.with_suffix(".each.npz"), {EACH: scores})


def test_records_published_without_rankings_are_tested_all_the_same(tmp_path: Path) -> None:
    judged(tmp_path)
    whole = table(page(tmp_path))
    without_rankings(tmp_path)
    assert table(page(tmp_path)) == whole


@pytest.mark.parametrize("damage", ["other", "empty", "cut", "two", "text"])
def test_scores_that_are_not_the_records_are_not_believed(tmp_path: Path, damage: str) -> None:
    judged(tmp_path)
    without_rankings(tmp_path)
    path = next(path for path in sorted(tmp_path.rglob("*.each.npz")) if "kd" in str(path))
    scores = read_predictions(path)[EACH]
    if damage == "other":
        write_predictions(path, {EACH: scores[::-1] + 1e-3})
    elif damage == "two":
        write_predictions(path, {EACH: scores[None]})
    elif damage == "text":
        write_predictions(path, {EACH: np.array(["much"])})
    else:
        path.write_bytes(path.read_bytes()[:-30] if damage == "cut" else b"")
    found, (problem,) = read_each(tmp_path, read_records(tmp_path)[0])
    assert len(found) == 5 and "its rankings cannot be read" in problem
    assert "over kd" not in table(page(tmp_path))


@pytest.mark.parametrize(
    "scores",
    [np.array([0.5]), np.array([0.5, np.nan]), np.array([0.5, np.inf]), np.array([0.2, 0.2])],
    ids=["one query", "no number", "no end", "another mean"],
)
def test_scores_beside_rankings_are_checked_as_those_alone(
    tmp_path: Path, scores: np.ndarray
) -> None:
    judged(tmp_path)
    for name in ("scratch", "rkd"):
        keep(tmp_path, record(name, 0, 0.5, task="other", metric="mrr@10"), scores)
    whole = page(tmp_path)
    assert whole.count("its rankings cannot be read") == 2
    assert "over scratch" in table(whole[: whole.index("## other")])


def test_a_score_of_a_stranger_too_large_for_a_number_is_named(tmp_path: Path) -> None:
    made = keep(tmp_path, record("kd", 0, 0.5, metric="mrr@10"), np.array([0.5, 0.5]))
    made["metrics"]["best"]["test"]["mrr@10"] = 10**400
    found, (problem,) = read_each(tmp_path, [made])
    assert not found and "its rankings cannot be read" in problem


def test_a_row_without_all_its_arrays_is_not_tested(tmp_path: Path) -> None:
    judged(tmp_path)
    keep(tmp_path, record("kd", 2, 0.5, metric="mrr@10"), None)
    keep(tmp_path, failure("kd", 3, "no", metric="mrr@10"), None)
    text = page(tmp_path)
    assert (
        "over kd" not in table(text)
        and "p " not in line(text, "kd")
        and "p = " in line(text, "lelp")
    )


def test_a_changed_array_is_told_and_not_used(tmp_path: Path) -> None:
    judged(tmp_path)
    made = keep(tmp_path, record("rkd", 0, 0.5, metric="mrr@10"), drawn(3))
    path = record_path(tmp_path, made).with_suffix(".npz")
    write_predictions(path, {EACH: drawn(4)})
    each, problems = read_each(tmp_path, [made])
    assert not each and len(problems) == 1 and "not the file that its record names" in problems[0]
    assert "its rankings cannot be read" in page(tmp_path)
    path.unlink()
    assert read_each(tmp_path, [made]) == ({}, [])
    outside = {**made, "predictions": {**made["predictions"], "file": "../elsewhere.npz"}}
    assert read_each(tmp_path, [outside])[0] == {}


def test_other_families_have_no_such_table(tmp_path: Path) -> None:
    write_record(tmp_path, record("scratch", 0, 0.5))
    write_record(tmp_path, record("kd", 0, 0.6))
    assert "recall@100" not in page(tmp_path)
