"""Jobs on this machine: one process each, a few at a time."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from bench.executors.worker import Job, run_job


@dataclass(frozen=True)
class Event:
    """Something a job said: ``kind`` is "epoch" or "done"."""

    job: Job
    kind: str
    value: dict[str, Any]


class LocalExecutor:
    """Runs up to ``workers`` jobs at once in processes forked from a preloaded server."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["bench.executors.preload"])
        self._running: dict[multiprocessing.connection.Connection, tuple[Job, BaseProcess]] = {}

    @property
    def free(self) -> int:
        """Return how many more jobs can start now."""
        return self.workers - len(self._running)

    @property
    def running(self) -> list[Job]:
        """Return the jobs that have started and not ended."""
        return [job for job, _ in self._running.values()]

    def submit(self, job: Job) -> None:
        """Start ``job`` in a process of its own."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=run_job, args=(job, sender), daemon=True)
        process.start()
        sender.close()
        self._running[receiver] = (job, process)

    def events(self, timeout: float) -> Iterator[Event]:
        """Yield what running jobs say, waiting up to ``timeout`` seconds for the first.

        A process that ends without its last word (killed, out of memory) yields a "done" event
        whose error says so.
        """
        ready = multiprocessing.connection.wait(list(self._running), timeout)
        for pipe in ready:
            assert isinstance(pipe, multiprocessing.connection.Connection)
            job, process = self._running[pipe]
            try:
                kind, value = pipe.recv()
            except (EOFError, OSError):
                process.join()
                kind, value = "done", {"status": "died", "error": _death(process.exitcode)}
            if kind == "done":
                del self._running[pipe]
                pipe.close()
                process.join(timeout=30)
            yield Event(job, kind, value)

    def stop(self) -> list[Job]:
        """End all running processes; returns their jobs."""
        stopped = self.running
        for _, process in self._running.values():
            process.terminate()
        for pipe, (_, process) in self._running.items():
            process.join(timeout=10)
            pipe.close()
        self._running.clear()
        return stopped


def _death(exit_code: int | None) -> dict[str, str]:
    import signal

    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = "the kernel kills so when memory runs out" if name == "SIGKILL" else ""
        message = f"the process was ended by {name}"
    else:
        message, hint = f"the process ended early with exit code {exit_code}", ""
    return {"class": "ProcessDied", "message": message, "hint": hint, "traceback": ""}
