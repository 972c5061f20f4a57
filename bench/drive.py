"""Drives the jobs of a run to completion: order, leases, limits, retries, records."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.cells import Cell, GeneratorSpec, TeacherSpec
from bench.errors import BenchError
from bench.executors.base import Event, Executor
from bench.executors.worker import Job
from bench.failures import ended, lacked_package
from bench.interrupts import Asked
from bench.leases import Leases
from bench.measure.cost import CostSpec, cost_path
from bench.progress import Progress
from bench.store import read_record, record_path, write_record

MOST_MICRO_BATCHES = 16
MOST_LOST = 3  # attempts that may go down with a worker or node before the job counts as failed
Mark = tuple[int, ...] | None
Outcome = dict[str, Any]


@dataclass
class Summary:
    """How a run ended.

    Attributes:
        done: cells run now, including those that turned out not to apply.
        reused: cells that were already there.
        elsewhere: cells that another runner ran meanwhile.
        kept: cells without a result that were not run again, by status.
        failed: what failed, one line each.
        interrupted: whether the user stopped it; finished work is kept.
    """

    done: int = 0
    reused: int = 0
    elsewhere: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    interrupted: bool = False


def mark(path: Path) -> Mark:
    """Return a value that changes when a file is replaced; ``None`` when there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def cell_path(results: Path, cell: Cell) -> Path:
    """Return where the record of ``cell`` belongs."""
    return record_path(results, {"cell": cell.described(), "key": cell.key})


class Driver:
    """One run: hands jobs to an executor and deals with what comes back.

    Args:
        jobs: in the order they should start.
        executor: where they run.
        leases: keep other runners away from what runs here.
        progress: told what happens.
        summary: filled in.
        asked: true once the user has asked to stop.
        marks: by key, those of the record files from before the run was planned.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        executor: Executor,
        leases: Leases,
        progress: Progress,
        summary: Summary,
        asked: Asked,
        marks: Mapping[str, Mark],
    ) -> None:
        self.waiting = list(jobs)
        self.executor, self.leases, self.progress = executor, leases, progress
        self.summary, self.asked, self.marks = summary, asked, marks
        # a job whose need is not among the jobs has it satisfied already
        self.pending = {job.id for job in jobs}
        self.broken: dict[str, Outcome] = {}
        self.begun: dict[str, float] = {}

    def run(self, cell_timeout: float | None) -> None:
        """Run all jobs to their ends or, once asked to stop, to their next checkpoints."""
        while self.waiting or self.executor.running:
            if self.asked and not self.summary.interrupted:
                self.summary.interrupted = True
                self.progress.note(
                    "stopping: running jobs stop at their next checkpoint (again: stop at once)"
                )
                self.executor.interrupt()
            if self.summary.interrupted and not self.executor.running:
                return
            if not self.summary.interrupted:
                self._give_up_dependents()
                self._start()
            for event in self.executor.events(timeout=1.0):
                self._hear(event)
            self._end_late(cell_timeout)
            self._end_lost()
            self.progress.tick()

    def _start(self) -> None:
        for job in list(self.waiting):
            if not self.executor.accepts(job) or any(need in self.pending for need in job.needs):
                continue
            if not self._ours(job):
                continue
            self.waiting.remove(job)
            self.executor.submit(job)

    def _ours(self, job: Job) -> bool:
        """Take the lease of ``job``; false when another runner runs it or has just done so."""
        if _result_path(job) is None:
            return True
        try:
            if not self.leases.acquire(_lease(job)):
                self.progress.elsewhere(job)
                return False
        except OSError as error:
            where = self.leases.folder
            raise BenchError(f"'{where}' cannot be written: {error.strerror}") from error
        outcome = self._written(job)
        if outcome is None or lacked_package(outcome):  # which may be here
            return True
        self.leases.release(_lease(job))
        self.waiting.remove(job)
        self._count(job, {**outcome, "shown": "by another runner", "elsewhere": True})
        return False

    def _written(self, job: Job) -> Outcome | None:
        """Return the outcome in a record of ``job`` written since the run was planned, if any."""
        path = _result_path(job)
        if path is None or mark(path) == self.marks.get(job.id):
            return None
        return _read_outcome(path)

    def _give_up_dependents(self) -> None:
        for job in [job for job in self.waiting if any(need in self.broken for need in job.needs)]:
            if not self._ours(job):
                continue
            self.waiting.remove(job)
            cause = next(self.broken[need] for need in job.needs if need in self.broken)
            error = {
                **cause["error"],
                "message": f"what it needs failed: {cause['error']['message']}",
            }
            self._end(job, {"status": cause["status"], "error": error})

    def _hear(self, event: Event) -> None:
        job, outcome = event.job, event.value
        if event.kind == "begun":
            self.begun[job.id] = time.monotonic()
            self.progress.job_started(job)
        elif event.kind == "epoch":
            self.progress.epoch(job, outcome)
        elif event.kind == "note":
            self.progress.note(f"{job.title}: {outcome['text']}")
        elif outcome["status"] == "storage":
            raise BenchError(
                f"{job.title}: {outcome['shown']}",
                "records written so far are complete; make room and run the same command again",
            )
        elif self.summary.interrupted and not outcome.get("written") and outcome["status"] != "ok":
            self.leases.release(_lease(job))
            self._leave(job)
        elif outcome["status"] == "stopped":
            self._take_up_again(job)
        elif outcome["status"] == "lost":
            self._retry_lost(job, outcome)
        elif outcome["status"] == "oom" and (smaller := _in_smaller_parts(job)) is not None:
            self._leave(job)
            self.progress.note(
                f"{job.title}: out of memory; retried with each batch in "
                f"{smaller.micro_batches} parts"
            )
            self.waiting.insert(0, smaller)
        else:
            self._end(job, outcome)

    def _take_up_again(self, job: Job) -> None:
        """Resume a job that somebody else stopped, or that stopped before this runner noticed."""
        self._leave(job)
        if not self.asked:
            self.progress.note(f"{job.title}: its process was asked to stop; resumed in another")
        self.waiting.insert(0, job)

    def _retry_lost(self, job: Job, outcome: Outcome) -> None:
        """Retry a job that was lost with its worker or node, a few times."""
        cause = outcome["error"]["message"]
        again = replace(job, lost=(*job.lost, cause))
        if len(again.lost) > MOST_LOST:
            self._end(again, {**outcome, "status": "failed"})
            return
        self._leave(job)
        self.progress.note(f"{job.title}: {cause}; retry {len(again.lost)} of {MOST_LOST}")
        self.waiting.insert(0, again)

    def _leave(self, job: Job) -> None:
        """Forget an unfinished attempt, whose time does not count towards the next one's."""
        self.progress.job_left(job)
        self.begun.pop(job.id, None)

    def _end_late(self, limit: float | None) -> None:
        for job in self.executor.running if limit is not None else ():
            seconds = time.monotonic() - self.begun.get(job.id, time.monotonic())
            if _result_path(job) is not None and limit is not None and seconds > limit:
                self.executor.cancel(job)
                message = f"not done within the limit of {limit:g} s"
                self._end(job, ended("timeout", "TimeLimit", message))

    def _end_lost(self) -> None:
        """Cancel jobs that another runner took over while this one was held up, and wait for it."""
        lost = self.leases.lost()
        for job in self.executor.running if lost else ():
            if _lease(job) in lost:
                self.executor.cancel(job)
                self.leases.release(_lease(job))
                self._leave(job)
                self.waiting.append(job)

    def _end(self, job: Job, outcome: Outcome) -> None:
        if outcome["status"] != "ok" and not outcome.get("written"):
            there = self._written(job)
            if there is None:
                self._write(job, outcome)
            else:  # its process ended between writing and saying so
                outcome = {**there, "shown": "its record was written before its process ended"}
        if outcome["status"] != "ok" and _result_path(job) is None:
            self.broken[job.id] = outcome
        self.leases.release(_lease(job))
        self._count(job, outcome)

    def _write(self, job: Job, outcome: Outcome) -> None:
        """Write the record of a cell whose own process could not."""
        if isinstance(job.work, Cell):
            from bench.run_cell import unfinished

            seconds = time.monotonic() - self.begun.get(job.id, time.monotonic())
            error = outcome["error"]
            status, lost = outcome["status"], job.lost
            write_record(job.results, unfinished(job.work, status, error, seconds, lost))

    def _count(self, job: Job, outcome: Outcome) -> None:
        self.pending.discard(job.id)
        if _result_path(job) is not None:
            if outcome["status"] in ("ok", "skipped"):
                self.summary.elsewhere += bool(outcome.get("elsewhere"))
                self.summary.done += not outcome.get("elsewhere")
            else:
                error = outcome["error"]
                line = f"{job.title}: {error['class']}: {error['message']}"
                self.summary.failed.append(f"{outcome['status']}: {line}")
        self.progress.job_done(job, outcome)


