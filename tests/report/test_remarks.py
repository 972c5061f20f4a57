"""What a table says of itself when its rows were not run alike."""

from __future__ import annotations

from typing import Any

from factory import record

from bench.report.frame import collect
from bench.report.remarks import remarks
from bench.report.sections import sections
from bench.store import Record


def ran(settings: dict[str, Any], method: str, seed: int, **cell: Any) -> Record:
    """Return a record of a cell that was run with ``settings`` and ``cell``'s code or options."""
    made = record(method, seed, 0.8)
    made["cell"] |= {"preset_values": settings, **cell}
    return made


def said(records: list[Record]) -> str:
    (section,) = sections(collect(records).frame)
    return " ".join(remarks(section))


def test_settings_that_changed_under_one_name_of_a_preset_are_named_with_their_rows() -> None:
    old = {"student": "resnet8", "recipe": {"epochs": 2}, "train_limit": None}
    new = {"student": "resnet20", "recipe": {"epochs": 20}, "train_limit": None}
    mixed = [ran(old, "scratch", seed) for seed in (0, 1)]
    mixed += [ran(new, "kd", 0), ran(old, "kd", 1)]
    words = said(mixed)
    assert "recipe.epochs is 2 (kd (seed 1), scratch) and 20 (kd (seed 0))" in words
    assert "student is resnet20 (kd (seed 0)) and resnet8 (kd (seed 1), scratch)" in words
    assert "train_limit" not in words


def test_a_record_from_before_a_setting_is_held_against_none_and_4_0_is_4() -> None:
    rows = [
        ran({}, "scratch", 0),
        ran({"n": 4.0}, "kd", 0),
        ran({"n": 4, "source": "hub"}, "rkd", 0),
    ]
    assert "Not all rows were run alike" not in said(rows)


def test_data_that_changed_is_told_by_its_fingerprint() -> None:
    rows = [record("scratch", 0), record("kd", 0)]
    rows[1]["data"] = {**rows[1]["data"], "fingerprint": "0" * 64}
    assert "the data's fingerprint is 000000000000 (kd) and ffffffff (scratch)" in said(rows)


def test_a_row_of_two_codes_or_two_defaults_is_named_with_its_seeds() -> None:
    rows = [record("scratch", seed) for seed in range(4)]
    rows += [ran({}, "kd", seed, code="old" if seed < 2 else "new") for seed in range(4)]
    rows += [ran({}, "rkd", seed, config={"w": 1.0 + (seed == 0)}) for seed in range(4)]
    rows += [ran({}, "dkd", seed, code="same") for seed in range(4)]
    assert "kd (seeds 0, 1 and 2, 3); rkd (seeds 0 and 1, 2, 3). Run the older" in said(rows)
    assert "Not one method" not in said(rows[:4] + rows[-4:])
