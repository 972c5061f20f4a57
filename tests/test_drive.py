"""Turns of a run that a real one takes once in a long while, each event at its moment."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from bench.drive import Driver, Summary, cell_path, mark
from bench.errors import BenchError
from bench.executors.base import Event
from bench.executors.worker import Job
from bench.failures import ended, killed
from bench.interrupts import Asked
from bench.leases import Leases
from bench.plan import make_plan
from bench.progress import Progress
from bench.run_cell import unfinished
from bench.runner import jobs_for, run_plan
from bench.store import read_record, write_record
from bench.suites import Suite

Turn = list[tuple[str, dict[str, Any]] | Callable[[], object]]
BEGUN: tuple[str, dict[str, Any]] = ("begun", {})
LIMIT = 150.0  # a turn takes 100 seconds


class Scripted:
    """Runs nothing: says of the one job, turn by turn, what the test has it say."""

    def __init__(self, *turns: Turn) -> None:
        self.turns, self.seconds = list(turns), 0.0
        self.running: list[Job] = []

    def accepts(self, job: Job) -> bool:
        return not self.running

    def submit(self, job: Job) -> None:
        self.running.append(job)

    def events(self, timeout: float) -> Iterator[Event]:
        self.seconds += 100.0
        for said in self.turns.pop(0):
            if callable(said):
                said()
                continue
            (job,) = self.running
            if said[0] == "done":
                self.cancel(job)
            yield Event(job, *said)

    def cancel(self, job: Job) -> None:
        self.running.remove(job)

    def interrupt(self) -> None:
        pass

    def stop(self) -> None:
        pass


class One:
    """One cell, its job, and a run of it."""

    def __init__(self, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.results, self.monkeypatch = results, monkeypatch
        suite = Suite(methods=("scratch",), tasks=("cifar10",), seeds=(0,))
        plan = make_plan(suite, device="cpu")
        (self.cell,) = plan.cells
        self.path = cell_path(results, self.cell)
        (self.job,) = jobs_for(plan, set(), results=results, threads=1)
        self.leases = Leases(results)
        self.asked = Asked()

    def writes(self, status: str) -> Callable[[], object]:
        """Return what writes the cell's record, as its process would."""
        record = unfinished(self.cell, status, ended(status, "Error", "why")["error"])
        return lambda: write_record(self.results, record)

    def run(self, *turns: Turn) -> Summary:
        """Run the job; all turns are taken."""
        executor, summary = Scripted(*turns), Summary()
        clock = SimpleNamespace(monotonic=lambda: executor.seconds)
        self.monkeypatch.setattr("bench.drive.time", clock)
        progress = Progress(Console(file=io.StringIO()))
        marks = {self.job.id: mark(self.path)}
        with progress.started([self.job], workers=1, reused=0), self.leases:
            Driver([self.job], executor, self.leases, progress, summary, self.asked, marks).run(
                LIMIT
            )
        assert not executor.turns
        return summary


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> One:
    return One(tmp_path, monkeypatch)


STOPPED = ("done", {"status": "stopped", "error": None})
DONE = ("done", {"status": "ok", "error": None, "shown": "", "written": True})
KILLED = ("done", killed("SIGKILL", by_kernel=False))
OOM = ("done", ended("oom", "MemoryError", "too much"))


# Whose request it was.


def test_a_job_that_somebody_else_stopped_goes_on(one: One) -> None:
    summary = one.run([BEGUN, STOPPED], [BEGUN, DONE])
    assert (summary.done, summary.failed, summary.interrupted) == (1, [], False)


def test_a_job_that_heard_of_the_request_before_the_runner_is_left(one: One) -> None:
    """SIGTERM goes to a whole process group, and a worker may answer within one turn."""
    summary = one.run([BEGUN, lambda: one.asked(15, None), STOPPED])
    assert summary.interrupted and (summary.done, summary.failed) == (0, [])
    assert not one.path.exists() and not one.leases.folder.exists()


# A record that is written stands.


@pytest.mark.parametrize("turns", [[[KILLED]], [[], []]], ids=["killed", "late"])
@pytest.mark.parametrize("status", ["ok", "diverged"])
def test_a_process_that_ends_after_writing_its_record_keeps_it(
    one: One, turns: list[Turn], status: str
) -> None:
    summary = one.run([BEGUN, one.writes(status)], *turns)
    assert read_record(one.path)["status"] == status
    assert summary.done == (status == "ok")
    assert [line.partition(":")[0] for line in summary.failed] == ["diverged"] * (not summary.done)


def test_an_earlier_record_is_not_taken_for_one_of_this_run(one: One) -> None:
    one.writes("ok")()
    summary = one.run([BEGUN, KILLED])
    assert read_record(one.path)["status"] == "failed" and len(summary.failed) == 1


# The limit counts from the beginning of the attempt that runs.


def test_the_time_until_memory_ran_out_is_not_the_next_attempts(one: One) -> None:
    summary = one.run([BEGUN], [OOM], [], [BEGUN], [DONE])
    assert (summary.done, summary.failed) == (1, [])


def test_the_time_until_the_lease_was_lost_is_not_the_next_attempts(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[set[str]] = [set(), {one.job.id[:32]}]
    monkeypatch.setattr(one.leases, "lost", lambda: lost.pop(0) if lost else set())
    summary = one.run([BEGUN], [], [], [BEGUN], [DONE])
    assert (summary.done, summary.failed) == (1, [])


def test_a_record_of_a_newer_version_is_not_written_over(tmp_path: Path) -> None:
    suite = Suite(methods=("scratch", "kd"), tasks=("cifar10",), seeds=(0,))
    plan = make_plan(suite, device="cpu")
    path = cell_path(tmp_path, plan.cells[1])
    path.parent.mkdir(parents=True)
    path.write_text('{"schema": 99, "key": "of a later time"}')
    progress = Progress(Console(quiet=True))
    with pytest.raises(BenchError, match=r"newer version of the suite \(record schema 99, this"):
        run_plan(plan, results=tmp_path, workers=1, threads=1, progress=progress)
    assert path.read_text() == '{"schema": 99, "key": "of a later time"}'
