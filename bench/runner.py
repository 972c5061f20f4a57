"""Runs a plan: teachers first, then cells, each in its own process; only what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.cells import Cell
from bench.executors.local import Event, LocalExecutor
from bench.executors.worker import Job
from bench.plan import Plan
from bench.progress import Progress
from bench.store import read_records, write_record


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
    """Return the keys of cells with a successful record below ``results``."""
    records, _ = read_records(results)
    return {record["key"] for record in records if record["status"] == "ok"}


def jobs_for(plan: Plan, done: set[str], *, results: Path, threads: int) -> list[Job]:
    """Return the jobs that are left to do, teachers before the cells that need them."""
    missing = [cell for cell in plan.cells if cell.key not in done]
    teachers = {cell.teacher.key: cell.teacher for cell in missing if cell.teacher}
    jobs = [
        Job(
            id=key,
            title=f"train teacher · {spec.task}",
            work=spec,
            results=results,
            threads=threads,
            plugins=missing[0].plugins,
            total=_epochs(spec.preset_values, "teacher_recipe", spec.preset_values),
        )
        for key, spec in teachers.items()
    ]
    jobs += [
        Job(
            id=cell.key,
            title=cell.title,
            work=cell,
            results=results,
            threads=threads,
            needs=(cell.teacher.key,) if cell.teacher else (),
            plugins=cell.plugins,
            total=_epochs(cell.preset_values, "recipe", {}),
        )
        for cell in missing
    ]
    return jobs


def _epochs(preset: Any, recipe: str, values: Any) -> int:
    return 0 if values.get("frozen_teacher") else int(preset[recipe]["epochs"])


def run_plan(
    plan: Plan, *, results: Path, workers: int, threads: int, progress: Progress
) -> Summary:
    """Run what is missing of ``plan`` and return how it went.

    A job that fails costs itself and the cells that need it, each of which gets its own failed
    record; the rest goes on.
    """
    jobs = jobs_for(plan, finished_keys(results), results=results, threads=threads)
    cells = sum(isinstance(job.work, Cell) for job in jobs)
    summary = Summary(reused=len(plan.cells) - cells)
    with progress.started(jobs, workers=workers, reused=summary.reused):
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
            _record_death(job, {**cause, "message": f"its teacher failed: {cause['message']}"})
            _count(job, {"status": "failed", "error": cause}, summary, progress)
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
    if outcome["status"] == "ok":
        summary.done += isinstance(job.work, Cell)
    else:
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
