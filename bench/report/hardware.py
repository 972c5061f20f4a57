"""Keeps cost figures of different hardware apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from bench.report.costs import Place, place_of
from bench.store import Record

Machine = tuple[str, str]  # the device's name, processor threads


def of_one_machine(costs: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """Return, of each place (:data:`bench.report.costs.Place`), the cost records of one machine.

    The records must be usable (:func:`bench.report.costs.usable_costs`).  The machine with the most
    measurements is kept, the latest of equals; for each other one there is a line that says so.
    """
    places: dict[Place, dict[Machine, list[Record]]] = defaultdict(dict)
    for record in costs:
        places[place_of(record)].setdefault(_machine(record), []).append(record)
    kept, told = [], []
    for (task, preset, *_), machines in sorted(places.items()):
        chosen = max(machines, key=lambda machine: _claim(machines[machine]))
        kept += machines.pop(chosen)
        for (name, threads), others in sorted(machines.items()):
            told.append(
                f"{len(others)} cost records of {task}, {preset} measured on {name}, {threads} "
                f"threads, are not shown beside those of {chosen[0]}, {chosen[1]} threads"
            )
    return kept, told


def _machine(record: Record) -> Machine:
    environment = record.get("environment") or {}
    name, threads = (environment.get(each, "unknown") for each in ("device_name", "threads"))
    return str(name), str(threads)


def _claim(records: list[Record]) -> tuple[int, str]:
    what = {(record["cell"]["label"], str(record.get("teacher_served"))) for record in records}
    return len(what), max(str(record.get("finished")) for record in records)
