"""Jobs of a run done in this process: no libraries to load anew, and faults to put under them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from bench.executors.base import Event
from bench.executors.worker import Job, _do
from bench.failures import failure, storage_problem


def do_jobs_here(patch: pytest.MonkeyPatch) -> None:
    """Let runs of the command line in this process start no other."""
    for place in ("bench.runner.LocalExecutor", "bench.executors.local.LocalExecutor"):
        patch.setattr(place, Here)


@dataclass
class Here:
    """An executor whose jobs run in this process, one after the other: a run costs a second."""

    workers: int
    waiting: list[Event] = field(default_factory=list)

    def accepts(self, job: Job) -> bool:
        return not self.waiting

    @property
    def running(self) -> list[Job]:
        return list({event.job.id: event.job for event in self.waiting}.values())

    def submit(self, job: Job) -> None:
        def hear(kind: str, value: dict[str, Any]) -> None:
            self.waiting.append(Event(job, kind, value))

        hear("begun", {})
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda line: hear("note", {"text": line.getMessage()})  # type: ignore[method-assign]
        logging.getLogger("bench").addHandler(handler)
        try:
            outcome = _do(job, lambda entry: hear("epoch", entry))
        except Exception as error:
            full = storage_problem(error)
            outcome = {**failure(error), **({"status": "storage", "shown": full} if full else {})}
        finally:
            logging.getLogger("bench").removeHandler(handler)
        hear("done", outcome)

    def events(self, timeout: float) -> Iterator[Event]:
        while self.waiting:
            yield self.waiting.pop(0)

    def interrupt(self) -> None: ...

    def cancel(self, job: Job) -> None: ...

    def stop(self) -> None: ...
