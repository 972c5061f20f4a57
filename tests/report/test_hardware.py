"""Cost figures of different machines: never in one table, never in one median."""

from __future__ import annotations

import pytest

from bench.report.hardware import of_one_machine
from bench.store import Record


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
