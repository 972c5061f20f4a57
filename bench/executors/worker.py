"""What a worker process does: one job, its progress sent through a pipe."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.cells import Cell, TeacherSpec


@dataclass(frozen=True)
class Job:
    """One thing to do in a process of its own.

    Attributes:
        id: unique in a run.
        title: shown in progress.
        work: a teacher to train or a cell to run.
        needs: ids of jobs that must have succeeded before.
        results: where records go.
        threads: processor threads the job may use.
        plugins: imported first.
        total: epochs expected, for the progress bar; 0 when unknown.
    """

    id: str
    title: str
    work: TeacherSpec | Cell
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
    from bench.run_cell import failure, run_cell
    from bench.teachers.train import ensure_teacher

    def report(event: dict[str, Any]) -> None:
        try:
            pipe.send(("epoch", event))
        except (BrokenPipeError, ConnectionResetError):
            sys.exit(1)  # the runner is gone: leave the rest to the next one

    load_plugins(job.plugins)
    try:
        if isinstance(job.work, Cell):
            record = run_cell(job.work, job.results, report)
            outcome = {"status": record["status"], "error": record["error"]}
            outcome["metrics"] = record["metrics"]
        else:
            manifest = ensure_teacher(job.work, report)
            outcome = {"status": "ok", "error": None, "manifest": manifest}
    except Exception as error:
        outcome = failure(error)
    pipe.send(("done", outcome))
    pipe.close()
