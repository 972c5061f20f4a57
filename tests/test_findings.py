"""The findings' numbers are those of published runs; the limits count the published records."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from processes import ROOT

from bench.report.frame import collect
from bench.report.rates import rate_families
from bench.report.sections import sections
from bench.stats import difference_interval
from bench.store import Record, read_record, read_records

FINDINGS = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
LIMITS = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
# what others are held against, beside another row of the same method
REFERENCES = ("scratch", "kd", "dkd")
SCORES = ["test_best", "test_macro_f1", "further_test_random"]
NUMBER = r"([+-]?\d+(?:\.\d+)?)"
DIFFERENCE = re.compile(rf"(?:(?<![\w.-])([+-]\d+(?:\.\d+)?) \(?)?\[{NUMBER}, {NUMBER}\]")
Said = tuple[str, str, str]


@pytest.fixture(scope="session")
def records(published: list[Path]) -> list[Record]:
    """Return the published records of scores."""
    found = [read_record(path) for path in published]
    return [record for record in found if record.get("kind") != "cost"]


@pytest.fixture(scope="session")
def cells(records: list[Record]) -> pd.DataFrame:
    """Return every finished published cell, those of the studies among them."""
    studies = sorted((ROOT / "docs" / "studies").glob("*/results"))
    each = [records, *(read_records(folder)[0] for folder in studies)]
    frames = [collect(found).frame.assign(folder=place) for place, found in enumerate(each)]
    found = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
    return found[found.status == "ok"]


def alike(cells: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield what may be held against each other: of one task and schedule, or at own rates."""
    for _, found in cells.groupby(["task", "recipe"]):
        yield found
    for rates in rate_families(sections(cells[cells.folder == 0])):
        if rates.own is not None:
            yield rates.own.cells


@pytest.fixture(scope="session")
def differences(cells: pd.DataFrame) -> np.ndarray:
    """Return mean, low and high, in points, of the paired differences of two rows ``(N, 3)``."""
    found = []
    for together in alike(cells):
        rows = [
            (row.method.iloc[0], row.set_index("seed")[SCORES].astype(float).T.to_dict("list"))
            for _, row in together.groupby(["folder", "preset", "label"])
        ]
        for (method, one), (reference, other) in itertools.permutations(rows, 2):
            if not told_against(method, reference):
                continue
            seeds = sorted(one.keys() & other.keys())
            gains = 100 * np.array([np.subtract(one[seed], other[seed]) for seed in seeds])
            for each in gains.T:
                if np.isfinite(each).all() and (interval := difference_interval(each)):
                    found.append((each.mean(), interval.low, interval.high))
    return np.array(found)


def told_against(method: str, reference: str) -> bool:
    """Return whether a gain of the one over the other is told: never the other way round."""
    if method == reference:
        return True
    order = [*REFERENCES, method]
    return reference in REFERENCES and order.index(reference) < order.index(method)


def told(text: str) -> set[Said]:
    """Return gain (empty where none is given), low and high of each interval, as it is written."""
    plain = re.sub(r"\s+", " ", text.replace("−", "-"))
    return {(gain or "", low, high) for gain, low, high in DIFFERENCE.findall(plain)}


def borne_out(said: Said, differences: np.ndarray) -> bool:
    """Return whether two rows differ by what is ``said``, to its last digit."""
    fits = np.ones(len(differences), dtype=bool)
    for column, word in enumerate(said):
        if word:
            fits &= abs(differences[:, column] - float(word)) <= unit(word)
    return bool(fits.any())


def unit(word: str) -> float:
    """Return by how much a number may be off that is written ``word``; 0.15 is told to 0.05."""
    decimals = len(word.partition(".")[2])
    return {0: 0.5, 1: 0.05, 2: 0.025 if word.endswith("5") else 0.005}[decimals] + 1e-9


@pytest.mark.parametrize("said", sorted(told(FINDINGS)), ids=str)
def test_an_interval_of_the_findings_is_that_of_two_published_rows(
    said: Said, differences: np.ndarray
) -> None:
    assert borne_out(said, differences)


def test_an_interval_of_no_two_rows_is_seen(differences: np.ndarray) -> None:
    said = told("ahead by +3.4\n(+3.4 [−1.1, 5.8]) and [−9.7, −9.1]")
    assert said == {("+3.4", "-1.1", "5.8"), ("", "-9.7", "-9.1")}
    assert not any(borne_out(each, differences) for each in said)


def test_the_limits_count_the_records_of_uncommitted_code(records: list[Record]) -> None:
    unclean = sum(record["revision"].get("clean") is False for record in records)
    assert f"({unclean} of {len(records)})" in LIMITS


def test_the_findings_count_the_texts_that_come_back_unchanged() -> None:
    tables = sorted((ROOT / "reports" / "tables").glob("generated-tgt-*.csv"))
    rows = [
        row
        for path in tables
        if "msmarco" not in path.name
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    ]
    said = re.search(r"Of the (\d+)\s+perturbed.+?, (\d+) are the real ones", FINDINGS, re.DOTALL)
    unchanged = [row for row in rows if row["real"] == row["perturbed"]]
    assert said and [int(count) for count in said.groups()] == [len(rows), len(unchanged)]


def test_there_are_intervals_to_look_at() -> None:
    assert len(told(FINDINGS)) > 50
