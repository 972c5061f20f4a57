"""Runs what is missing of a plan: teachers first, then cells, each in its own process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.baseline import TEACHER
from bench.cells import Cell, SignalsSpec
from bench.config import content_hash
from bench.drive import Driver, Mark, Summary, cell_path, mark
from bench.errors import BenchError
from bench.executors.base import Executor
from bench.executors.local import LocalExecutor
from bench.executors.worker import Job
from bench.failures import BROKEN, lacked_package
from bench.interrupts import interrupts
from bench.leases import Leases
from bench.measure.cost import CostSpec, cost_path
from bench.plan import Plan
from bench.progress import Progress
from bench.store import (
    SCHEMA,
    Record,
    read_object,
    read_record,
    read_records,
    remove_leftovers,
)

__all__ = ["RETRIED", "Policy", "Summary", "first_alike", "measure_plan", "run_plan"]

# Statuses that are run again unless the user says otherwise.  The others are findings about a cell
# under the conditions of its run, and would come out the same.
RETRIED = frozenset({"failed"})


@dataclass(frozen=True)
class Policy:
    """How a run deals with what goes wrong.

    Attributes:
        retry: statuses of earlier records that are run again.
        cell_timeout: seconds a cell or a measurement may take, if limited.
    """

    retry: frozenset[str] = RETRIED
    cell_timeout: float | None = None


def earlier(results: Path) -> dict[str, Record]:
    """Return the existing records by key: of several a result, else the one that ended last."""
    records, _ = read_records(results)
    ordered = sorted(records, key=lambda record: (record["status"] == "ok", _finished(record)))
    return {record["key"]: record for record in ordered}


def _finished(record: Record) -> str:
    return str(record.get("finished") or "")


def runs_again(record: Record, retry: frozenset[str]) -> bool:
    """Return whether the cell of ``record`` is run again.

    One that was skipped because a package was missing always is.
    """
    return lacked_package(record) or record["status"] in retry


def jobs_for(
    plan: Plan, done: set[str], *, results: Path, threads: int, micro_batches: int = 1
) -> list[Job]:
    """Return the jobs of what is not ``done``: teachers, their signals, generators, then cells.

    The batches of cells are cut into ``micro_batches`` parts.
    """
    missing = [cell for cell in plan.cells if cell.key not in done]
    teachers = {cell.teacher.key: cell.teacher for cell in missing if cell.teacher}
    signals = _signals(missing)
    plugins = missing[0].plugins if missing else ()

    def job(**values: Any) -> Job:
        return Job(results=results, threads=threads, plugins=plugins, **values)

    jobs = [
        job(
            id=key,
            title=f"train teacher · {spec.full_task}"
            + (f" · for {spec.objective.method}" if spec.objective else ""),
            work=spec,
            total=0
            if spec.preset_values["frozen_teacher"]
            else int(spec.preset_values["teacher_recipe"]["epochs"]),
        )
        for key, spec in teachers.items()
    ]
    jobs += [
        job(id=spec.id, title=f"run teacher · {_where(spec.cells[0])}", work=spec, needs=(key,))
        for key, spec in signals
    ]
    generators = {cell.generator.id: cell.generator for cell in missing if cell.generator}
    jobs += [
        job(
            id=key,
            title=f"train generator · {made.task}",
            work=made,
            needs=(made.judge.key,),
            total=int((made.preset_values["generator_recipe"] or {"epochs": 0})["epochs"]),
        )
        for key, made in generators.items()
    ]
    filled = {cell.key: spec.id for _, spec in signals for cell in spec.cells}
    for cell in missing:
        needs = [cell.teacher.key] if cell.teacher else []
        needs += [filled[cell.key]] if cell.key in filled else []
        needs += [cell.generator.id] if cell.generator else []
        epochs = int(cell.preset_values["recipe"]["epochs"])
        jobs.append(
            job(
                id=cell.key,
                title=cell.title,
                work=cell,
                needs=tuple(needs),
                total=epochs,
                micro_batches=micro_batches,
            )
        )
    return jobs


def _signals(cells: Sequence[Cell]) -> list[tuple[str, SignalsSpec]]:
    """Group cells by teacher and views: the signals of each group are cached in one pass.

    Views differ between seeds only where samples are augmented.
    """
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in cells:
        if cell.teacher and cell.uses_signals and cell.signals == "auto":
            seed = cell.seed if cell.task_info["augmented"] else -1
            # one teacher of the whole set may serve several parts of it
            groups.setdefault((cell.teacher.key, cell.variant.part, seed), []).append(cell)
    return [(key, SignalsSpec(tuple(group))) for (key, _, _), group in groups.items()]


def _where(cell: Cell) -> str:
    seed = f" · seed {cell.seed}" if cell.task_info["augmented"] else ""
    return f"{cell.full_task}{seed}"


def _spare_newer(paths: Iterable[Path]) -> None:
    """Refuse to write over a record of a newer version of the suite.

    Raises:
        BenchError: naming the first such file of ``paths``.
    """
    for path in paths:
        schema = read_object(path).get("schema")
        if type(schema) is int and schema > SCHEMA:
            raise BenchError(
                f"'{path}' is of a newer version of the suite (record schema {schema}, this one "
                f"writes {SCHEMA})",
                "update the suite, or use --results",
            )


def run_plan(
    plan: Plan,
    *,
    results: Path,
    workers: int,
    threads: int,
    progress: Progress,
    policy: Policy = Policy(),
    executor: Executor | None = None,
    micro_batches: int = 1,
) -> Summary:
    """Run what is missing of ``plan`` and return a summary.

    Jobs run in up to ``workers`` processes on this machine, or wherever ``executor`` runs them; it
    is stopped at the end.  Batches of cells are cut into ``micro_batches`` parts from the start,
    and into more when memory runs out.

    When a job fails, the cells that need it fail too, with records that say so; the rest goes on.

    Raises:
        BenchError: when nothing more can be written.
    """
    remove_leftovers(results)
    # looked at before the records are read: one that another runner writes from now on is noticed
    marks = {cell.key: mark(cell_path(results, cell)) for cell in plan.cells}
    there = earlier(results)
    kept = {key for key, record in there.items() if not runs_again(record, policy.retry)}
    _spare_newer([cell_path(results, cell) for cell in plan.cells if cell.key not in kept])
    jobs = jobs_for(plan, kept, results=results, threads=threads, micro_batches=micro_batches)
    wanted = {cell.key for cell in plan.cells}
    summary = Summary(
        reused=sum(there[key]["status"] in ("ok", "skipped") for key in kept & wanted),
        kept=Counter(
            there[key]["status"]
            for key in sorted(kept & wanted)
            if there[key]["status"] not in ("ok", "skipped")
        ),
    )
    executor = executor or LocalExecutor(workers)
    return _run(jobs, summary, results, executor, workers, progress, policy, marks)


def measure_plan(
    plan: Plan,
    *,
    results: Path,
    threads: int,
    progress: Progress,
    policy: Policy = Policy(),
    live: bool = True,
) -> Summary:
    """Measure the cost of every method of ``plan``, one process at a time on a quiet machine.

    A method with a teacher is measured twice: with cached signals and, where ``live``, with the
    teacher live.
    """
    specs = cost_specs(plan, live=live)
    # looked at before the records are read, as for cells
    marks = {spec.key: mark(cost_path(results, spec, threads)) for spec in specs}
    missing = [spec for spec in specs if not measured(spec, results, threads)]
    cells = [spec.cell for spec in missing]
    shared = jobs_for(Plan(cells), set(), results=results, threads=threads)
    jobs = [job for job in shared if not isinstance(job.work, Cell)]
    jobs += [
        Job(
            id=spec.key,
            title=f"cost · {spec.cell.label} · {spec.cell.full_task} · teacher {spec.mode}",
            work=spec,
            results=results,
            threads=threads,
            needs=next(job.needs for job in shared if job.id == spec.cell.key),
            plugins=spec.cell.plugins,
        )
        for spec in missing
    ]
    summary = Summary(reused=len(specs) - len(missing))
    return _run(jobs, summary, results, LocalExecutor(1), 1, progress, policy, marks)


def measured(spec: CostSpec, results: Path, threads: int) -> bool:
    """Return whether the cost of ``spec`` is recorded for this machine and number of threads.

    A failed measurement does not count: trying again takes seconds.
    """
    try:
        record = read_record(cost_path(results, spec, threads))
    except BenchError:
        return False
    unlike = spec.mode == "cached" and record.get("teacher_served") == "live"
    if unlike and record.get("cache_bytes") != spec.cell.cache_bytes:
        return False  # with another limit the signals may fit
    return not runs_again(record, frozenset(BROKEN))


def cost_specs(plan: Plan, *, live: bool = True) -> list[CostSpec]:
    """Return the costs to measure: the first seed of what the loop trains, and the teacher."""
    specs: dict[str, CostSpec] = {}
    first: dict[tuple[str, str], int] = {}
    for cell in plan.cells:
        if not (cell.trained or cell.method == TEACHER):
            continue  # a linear model, BM25
        if cell.seed != first.setdefault((cell.full_task, cell.label), cell.seed):
            continue
        modes = ["live"] if cell.cache_bytes == 0 else ["auto", "live"] if live else ["auto"]
        for signals in modes if cell.uses_signals else ["auto"]:
            spec = CostSpec(replace(cell, signals=signals))
            specs.setdefault(spec.key, spec)
    return list(specs.values())


def first_alike(plan: Plan) -> Plan:
    """Return the cells of one task for each family, models and recipe: the others cost the same.

    A few classes more or less in the last layer do not show in a measurement.
    """
    first: dict[str, str] = {}
    cells = []
    for cell in plan.cells:
        # how long something is trained changes no step
        values = {k: v for k, v in cell.preset_values.items() if not k.endswith("_recipe")}
        values["recipe"] = {k: v for k, v in values["recipe"].items() if k != "epochs"}
        alike = content_hash([cell.task_info["family"], values])
        if first.setdefault(alike, cell.full_task) == cell.full_task:
            cells.append(cell)
    return Plan(cells, plan.notes)


def _run(
    jobs: list[Job],
    summary: Summary,
    results: Path,
    executor: Executor,
    workers: int,
    progress: Progress,
    policy: Policy,
    marks: Mapping[str, Mark],
) -> Summary:
    with progress.started(jobs, workers=workers, reused=summary.reused):
        with interrupts() as asked, Leases(results) as leases:
            driver = Driver(jobs, executor, leases, progress, summary, asked, marks)
            try:
                driver.run(policy.cell_timeout)
            except KeyboardInterrupt:
                summary.interrupted = True
            finally:
                executor.stop()
    return summary
