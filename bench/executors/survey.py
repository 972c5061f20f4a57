"""What would run a cell here: versions, the project's code, plug-ins, data.

Machines that differ in these would write records that only look alike, so nothing is run until all
agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cells import Cell
from bench.config import content_hash
from bench.environment import PROJECT, versions
from bench.errors import BenchError, blamed

PACKAGES = ("bench", "methods", "baselines")
ABSENT = "missing"


@dataclass(frozen=True)
class Survey:
    """The job of finding out what would run these cells.

    Attributes:
        cells: one per data set, see :func:`data_sets`.
    """

    cells: tuple[Cell, ...]


def data_sets(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return one cell for each data set that ``cells`` read."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(_data_name(cell) + content_hash(dict(cell.preset_values)), cell)
    return tuple(found.values())


def survey(spec: Survey, plugins: Sequence[str]) -> dict[str, str]:
    """Return what would run the cells here, by name."""
    found = versions()
    found["project code"] = code_digest()
    for plugin in plugins:
        path = Path(plugin)
        if path.suffix == ".py":
            digest = (
                hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ABSENT
            )
            found[f"plug-in {path.name}"] = digest
    for cell in spec.cells:
        name = f"data of {_data_name(cell)}"  # a task may be there with several data sets
        found[name] = "; ".join(filter(None, [found.get(name), _fingerprint(cell)]))
    return found


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """Return in one line how ``there`` differs from ``here``; ``None`` if it does not."""
    told = [
        f"{name} is {there.get(name, ABSENT)} there and {here.get(name, ABSENT)} here"
        for name in [*here, *(name for name in there if name not in here)]
        if here.get(name) != there.get(name)
    ]
    return "; ".join(told) or None


def code_digest() -> str:
    """Return a hash of the project's own code, in a git repository or not."""
    hashed = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            hashed.update(path.relative_to(PROJECT).as_posix().encode() + b"\0")
            hashed.update(hashlib.sha256(path.read_bytes()).digest())
    return hashed.hexdigest()[:12]


def _data_name(cell: Cell) -> str:
    return f"{cell.task} ({cell.source})"


def _fingerprint(cell: Cell) -> str:
    from bench.opening import open_task

    try:
        task = open_task(cell)
        with blamed(f"task '{task.name}'"):
            return task.problem() or task.origin().fingerprint[:12]
    except BenchError as error:
        return error.message
