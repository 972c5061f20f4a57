"""One small record of every schema version is kept here for ever: read as it was, or refused.

Whoever raises ``SCHEMA`` adds ``tests/records/schema-N.json`` (a real record of that version), and
either migrates the older ones or refuses them by name; none is ever read as something else.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT

from bench.errors import BenchError
from bench.report.costs import collect_costs, usable_costs
from bench.report.frame import collect
from bench.store import SCHEMA, read_record, read_records, write_record

FOLDER = ROOT / "tests" / "records"
# What the report must make of the version's record, whatever the schema is by now.
MEANING: dict[int, dict[str, Any]] = {
    1: {
        "task": "cifar10",
        "preset": "quick+epochs=1+teacher_recipe.epochs=1+train_limit=16",
        "source": "embedded",
        "device": "cpu",
        "label": "kd",
        "kind": "method",
        "seed": 0,
        "status": "ok",
        "metric": "accuracy",
        "direction": "max",
        "test_best": 0.10112359550561797,
        "test_last": 0.10112359550561797,
        "validation_best": 0.10408921933085502,
        "best_epoch": 1.0,
        "deployed": 19954.0,
        "train_only": 0.0,
        "rows_train": 16.0,
        "rows_test": 445.0,
        "teacher_name": "resnet14w16s2",
        "teacher_score": 0.09887640449438202,
        "micro_batches": 1.0,
        "key": "3e333a6b69c1de7371241db4e9abd040b88bbd2feec5defc70909c752060e118",
    }
}


def version(path: Path) -> int:
    found = re.fullmatch(r"schema-(\d+).*\.json", path.name)
    assert found, f"{path.name} is named after no version"
    return int(found[1])


def test_every_version_has_its_record() -> None:
    there = {version(path) for path in FOLDER.iterdir()}
    assert there == set(range(1, SCHEMA + 1)) == set(MEANING)


@pytest.mark.parametrize("number", MEANING)
def test_record_of_each_version_keeps_its_meaning(number: int) -> None:
    collected = collect([read_record(FOLDER / f"schema-{number}.json")])
    assert not collected.problems
    (row,) = collected.frame.to_dict("records")
    assert {name: row[name] for name in MEANING[number]} == MEANING[number]


def test_failed_and_cost_records_of_the_first_version_are_read() -> None:
    record = read_record(FOLDER / "schema-1-failed.json")
    (row,) = collect([record]).frame.to_dict("records")
    assert (row["status"], row["error_class"]) == ("failed", "BenchError")
    assert row["error_message"] == "resnet9 is not a CIFAR ResNet"
    cost = read_record(FOLDER / "schema-1.cost.json")
    usable, problems = usable_costs([cost])
    costs = collect_costs(usable)
    assert not problems
    ((found,),) = (methods.values() for methods in costs.values())
    assert found.state == "ok" and found.rate and found.flops


def test_fixtures_are_as_they_were_written(tmp_path: Path) -> None:
    """Reading changes nothing, and a copy is byte for byte the same where it is written again."""
    for path in FOLDER.glob("schema-*.json"):
        if version(path) == SCHEMA and not path.name.endswith(".cost.json"):
            assert write_record(tmp_path, read_record(path)).read_bytes() == path.read_bytes()


def test_fixtures_tell_no_folder_of_a_machine() -> None:
    for path in FOLDER.iterdir():
        assert not re.search(r"/(home|root|tmp|work|Users)/", path.read_text(encoding="utf-8"))


def test_published_records_are_all_read(published: list[Path]) -> None:
    assert published
    for path in published:
        read_record(path)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (0, "record schema 0 (this version reads 1)"),
        (SCHEMA + 1, f"record schema {SCHEMA + 1} (this version reads 1; update the suite)"),
        (10**30, "update the suite"),
        (-1, "record schema -1 (this version reads 1)"),
        (1.0, "record schema 1.0 (this version reads 1)"),
        ("1", "record schema '1' (this version reads 1)"),
        (True, "record schema True (this version reads 1)"),
        (None, "record schema None (this version reads 1)"),
        ([1], "record schema [1] (this version reads 1)"),
        ({"version": 1}, "record schema {'version': 1} (this version reads 1)"),
    ],
)
def test_other_versions_are_refused_with_the_reason(
    tmp_path: Path, schema: Any, reason: str
) -> None:
    record = json.loads((FOLDER / "schema-1.json").read_text(encoding="utf-8"))
    path = tmp_path / "record.json"
    path.write_text(json.dumps({**record, "schema": schema}), encoding="utf-8")
    with pytest.raises(BenchError) as caught:
        read_record(path)
    assert reason in str(caught.value) and str(path) in str(caught.value)
    assert read_records(tmp_path)[0] == []


def test_costs_have_a_version_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    (cost,) = FOLDER.glob("*.cost.json")
    monkeypatch.setattr("bench.store.SCHEMA", SCHEMA + 1)
    assert read_record(cost)["kind"] == "cost"
    monkeypatch.setattr("bench.store.COST_SCHEMA", SCHEMA + 1)
    with pytest.raises(BenchError, match=f"this version reads {SCHEMA + 1}"):
        read_record(cost)
