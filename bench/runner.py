"""Runs a plan: teachers first, then cells, each in its own process; only what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.cells import Cell
from bench.executors.local import Event, LocalExecutor
from bench.executors.worker import Job
from bench.measure.cost import CostSpec, cost_path
from bench.plan import Plan
from bench.progress import Progress
from bench.store import read_records, write_record
from bench.teachers.serve import SignalsSpec


@dataclass
class Summary:
    """How a run ended.

    Attributes:
        done: cells run now.
        reused: cells that were there already.
        failed: what failed, one line each.
        interrupted: whether the user stopped it; what was finished is kept.
    """

    done: int = 0
    reused: int = 0
    failed: list[str] = field(default_factory=list)
    interrupted: bool = False


def finished_keys(results: Path) -> set[str]:
    """Return the keys of cells that were run, or skipped for a reason that stays."""
    records, _ = read_records(results)
    return {record["key"] for record in records if record["status"] in ("ok", "skipped")}


def jobs_for(plan: Plan, done: set[str], *, results: Path, threads: int) -> list[Job]:
    """Return the jobs that are left: teachers, their signals, generators, then cells."""
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
        jobs.append(job(id=cell.key, title=cell.title, work=cell, needs=tuple(needs), total=epochs))
    return jobs


def _signals(cells: Sequence[Cell]) -> list[tuple[str, SignalsSpec]]:
    """Group the methods' cells by teacher and views: each group's signals are filled in one pass.

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


def run_plan(
    plan: Plan, *, results: Path, workers: int, threads: int, progress: Progress
) -> Summary:
    """Run what is missing of ``plan`` and return how it went.

    A job that fails costs itself and the cells that need it, each of which gets its own failed
    record; the rest goes on.
    """
    jobs = jobs_for(plan, finished_keys(results), results=results, threads=threads)
    cells = sum(isinstance(job.work, Cell) for job in jobs)
    return _run(jobs, len(plan.cells) - cells, workers, progress)


def measure_plan(plan: Plan, *, results: Path, threads: int, progress: Progress) -> Summary:
    """Measure the cost of every method of ``plan``, one process at a time on a quiet machine.

    A method with a teacher is measured twice: with cached signals and with the teacher live.
    """
    specs = cost_specs(plan)
    missing = [spec for spec in specs if not cost_path(results, spec).is_file()]
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
    return _run(jobs, len(specs) - len(missing), 1, progress)


def cost_specs(plan: Plan) -> list[CostSpec]:
    """Return what there is to measure: the first seed of every method that the loop trains."""
    specs: dict[str, CostSpec] = {}
    for cell in plan.cells:
        if not cell.trained or cell.seed != plan.cells[0].seed:
            continue
        for signals in ("auto", "live") if cell.uses_signals else ("auto",):
            spec = CostSpec(replace(cell, signals=signals))
            specs.setdefault(spec.key, spec)
    return list(specs.values())


def _run(jobs: Sequence[Job], reused: int, workers: int, progress: Progress) -> Summary:
    summary = Summary(reused=reused)
    with progress.started(jobs, workers=workers, reused=reused):
        executor = LocalExecutor(workers)
        try:
            _drive(executor, jobs, summary, progress)
        except KeyboardInterrupt:
            executor.stop()
            summary.interrupted = True
    return summary


def _drive(
    executor: LocalExecutor, jobs: Sequence[Job], summary: Summary, progress: Progress
) -> None:
    waiting = list(jobs)
    # a job whose need is not among the jobs has it satisfied already
    pending = {job.id for job in jobs}
    broken: dict[str, dict[str, Any]] = {}
    while waiting or executor.running:
        for job in [job for job in waiting if any(need in broken for need in job.needs)]:
            waiting.remove(job)
            cause = next(broken[need] for need in job.needs if need in broken)
            error = {**cause, "message": f"what it needs failed: {cause['message']}"}
            _record_death(job, error)
            _count(job, {"status": "failed", "error": error}, summary, progress)
        ready = [job for job in waiting if not any(need in pending for need in job.needs)]
        for job in ready[: executor.free]:
            waiting.remove(job)
            executor.submit(job)
            progress.job_started(job)
        for event in executor.events(timeout=1.0):
            if event.kind == "epoch":
                progress.epoch(event.job, event.value)
                continue
            pending.discard(event.job.id)
            _finish(event, summary, progress, broken)
        progress.tick()


def _finish(
    event: Event, summary: Summary, progress: Progress, broken: dict[str, dict[str, Any]]
) -> None:
    outcome = event.value
    if outcome["status"] == "died":
        outcome = {"status": "failed", "error": outcome["error"]}
        _record_death(event.job, outcome["error"])
    if outcome["status"] != "ok" and not isinstance(event.job.work, Cell):
        broken[event.job.id] = outcome["error"]
    _count(event.job, outcome, summary, progress)


def _count(job: Job, outcome: dict[str, Any], summary: Summary, progress: Progress) -> None:
    wanted = isinstance(job.work, Cell | CostSpec)
    if outcome["status"] == "ok":
        summary.done += wanted
    elif wanted:
        error = outcome["error"]
        summary.failed.append(f"{job.title}: {error['class']}: {error['message']}")
    progress.job_done(job, outcome)


def _record_death(job: Job, error: dict[str, Any]) -> None:
    """Write the failed record of a cell whose process could not."""
    if not isinstance(job.work, Cell):
        return
    from bench.run_cell import skeleton

    now = datetime.now(UTC)
    record = skeleton(job.work, now)
    record["error"] = json.loads(json.dumps(error))
    write_record(job.results, record)
