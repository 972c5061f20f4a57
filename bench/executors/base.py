"""The contract of an executor: it runs jobs and reports their progress and outcomes.

The runner decides what runs, when, for how long and what is written about it; an executor only
carries it out, with one process per job, here or elsewhere.  It need not know what a job does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from bench.executors.worker import Job


@dataclass(frozen=True)
class Event:
    """A message of a job.

    Attributes:
        job: its sender.
        kind: "begun" (it runs now, and its time counts), "epoch" (``value`` is an entry of the
            history), "note" (``value["text"]`` is for the user) or "done" (``value`` is the
            outcome: see :func:`bench.executors.worker.run_job`).
        value: its content.
    """

    job: Job
    kind: str
    value: dict[str, Any]


class Executor(Protocol):
    """Runs jobs, each in a process of its own."""

    def accepts(self, job: Job) -> bool:
        """Return whether ``job`` can be submitted now and would start at once or soon."""
        ...

    @property
    def running(self) -> list[Job]:
        """The jobs that were submitted and are not done."""
        ...

    def submit(self, job: Job) -> None:
        """Start ``job``, whose needs are met."""
        ...

    def events(self, timeout: float) -> Iterator[Event]:
        """Yield the messages of running jobs, waiting up to ``timeout`` seconds for the first.

        Every job that was submitted and not cancelled yields one "done", even if its process died
        silently.  A job that was lost with its worker or node, through no fault of its own, yields
        "done" with the status "lost": the runner submits it again, a few times.
        """
        ...

    def interrupt(self) -> None:
        """Ask all running jobs to stop at their next checkpoint; they still yield "done"."""
        ...

    def cancel(self, job: Job) -> None:
        """End ``job`` now, without further messages."""
        ...

    def stop(self) -> None:
        """End all jobs now."""
        ...
