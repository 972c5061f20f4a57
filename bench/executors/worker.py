"""What a worker process does: one job, its progress sent through a pipe."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cells import Cell, GeneratorSpec, TeacherSpec

if TYPE_CHECKING:
    from bench.measure.cost import CostSpec
    from bench.teachers.serve import SignalsSpec


@dataclass(frozen=True)
class Job:
    """One thing to do in a process of its own.

    Attributes:
        id: unique in a run.
        title: shown in progress.
        work: a teacher or generator to train, signals to cache, a cell to run or to measure.
        needs: ids of jobs that must have succeeded before.
        results: where records go.
        threads: processor threads the job may use.
        plugins: imported first.
        total: epochs expected, for the progress bar; 0 when unknown.
    """

    id: str
    title: str
    work: TeacherSpec | GeneratorSpec | SignalsSpec | Cell | CostSpec
    results: Path
    threads: int
    needs: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    total: int = 0


def run_job(job: Job, pipe: Connection) -> None:
    """Entry point of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides what an interrupt means
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    torch.set_num_threads(job.threads)
    from bench.registry import load_plugins
    from bench.run_cell import failure

    def report(event: dict[str, Any]) -> None:
        try:
            pipe.send(("epoch", event))
        except (BrokenPipeError, ConnectionResetError):
            sys.exit(1)  # the runner is gone: leave the rest to the next one

    load_plugins(job.plugins)
    try:
        outcome = _do(job, report)
    except Exception as error:
        outcome = failure(error)
    try:
        pipe.send(("done", outcome))
        pipe.close()
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(1)


def _do(job: Job, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Do the job's work; returns its status, error and what progress shows of it."""
    from bench.generators.train import ensure_generator
    from bench.measure.cost import CostSpec, measure_cost
    from bench.run_cell import run_cell
    from bench.teachers.serve import SignalsSpec, fill_signals
    from bench.teachers.train import ensure_teacher

    work = job.work
    if isinstance(work, Cell):
        record = run_cell(work, job.results, report)
        if record["status"] != "ok":
            return _without_result(record)
        metric = work.task_info["metric"]
        shown = f"{metric} {record['metrics']['best']['test'][metric]:.4f}"
    elif isinstance(work, SignalsSpec):
        shown = f"served {fill_signals(work, report)['served']}"
    elif isinstance(work, GeneratorSpec):
        kept = ensure_generator(work, report)["judged"]["kept"]
        shown = f"the teacher keeps {kept:.0%} of its accuracy on reconstructions"
    elif isinstance(work, CostSpec):
        cost = measure_cost(work, job.results)
        if cost["status"] != "ok":
            return _without_result(cost)
        shown = f"{cost['training']['step']['samples_per_s']:.0f} samples/s"
    else:
        name, value = next(iter(ensure_teacher(work, report)["test"].items()))
        shown = f"{name} {value:.4f}"
    return {"status": "ok", "error": None, "shown": shown}


def _without_result(record: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome of a failed record; one that was skipped for a reason is no failure."""
    if record["status"] == "skipped":
        shown = f"skipped: {record['error']['message']}"
        return {"status": "ok", "error": None, "shown": shown}
    return {"status": record["status"], "error": record["error"]}
