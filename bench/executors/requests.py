"""What a job asks a cluster for: processor cores, a share of an accelerator, memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field

from bench.cells import Cell, GeneratorSpec, SignalsSpec, TeacherSpec
from bench.config import Config, build, parse_spec
from bench.errors import BenchError, nearest
from bench.executors.worker import Job

GIBIBYTE = 2**30
KINDS = ("teacher", "generator", "signals", "cell")


class Request(Config):
    """Resources of one job; the scheduler counts them, nothing enforces them.

    Attributes:
        cpus: processor cores.
        gpus: accelerators; below one, that many jobs share one.
        memory: GiB of main memory.
    """

    cpus: float = Field(default=1.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)
    memory: float = Field(default=2.0, ge=0)

    def resources(self) -> dict[str, float]:
        """Return the request under Ray's names, without what is not asked for."""
        found = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory * GIBIBYTE}
        return {name: value for name, value in found.items() if value}

    def fits(self, offered: Mapping[str, float]) -> int:
        """Return how many such jobs fit on a node that offers ``offered``."""
        return int(min(offered.get(name, 0.0) / value for name, value in self.resources().items()))


# By pattern over TASK/PRESET/KIND, a later match changing an earlier one.  The most that a cell
# has taken is 2.0 GiB in quick, in small 1.6 on images and 4.9 on text and in retrieval (GPD);
# half a GiB of it is PyTorch.  Those of standard and paper are estimates.
DEFAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("*/quick/*", {"memory": 2.5}),
    ("*/small/*", {"memory": 5.0}),
    ("cifar*/small/*", {"memory": 2.0}),
    ("*/standard/*", {"memory": 6.0}),
    ("*/paper/*", {"memory": 8.0}),
)


class Requests:
    """What each job asks for.

    Args:
        threads: processor cores where no rule says otherwise.
        accelerated: whether jobs run on an accelerator, one each where no rule says otherwise.
        rules: ``PATTERN:cpus=2:gpus=0.25:memory=4``, the pattern matching TASK/PRESET/KIND or its
            beginning; a later rule changes an earlier one.

    Raises:
        BenchError: for a rule that cannot be read.
    """

    def __init__(self, threads: int, accelerated: bool, rules: Iterable[str] = ()) -> None:
        self._base = {"cpus": float(threads), "gpus": float(accelerated)}
        self._rules = [*DEFAULTS]
        self._patterns: list[str] = []
        self._known: dict[str, Request] = {}
        for rule in rules:
            pattern, options = parse_spec(rule)
            self._patterns.append(pattern)
            if not options:
                raise BenchError(f"'--request {rule}' asks for nothing", "TASK/PRESET:gpus=0.25")
            given = build(Request, options, f"--request {pattern}")
            if given.gpus > 1 and given.gpus != int(given.gpus):
                raise BenchError(
                    f"--request {pattern}: gpus = {given.gpus:g}", "a fraction of one, or whole"
                )
            if given.gpus and not accelerated:
                raise BenchError(f"--request {pattern}: no gpus on device cpu", "--device cuda")
            self._rules.append((pattern, {name: getattr(given, name) for name in options}))

    def check(self, cells: Iterable[Cell]) -> None:
        """Raise :class:`BenchError` for a rule that matches no job of ``cells``."""
        names = {f"{cell.task}/{cell.preset}/{kind}" for cell in cells for kind in KINDS}
        for pattern in self._patterns:
            if not any(_matches(name, pattern) for name in names):
                hint = nearest(pattern, sorted(names))
                raise BenchError(f"--request {pattern} matches no job of this run", hint)

    def of(self, job: Job) -> Request:
        """Return what ``job`` asks for."""
        return self._named(describe(job))

    def of_cell(self, cell: Cell) -> Request:
        """Return what ``cell`` will ask for."""
        return self._named(f"{cell.task}/{cell.preset}/cell")

    def _named(self, name: str) -> Request:
        if name not in self._known:  # asked again and again of every job that waits
            values: dict[str, Any] = dict(self._base)
            for pattern, changes in self._rules:
                if _matches(name, pattern):
                    values |= changes
            self._known[name] = Request(**values)
        return self._known[name]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}/*")


def describe(job: Job) -> str:
    """Return TASK/PRESET/KIND of ``job``."""
    work = job.work
    if isinstance(work, TeacherSpec):
        return f"{work.task}/{work.preset}/teacher"
    if isinstance(work, GeneratorSpec):
        return f"{work.task}/{work.preset}/generator"
    if isinstance(work, SignalsSpec):
        return f"{work.cells[0].task}/{work.cells[0].preset}/signals"
    if isinstance(work, Cell):
        return f"{work.task}/{work.preset}/cell"
    raise TypeError(f"{type(work).__name__} does not run on a cluster")
