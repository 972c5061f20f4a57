"""The contract of an executor: it is handed jobs, and says of each how it goes and how it ended.

The runner decides what runs, when, for how long and what is written of it; an executor only
carries it out, in a process a job, here or elsewhere.  It need not know what a job does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from bench.executors.worker import Job


@dataclass(frozen=True)
class Event:
    """Something a job said.

    Attributes:
        job: who said it.
        kind: "begun" (it runs now, and its time counts), "epoch" (``value`` is an entry of the
            history), "note" (``value["text"]`` is for the user) or "done" (``value`` is the
            outcome: see :func:`bench.executors.worker.run_job`).
        value: what it said.
    """

    job: Job
    kind: str
    value: dict[str, Any]


class Executor(Protocol):
    """Runs jobs, each in a process of its own."""

    def accepts(self, job: Job) -> bool:
        """Return whether ``job`` can be submitted now: it would start at once or soon."""
        ...

    @property
    def running(self) -> list[Job]:
        """The jobs that were submitted and are not done."""
        ...

    def submit(self, job: Job) -> None:
        """Start ``job``, whose needs are met."""
        ...

    def events(self, timeout: float) -> Iterator[Event]:
        """Yield what running jobs say, waiting up to ``timeout`` seconds for the first.

        Every job that was submitted and not cancelled yields one "done", also when its process
        died without a word.  A job that went down with its worker or node through no fault of its
        own yields "done" with the status "lost": the runner submits it again, a few times.
        """
        ...

    def interrupt(self) -> None:
        """Ask all running jobs to stop at their next checkpoint; they still yield "done"."""
        ...

    def cancel(self, job: Job) -> None:
        """End ``job`` now; nothing more is heard of it."""
        ...

    def stop(self) -> None:
        """End all jobs now."""
        ...
