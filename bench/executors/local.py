"""Jobs on this machine: one process each, a few at a time."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from bench.executors.base import Event
from bench.executors.worker import Job, run_job
from bench.failures import ended, killed, oom_kills

__all__ = ["Event", "LocalExecutor"]
VISIBLE = "CUDA_VISIBLE_DEVICES"
LEAVING = 5.0  # seconds that a process may take to end after its last word


class LocalExecutor:
    """Runs up to ``workers`` jobs at once in processes forked from a preloaded server.

    Args:
        workers: jobs at once.
        devices: values of ``CUDA_VISIBLE_DEVICES``, of which each job gets one and so sees one
            device only.  Jobs are spread evenly: no device has two while another has none.
    """

    def __init__(self, workers: int, devices: Sequence[str] = ()) -> None:
        self.workers, self.devices = workers, tuple(devices)
        self._on: dict[str, str] = {}  # device by job
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["bench.executors.preload"])
        self._running: dict[Connection, tuple[Job, BaseProcess]] = {}
        self._oom_kills = oom_kills()

    def accepts(self, job: Job) -> bool:
        """Return whether one more job can start now."""
        return len(self._running) < self.workers

    @property
    def running(self) -> list[Job]:
        """Return the jobs that have started and not ended."""
        return [job for job, _ in self._running.values()]

    def submit(self, job: Job, variables: Mapping[str, str] | None = None) -> None:
        """Start ``job`` in a process of its own, with ``variables`` in its environment."""
        receiver, sender = self._context.Pipe(duplex=False)
        wanted = {**(variables or {}), **self._device_for(job)}
        process = self._context.Process(target=run_job, args=(job, sender, wanted), daemon=True)
        # the first start starts the server too, which ignores interrupts only once it is up
        with _interrupts_held():
            process.start()
        sender.close()
        self._running[receiver] = (job, process)

    def events(self, timeout: float) -> Iterator[Event]:
        """Yield the messages of running jobs, waiting up to ``timeout`` seconds for the first.

        A process that ends without reporting (killed, out of memory) yields a "done" event whose
        error says so.
        """
        for pipe in multiprocessing.connection.wait(list(self._running), timeout):
            assert isinstance(pipe, Connection)
            if pipe not in self._running:  # cancelled since
                continue
            job, process = self._running[pipe]
            try:
                kind, value = pipe.recv()
            except Exception:  # closed, or a message cut off where its writer was killed
                _end(process)
                kind, value = "done", self._death(process.exitcode)
            if kind == "done":
                self._forget(pipe)
                _end(process)
            yield Event(job, kind, value)

    def interrupt(self) -> None:
        """Ask all running jobs to stop at their next checkpoint."""
        for _, process in self._running.values():
            process.terminate()

    def cancel(self, job: Job) -> None:
        """End ``job`` now, without further messages."""
        for pipe, (running, process) in list(self._running.items()):
            if running.id == job.id:
                self._forget(pipe)
                process.kill()
                process.join(timeout=10)

    def stop(self) -> None:
        """End all running processes."""
        for job in self.running:
            self.cancel(job)

    def _device_for(self, job: Job) -> dict[str, str]:
        """Give ``job`` the device with the fewest jobs; return the variable that shows it alone."""
        if not self.devices:
            return {}
        taken = list(self._on.values())
        self._on[job.id] = min(self.devices, key=taken.count)
        return {VISIBLE: self._on[job.id]}

    def _forget(self, pipe: Connection) -> None:
        job, _ = self._running.pop(pipe)
        self._on.pop(job.id, None)
        pipe.close()

    def _death(self, exit_code: int | None) -> dict[str, Any]:
        if exit_code is None or exit_code >= 0:
            message = f"the process ended early with exit code {exit_code}"
            return ended("failed", "ProcessDied", message)
        before, self._oom_kills = self._oom_kills, oom_kills()
        by_kernel = (self._oom_kills or 0) > (before or 0) and exit_code == -signal.SIGKILL
        return killed(_signal_name(-exit_code), by_kernel=by_kernel)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block SIGINT in this thread for the ``with`` body, and in the processes it starts."""
    multiprocessing.resource_tracker.ensure_running()  # its start would let them through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: BaseProcess) -> None:
    """Wait for a process that has reported its end; kill it if it does not exit.

    A plug-in's thread may keep it alive, and this program could not exit before it.
    """
    process.join(timeout=LEAVING)
    if process.is_alive():
        process.kill()
        process.join()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
