"""From a suite to cells: what is to be run, with content-hashed keys."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from bench import BASELINES, METHODS, TASKS, registry_of
from bench.cells import Cell
from bench.config import build, changed, label, parse_spec
from bench.errors import BenchError, blamed, unknown
from bench.failures import missing_package
from bench.method import Method
from bench.registry import EVERYTHING
from bench.source_code import code_hash
from bench.specs import Contended, generator_spec, on_task, task_info, teacher_spec
from bench.suites import Suite
from bench.tasks.base import Origin, Task
from bench.tasks.preset import SourceKind, spelt


@dataclass(frozen=True)
class Contender:
    """A method or baseline with its options, and whether it was asked for by name."""

    kind: str
    name: str
    options: Mapping[str, str]
    named: bool = True


@dataclass
class Plan:
    """What a suite asks for.

    Attributes:
        cells: in the order they should start.
        notes: what was left out and why, one line each.
    """

    cells: list[Cell] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Serving:
    """How teachers are served: see the fields of the same names in :class:`Cell`."""

    signals: str = "auto"
    cache_bytes: int = 8 * 2**30
    check_cache: bool = False


def make_plan(
    suite: Suite, *, device: str, plugins: Sequence[str] = (), serving: Serving = Serving()
) -> Plan:
    """Turn ``suite`` into cells.

    Raises:
        BenchError: for an unknown name, a wrong option, data that cannot be read here, a cell
            asked for twice, or nothing to run.
    """
    plan = Plan()
    contenders = list(_contenders(suite.methods))
    codes: dict[type, str] = {}
    for task in open_tasks(suite):
        with blamed(f"task '{task.name}'"):
            problem = task.problem()
        if problem:
            if EVERYTHING in suite.tasks:
                plan.notes.append(f"task '{task.name}' is left out: {problem}")
                continue
            raise BenchError(f"task '{task.name}' cannot be read: {problem}")
        with blamed(f"task '{task.name}'"):
            origin = task.origin()  # reads the data's bytes: once for all cells
            if not isinstance(origin, Origin):
                raise TypeError(f"its origin is a {type(origin).__name__}, not an Origin")
        for contender in contenders:
            cells = _cells(plan, task, origin, contender, suite, device, codes)
            plan.cells.extend(
                replace(cell, plugins=tuple(plugins), **asdict(serving)) for cell in cells
            )
    keys = [cell.key for cell in plan.cells]
    if len(set(keys)) != len(keys):
        twice = next(cell for cell in plan.cells if keys.count(cell.key) > 1)
        raise BenchError(f"'{twice.title}' is asked for twice", "name each method once")
    if not plan.cells:
        raise BenchError("nothing to run", "; ".join(plan.notes) or "name a method and a task")
    return plan


def choose_source(task: str, suite: Suite) -> SourceKind | None:
    """Return the data source: the suite's own, else a mirror where ``BENCH_DATA`` names one.

    Setting ``BENCH_DATA`` asks for the mirror in place of the hub; presets on embedded data keep
    it.  ``None`` stands for the preset's own source.
    """
    if suite.source is not None:
        return suite.source
    preset = TASKS.get(task).presets.get(suite.preset)
    if preset is not None and preset.source == "hub" and os.environ.get("BENCH_DATA"):
        return "mirror"
    return None


def _contenders(specs: Iterable[str]) -> Iterable[Contender]:
    for spec in specs:
        if spec == EVERYTHING:
            for kind, registry in (("baseline", BASELINES), ("method", METHODS)):
                for name in registry.names():
                    kind_of(name)  # no name may be both
                    yield Contender(kind, name, {}, named=False)
            continue
        name, options = parse_spec(spec)
        yield Contender(kind_of(name), name, options)


def kind_of(name: str) -> str:
    """Return "method" or "baseline", whichever ``name`` is registered as.

    Raises:
        BenchError: for a name that is neither, or both.
    """
    if name in METHODS and name in BASELINES:
        raise BenchError(f"'{name}' is both a method and a baseline", "rename one of them")
    if name in METHODS:
        return "method"
    if name in BASELINES:
        return "baseline"
    raise unknown("method", name, [*METHODS.names(), *BASELINES.names(), EVERYTHING])


def open_tasks(suite: Suite) -> Iterable[Task]:
    """Yield the suite's tasks, each once.

    Raises:
        BenchError: for an unknown name or a wrong option.
    """
    for name, options in task_specs(suite):
        cls = TASKS.get(name)
        overrides = {**spelt(suite.overrides), **spelt(options)}
        yield cls(suite.preset, source=choose_source(name, suite), overrides=overrides)


def task_specs(suite: Suite) -> list[tuple[str, dict[str, str]]]:
    """Return the suite's tasks, each once, as names and the options given with them."""
    found: list[tuple[str, dict[str, str]]] = []
    for spec in suite.tasks:
        if spec == EVERYTHING:
            names = [each for each in TASKS.names() if suite.preset in TASKS.get(each).presets]
            if not names:
                known = {preset for each in TASKS.names() for preset in TASKS.get(each).presets}
                raise unknown("preset", suite.preset, sorted(known))
            found += [(name, {}) for name in names]
        else:
            found.append(parse_spec(spec))
    return [each for at, each in enumerate(found) if each not in found[:at]]


