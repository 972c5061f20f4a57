from __future__ import annotations

import random

import pandas as pd
import pytest
from factory import failure, record

from bench.report.frame import COLUMNS, collect
from bench.report.record_row import UNKNOWN_DEVICE, preset_name
from bench.report.sections import sections
from bench.store import Record

OLD, NEW = "2025-03-01T10:00:00+00:00", "2025-03-02T10:00:00+00:00"


def test_one_flat_row_a_cell() -> None:
    frame = collect([record("kd", 1, 0.81, last=0.79, label="kd (temperature=2)")]).frame
    row = frame.iloc[0]
    assert list(frame.columns[: len(COLUMNS)]) == COLUMNS
    assert (row.task, row.preset, row.source, row.device) == ("amazon", "quick", "embedded", "cpu")
    assert (row.label, row.method, row.kind, row.seed) == ("kd (temperature=2)", "kd", "method", 1)
    assert (row.test_best, row.test_last, row.validation_best) == (0.81, 0.79, 0.81)
    assert (row.test_macro_f1, row.test_nll) == (0.81, 0.5)
    assert (row.deployed, row.train_seconds, row.rows_train) == (412_000, 12.0, 1600)
    assert (row.teacher_name, row.teacher_score) == ("big", 0.9)
    assert row.revision == "0123456789"


def test_overrides_are_part_of_the_preset_in_a_fixed_order() -> None:
    cell = {"preset": "quick", "overrides": {"lr": 0.1, "epochs": 2}}
    assert preset_name(cell) == "quick+epochs=2+lr=0.1"
    both = collect([record(overrides={"epochs": 2}), record()])
    assert list(both.frame.preset) == ["quick", "quick+epochs=2"]
    assert both.superseded == 0


def test_the_record_that_finished_last_counts() -> None:
    records = [record(score=0.7, finished=NEW), record(score=0.6, finished=OLD)]
    collected = collect(records)
    assert list(collected.frame.test_best) == [0.7]
    assert collected.superseded == 1
    assert collected.problems == []


def taught_by(seed: int, method: str, score: float, teacher: float, cell_seed: int = 0) -> Record:
    one = record(method, cell_seed, score, teacher=teacher)
    one["key"] += f"{seed}"
    one["cell"]["teacher_seed"] = seed
    return one


def test_what_another_teacher_taught_stands_under_a_name_of_its_own() -> None:
    collected = collect(
        [
            taught_by(0, "kd", 0.7, 0.90),
            taught_by(1, "kd", 0.8, 0.96),
            taught_by(0, "dkd", 0.6, 0.90),
        ]
    )
    assert collected.superseded == 0
    frame = collected.frame.set_index("label")
    assert frame.test_best.to_dict() == {"kd": 0.7, "kd (teacher seed 1)": 0.8, "dkd": 0.6}
    assert set(frame.teacher_score.dropna()) == {0.90}  # the table's own, not a mean of two


def test_one_teacher_of_another_seed_needs_no_mark() -> None:
    frame = collect([taught_by(5, "kd", 0.7, 0.9), taught_by(5, "dkd", 0.6, 0.9)]).frame
    assert list(frame.label) == ["dkd", "kd"]


def test_time_zones_are_compared_as_instants() -> None:
    early = record(score=0.6, finished="2025-03-01T10:30:00+02:00")
    late = record(score=0.7, finished="2025-03-01T09:00:00Z")
    assert list(collect([late, early]).frame.test_best) == [0.7]


def test_a_newer_failure_never_displaces_a_result_but_is_told() -> None:
    collected = collect([record(score=0.7, finished=OLD), failure("kd", 0, "disk", finished=NEW)])
    assert list(collected.frame.status) == ["ok"]
    assert collected.superseded == 1
    assert len(collected.problems) == 1
    assert "newer run failed (ValueError)" in collected.problems[0]


def test_a_newer_result_displaces_a_failure_silently() -> None:
    collected = collect([failure("kd", 0, "disk", finished=OLD), record(score=0.7, finished=NEW)])
    assert list(collected.frame.test_best) == [0.7]
    assert collected.problems == []


def test_a_failed_cell_without_a_device_joins_the_only_table_there_is() -> None:
    assert set(collect([record(), failure("fitnets", 0, "x")]).frame.device) == {"cpu"}
    two = collect([record(), record(device="cuda"), failure("fitnets", 0, "x")]).frame
    assert set(two.device) == {"cpu", "cuda", UNKNOWN_DEVICE}


def test_a_result_without_a_device_stays_without_one() -> None:
    made = [record("kd", 0, 0.69), record("kd", 0, 0.75, device="A100")]
    del made[0]["environment"]["device"]
    assert sorted(collect(made).frame.device) == ["A100", "unknown device"]


def test_scores_of_two_metrics_are_two_results() -> None:
    made = [record("kd", 0, 0.7), record("kd", 0, 0.6, metric="macro_f1")]
    found = collect(made)
    assert sorted(found.frame.test_best) == [0.6, 0.7] and not found.superseded
    lower = record("scratch", 0, 0.5, metric="nll", direction="min")
    higher = record("kd", 0, 0.6, metric="nll", direction="max")
    assert len(sections(collect([lower, higher]).frame)) == 2


@pytest.mark.parametrize("score", [1.7e308, -1e200, float("nan"), float("inf")])
def test_what_can_be_no_score_is_none(score: float) -> None:
    made = [record("kd", seed, score) for seed in range(3)]
    (line,) = sections(collect(made).frame)[0].lines
    assert (line.failed, line.ok) == (3, 0)


def test_ok_without_a_score_is_a_failure_that_says_why() -> None:
    row = collect([record(score=None)]).frame.iloc[0]
    assert (row.status, row.error_class) == ("failed", "IncompleteRecord")
    assert "test accuracy" in row.error_message


def test_uncommitted_changes_are_marked() -> None:
    dirty = record()
    dirty["revision"]["clean"] = False
    assert collect([dirty]).frame.revision[0] == "0123456789+uncommitted"


def test_a_message_is_one_line_without_the_machine_in_it() -> None:
    message = "\ncannot open /home/someone/data/a.pt\nsecond line"
    assert collect([failure("kd", 0, message)]).frame.error_message[0] == "cannot open …/a.pt"


def _without_metric(made: Record) -> None:
    del made["task"]["metric"]


def _sideways(made: Record) -> None:
    made["task"]["direction"] = "sideways"


def _cell_is_text(made: Record) -> None:
    made["cell"] = "kd"


def _too_deep(made: Record) -> None:
    for _ in range(5_000):
        made["cell"]["preset_values"] = {"a": made["cell"].get("preset_values")}


@pytest.mark.parametrize("damage", [_without_metric, _sideways, _cell_is_text, _too_deep])
def test_a_malformed_record_is_a_problem_not_a_crash(damage: object) -> None:
    made = record(seed=1)
    assert callable(damage)
    damage(made)
    collected = collect([made, record()])
    assert len(collected.frame) == 1
    assert len(collected.problems) == 1
    assert made["key"][:12] in collected.problems[0]


def test_the_order_of_the_records_does_not_matter() -> None:
    records = [record(name, seed, 0.5 + seed / 10) for name in ("kd", "gpd") for seed in range(3)]
    records += [record("kd", 0, 0.4, finished=OLD), failure("tgt", 0, "no")]
    shuffled = records[:]
    random.Random(3).shuffle(shuffled)
    pd.testing.assert_frame_equal(collect(records).frame, collect(shuffled).frame)


def test_no_records_give_an_empty_frame() -> None:
    assert list(collect([]).frame.columns) == COLUMNS