def _result_path(job: Job) -> Path | None:
    """Return the path of the job's record; ``None`` for a job that only prepares others."""
    if isinstance(job.work, Cell):
        return cell_path(job.results, job.work)
    if isinstance(job.work, CostSpec):
        return cost_path(job.results, job.work, job.threads)
    return None


def _lease(job: Job) -> str:
    return job.id[:32]


def _read_outcome(path: Path) -> Outcome | None:
    try:
        record = read_record(path)
    except BenchError:
        return None
    return {"status": record["status"], "error": record.get("error")}


def _in_smaller_parts(job: Job) -> Job | None:
    """Return ``job`` with batches cut into twice as many parts; ``None`` if that is impossible."""
    work, parts = job.work, job.micro_batches * 2
    if isinstance(work, CostSpec):
        return None  # what would be measured is something else
    if isinstance(work, Cell) and not work.trained:
        return None
    spec = work if isinstance(work, Cell | TeacherSpec | GeneratorSpec) else work.cells[0]
    values = spec.preset_values
    if isinstance(work, Cell):
        size = int(values["recipe"]["batch_size"])
    elif isinstance(work, TeacherSpec) and not values["frozen_teacher"]:
        size = int(values["teacher_recipe"]["batch_size"])
    elif isinstance(work, GeneratorSpec) and values["generator_recipe"]:
        size = int(values["generator_recipe"]["batch_size"])
    else:
        size = int(values["evaluation_batch"])
    # a part of one sample has no batch statistics
    fits = parts <= min(MOST_MICRO_BATCHES, size // 2)
    return replace(job, micro_batches=parts) if fits else None
