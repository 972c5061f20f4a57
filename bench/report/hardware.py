"""Cost figures belong to the hardware they were measured on: those of two machines never mix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from bench.report.frame import preset_name, shown
from bench.store import Record

Machine = tuple[str, str, str]  # device, its name, processor threads


def of_one_machine(costs: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """Return, of each task, preset and source, the cost records of one machine on each device.

    The records must be usable (:func:`bench.report.costs.usable_costs`).
    The machine that measured most is kept, of several the one that was at it last; what the others
    measured is told, one line for each, and not shown beside it.
    """
    places: dict[tuple[str, ...], dict[Machine, list[Record]]] = defaultdict(dict)
    for record in costs:
        cell, machine = record["cell"], _machine(record)
        names = (str(cell["task"]), preset_name(cell), str(cell.get("source")), machine[0])
        place = tuple(map(shown, names))
        places[place].setdefault(machine, []).append(record)
    kept, told = [], []
    for (task, preset, _, _), machines in sorted(places.items()):
        chosen = max(machines, key=lambda machine: _claim(machines[machine]))
        kept += machines.pop(chosen)
        for (_, name, threads), others in sorted(machines.items()):
            told.append(
                f"{len(others)} cost records of {task}, {preset} measured on {name}, {threads} "
                f"threads, are not shown beside those of {chosen[1]}, {chosen[2]} threads"
            )
    return kept, told


def _machine(record: Record) -> Machine:
    environment = record.get("environment") or {}
    names = ("device", "device_name", "threads")
    return tuple(str(environment.get(name, "unknown")) for name in names)  # type: ignore[return-value]


def _claim(records: list[Record]) -> tuple[int, str]:
    what = {(record["cell"]["label"], str(record.get("teacher_served"))) for record in records}
    return len(what), max(str(record.get("finished")) for record in records)
