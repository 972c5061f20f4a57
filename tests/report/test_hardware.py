"""Cost figures of different machines: never in one table, never in one median."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.report.content import Table
from bench.report.costs import cost_table
from bench.report.hardware import of_one_machine
from bench.report.select import load
from bench.store import Record, write_record


def cost(label: str, machine: str, day: int = 1, **changes: object) -> Record:
    environment = {"device": "cuda", "device_name": machine, "threads": 1}
    return {
        "key": f"{label}-{machine}-{day}",
        "cell": {
            **{"task": "cifar10", "preset": "small", "overrides": {}, "source": "mirror"},
            **{"label": label},
        },
        "teacher_served": "cached",
        "environment": {**environment, **changes},
        "finished": f"2025-01-0{day}T00:00:00+00:00",
    }


def test_the_machine_that_measured_most_is_shown_alone() -> None:
    one = [cost("kd", "A"), cost("fitnets", "A")]
    kept, told = of_one_machine([*one, cost("kd", "B", day=2)])
    assert kept == one
    assert told == [
        "1 cost records of cifar10, small measured on B, 1 threads, "
        "are not shown beside those of A, 1 threads"
    ]


def test_of_two_that_measured_as_much_the_later_counts() -> None:
    late = cost("kd", "A", day=3)
    kept, _ = of_one_machine([cost("kd", "A"), cost("kd", "B", day=2), late])
    assert kept == [cost("kd", "A"), late]


def test_the_number_of_threads_makes_another_machine_and_the_device_another_place() -> None:
    kept, told = of_one_machine([cost("kd", "A"), cost("kd", "A", day=2, threads=4)])
    assert [record["environment"]["threads"] for record in kept] == [4] and len(told) == 1
    both = [cost("kd", "A"), cost("kd", "C", device="cpu")]
    kept, told = of_one_machine(both)
    assert len(kept) == 2 and not told


@pytest.mark.parametrize("machines", [("A", "A"), ("A", "B")])
def test_seconds_of_two_machines_have_no_median(machines: tuple[str, str]) -> None:
    from factory import record

    from bench.report.frame import collect
    from bench.report.sections import sections

    made = [record("kd", seed) for seed in range(2)]
    for each, machine in zip(made, machines, strict=True):
        each["environment"]["device_name"] = machine
    (section,) = sections(collect(made).frame)
    (line,) = section.lines
    assert (line.train_seconds is None) == (machines == ("A", "B"))
    assert line.ok == 2


@pytest.mark.parametrize("damage", [{"overrides": [1]}, {"overrides": 3}, {"label": ["kd"]}])
def test_a_damaged_cost_record_is_named_and_takes_no_place(tmp_path: Path, damage: dict) -> None:
    from factory import cost as whole
    from factory import record

    write_record(tmp_path, record("kd"))
    costs = [whole("kd"), *(whole(name, "live") for name in ("kd", "rkd", "dkd"))]
    for at, made in enumerate(costs):
        if at:  # of another machine, which would have measured most
            made["environment"] = {**made["environment"], "device_name": "another"}
            made["training"] = {}
        (tmp_path / f"{at}.cost.json").write_text(json.dumps(made))
    odd = whole("fitnets")
    odd["cell"] |= damage
    (tmp_path / "odd.cost.json").write_text(json.dumps(odd))
    context = load(tmp_path)
    assert context.refused == len(context.problems) == 4
    assert "odd.cost.json" in context.problems[0] or odd["key"][:12] in "".join(context.problems)
    ((label, found),) = context.costs_of(context.sections[0]).items()
    assert label == "kd" and found.cached


def test_a_teacher_served_in_an_odd_way_stops_nothing() -> None:
    odd: Record = {**cost("kd", "A"), "teacher_served": []}
    assert of_one_machine([odd]) == ([odd], [])


def test_a_cost_without_a_device_stands_beside_the_scores_without_one(tmp_path: Path) -> None:
    from factory import cost as whole
    from factory import record

    made, measured = record("kd"), whole("kd")
    del made["environment"]["device"], measured["environment"]["device"]
    write_record(tmp_path, made)
    (tmp_path / "kd.cost.json").write_text(json.dumps(measured))
    context = load(tmp_path)
    assert list(context.costs_of(context.sections[0])) == ["kd"]


def test_the_caption_of_costs_says_how_far_one_network_lies_apart(tmp_path: Path) -> None:
    from factory import cost as whole
    from factory import record

    for label in ("kd", "rkd"):
        write_record(tmp_path, record(label))
    rates = {("kd", "cached"): 1.0, ("kd", "live"): 1.6, ("rkd", "live"): 0.8}
    for (label, served), speed in rates.items():
        made = whole(label, served, speed)
        (tmp_path / f"{label}-{served}.cost.json").write_text(json.dumps(made))
    context = load(tmp_path)
    (table,) = [b for b in cost_table(context, context.sections[0]) if isinstance(b, Table)]
    assert "by a factor of up to 2.0, is noise" in table.source
    (tmp_path / "rkd-live.cost.json").unlink()
    (tmp_path / "kd-cached.cost.json").unlink()
    context = load(tmp_path)
    (table,) = [b for b in cost_table(context, context.sections[0]) if isinstance(b, Table)]
    assert "noise" not in table.source
