"""What a worker process does: one job, its progress sent through a pipe."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import stopping
from bench.cells import Cell, GeneratorSpec, SignalsSpec, TeacherSpec
from bench.failures import failure, storage_problem

if TYPE_CHECKING:
    from bench.executors.survey import Survey
    from bench.measure.cost import CostSpec


@dataclass(frozen=True)
class Job:
    """One piece of work for a process of its own.

    Attributes:
        id: unique in a run.
        title: shown in progress.
        work: a teacher or generator to train, signals to cache, a cell to run or to measure, or a
            survey of what would run cells here.
        needs: ids of jobs that must have succeeded before.
        results: where records go.
        threads: processor threads the job may use.
        plugins: imported first.
        total: epochs expected, for the progress bar; 0 when unknown.
        micro_batches: number of parts each batch is cut into; raised when memory ran out.
        lost: how each earlier attempt was lost with its worker or node.
    """

    id: str
    title: str
    work: TeacherSpec | GeneratorSpec | SignalsSpec | Cell | CostSpec | Survey
    results: Path
    threads: int
    needs: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    total: int = 0
    micro_batches: int = 1
    lost: tuple[str, ...] = ()


def run_job(job: Job, pipe: Connection, variables: Mapping[str, str] | None = None) -> None:
    """Do ``job`` and report through ``pipe``: the entry point of a worker process.

    ``variables`` are put into the environment first, before anything reads it.

    The messages are those of :class:`bench.executors.base.Event`.  The outcome comes last, with
    ``status`` (a record's, or "stopped" at a checkpoint when asked to, or "storage" when nothing
    more can be written), ``error``, ``shown`` for progress, and ``written``: whether the record
    has been written, which the runner does if not.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides what an interrupt means
    signal.signal(signal.SIGTERM, lambda *_: stopping.ask())
    _end_with_the_runner()
    _be_killed_first()
    os.environ.update(variables or {})
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    say = _Voice(pipe)
    say("begun", {})
    try:
        import torch

        torch.set_num_threads(job.threads)
        from bench.registry import load_plugins

        for problem in load_plugins(job.plugins).values():
            say("note", {"text": problem})
        outcome = _do(job, lambda entry: say("epoch", entry))
    except stopping.Stopped:
        outcome = {"status": "stopped", "error": None}
    except (Exception, SystemExit) as error:  # a plug-in may try to leave
        full = storage_problem(error)
        outcome = {**failure(error), **({"status": "storage", "shown": full} if full else {})}
    say("done", outcome)


class _Voice(logging.Handler):
    """Sends messages through a pipe, and as notes what the suite logs."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(logging.WARNING)
        self._pipe = pipe
        logging.getLogger("bench").addHandler(self)

    def __call__(self, kind: str, value: dict[str, Any]) -> None:
        self.acquire()  # a message must not cut into another thread's
        try:
            self._pipe.send((kind, value))
        except (BrokenPipeError, ConnectionResetError):
            os._exit(1)  # the runner is gone: leave the rest to the next one
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        self("note", {"text": record.getMessage()})


def _end_with_the_runner() -> None:
    """End this process as soon as the runner is gone, whatever it is doing."""
    runner = multiprocessing.parent_process()
    if runner is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([runner.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _be_killed_first() -> None:
    """Have the kernel kill this process rather than the runner when memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _do(job: Job, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Do the job's work and return its outcome."""
    from bench.executors.survey import Survey, survey
    from bench.generators.train import ensure_generator
    from bench.measure.cost import CostSpec, measure_cost
    from bench.run_cell import run_cell
    from bench.teachers.serve import fill_signals
    from bench.teachers.train import ensure_teacher

    work = job.work
    if isinstance(work, Cell):
        if work.generator is not None:  # it is there, but on a node that shares no cache folder
            ensure_generator(work.generator)
        record = run_cell(work, job.results, report, micro_batches=job.micro_batches, lost=job.lost)
        metric = work.task_info["metric"]
        return _told(record, lambda: f"{metric} {record['metrics']['best']['test'][metric]:.4f}")
    if isinstance(work, CostSpec):
        cost = measure_cost(work, job.results)
        return _told(cost, lambda: _rate(cost))
    if isinstance(work, Survey):
        found = survey(work, job.plugins)
        return {"status": "ok", "error": None, "shown": "", "found": found}
    if isinstance(work, SignalsSpec):
        found = fill_signals(work, report, micro_batches=job.micro_batches)
        shown = f"served {found['served']}"
    elif isinstance(work, GeneratorSpec):
        kept = ensure_generator(work, report, micro_batches=job.micro_batches)["judged"]["kept"]
        shown = f"the teacher keeps {kept:.0%} of its accuracy on reconstructions"
    else:
        manifest = ensure_teacher(work, report, micro_batches=job.micro_batches)
        name, value = next(iter(manifest["test"].items()))
        shown = f"{name} {value:.4f}"
    return {"status": "ok", "error": None, "shown": shown}


def _rate(cost: dict[str, Any]) -> str:
    """Return in words how fast training is, or serving what is not trained."""
    if cost["training"]:
        return f"{cost['training']['step']['samples_per_s']:.0f} samples/s"
    return f"{cost['inference']['throughput']['samples_per_s']:.0f} samples/s served"


def _told(record: dict[str, Any], shown: Callable[[], str]) -> dict[str, Any]:
    """Return the outcome of a record that was written."""
    status, error = record["status"], record["error"]
    outcome = {"status": status, "error": error, "written": True}
    return outcome | ({"shown": shown()} if status == "ok" else {})