def _cells(
    plan: Plan,
    task: Task,
    origin: Origin,
    contender: Contender,
    suite: Suite,
    device: str,
    codes: dict[type, str],
) -> Iterable[Cell]:
    """Yield the cells of one contender on one task; a note says why there are none."""
    try:
        cls = registry_of(contender.kind).get(contender.name)
    except BenchError as error:
        if missing_package(error) is None:
            raise
        # its row says what it lacks: the cell finds that out again, and is skipped for it
        plan.notes.append(error.message)
        bare = _bare_cell(task, origin, contender, device)
        yield from (replace(bare, seed=seed) for seed in suite.seeds)
        return
    configured = build(cls.Config, contender.options, f"method '{contender.name}'")
    with blamed(f"{contender.kind} '{contender.name}'"):
        instance = cls(configured)
        needs_generator, oracle = instance.needs_generator, instance.oracle
    unsuited = _unsuited(cls, contender, task)
    if unsuited is not None:
        plan.notes.extend(unsuited)
        return
    config = configured.model_dump(mode="json")
    signals = bool(cls.signals)
    spec = teacher_spec(task, origin, cls, config, suite.teacher_seed, device)
    generator = generator_spec(task, spec) if needs_generator else None
    if cls not in codes:  # a method's modules are read once for all tasks and seeds
        codes[cls] = code_hash(cls)
    cell = replace(
        _bare_cell(task, origin, contender, device),
        label=label(contender.name, changed(configured, contender.options), oracle=oracle),
        config=config,
        code=codes[cls],
        teacher=spec if signals or cls.needs_teacher else None,
        uses_signals=signals,
        trained=issubclass(cls, Method),
        oracle=oracle,
        not_like_for_like=cls.card.not_like_for_like,
        generator=generator,
    )
    seeds = suite.seeds if cls.seeded else (0,)  # one run, whatever seeds are added later
    yield from (replace(cell, seed=seed) for seed in seeds)


def _unsuited(cls: Contended, contender: Contender, task: Task) -> list[str] | None:
    """Return notes on why ``cls`` does not suit ``task``; None where it does.

    There is no note on a method for other task families that nobody named.
    """
    if task.family not in cls.families:
        note = f"'{contender.name}' is not for {task.family} tasks: not run on {task.name}"
        return [note] if contender.named else []
    lacking = sorted(cls.signals - task.signals)
    if lacking:
        return [
            f"'{contender.name}' needs the teacher's {', '.join(lacking)}, which {task.family} "
            f"tasks do not have: not run on {task.name}"
        ]
    return None


def _bare_cell(task: Task, origin: Origin, contender: Contender, device: str) -> Cell:
    """Return the cell for seed 0 as far as it is known without the method's class."""
    return Cell(
        kind=contender.kind,
        method=contender.name,
        label=label(contender.name, contender.options),
        options=dict(contender.options),
        config=dict(contender.options),
        code="",
        task_info=task_info(task, origin.name, origin.limits),
        origin=asdict(origin),
        seed=0,
        teacher=None,
        **on_task(task, device),
    )
