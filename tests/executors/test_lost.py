"""Jobs that go down with their worker: tried again a few times, and their records say so.

Those whose process was only asked to stop go on from where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench.drive import MOST_LOST
from bench.executors.base import Event
from bench.executors.local import LocalExecutor
from bench.executors.worker import Job
from bench.failures import ended
from bench.store import read_records

from .conftest import Tiny


class Unlucky(LocalExecutor):
    """Lose jobs whose title begins with ``doomed``, each this many times."""

    def __init__(self, doomed: str, times: int) -> None:
        super().__init__(1)
        self.doomed, self.times = doomed, times
        self.attempts: Counter[str] = Counter()

    def events(self, timeout: float) -> Iterator[Event]:
        for event in super().events(timeout):
            yield event
            job = event.job
            if event.kind != "begun":
                continue
            self.attempts[job.id] += 1
            if job.title.startswith(self.doomed) and self.attempts[job.id] <= self.times:
                self.cancel(job)
                yield Event(job, "done", ended("lost", "NodeLost", "its node was lost"))


def test_a_lost_cell_is_tried_again_and_says_so(tiny: Tiny) -> None:
    summary, said = tiny.run(tiny.plan("waiting", "scratch"), "far", Unlucky("waiting", MOST_LOST))
    assert (summary.done, summary.failed) == (2, []), said
    found, _ = read_records(tiny.base / "far")
    lost = {record["cell"]["method"]: record.get("lost_attempts") for record in found}
    assert lost == {"waiting": ["its node was lost"] * MOST_LOST, "scratch": None}
    assert f"its node was lost; retry {MOST_LOST} of {MOST_LOST}" in said


@pytest.mark.parametrize("doomed", ["kd", "train teacher"])
def test_what_is_lost_every_time_fails_and_the_rest_goes_on(doomed: str, tiny: Tiny) -> None:
    unlucky = Unlucky(doomed, MOST_LOST + 9)
    summary, said = tiny.run(tiny.plan("kd", "scratch"), "far", unlucky)
    assert summary.done == 1 and len(summary.failed) == 1, said
    assert max(unlucky.attempts.values()) == MOST_LOST + 1
    found, _ = read_records(tiny.base / "far")
    (failed,) = (record for record in found if record["status"] != "ok")
    assert (failed["status"], failed["error"]["class"]) == ("failed", "NodeLost")
    assert failed["cell"]["method"] == "kd"
    assert len(failed.get("lost_attempts", [])) == (MOST_LOST + 1 if doomed == "kd" else 0)


class Meddled(LocalExecutor):
    """Ask each job of that title to stop when it first begins, behind the runner's back."""

    def __init__(self, title: str, cache: Path) -> None:
        super().__init__(1)
        self.title, self.cache = title, cache
        self.attempts: Counter[str] = Counter()

    def submit(self, job: Job, variables: Mapping[str, str] | None = None) -> None:
        super().submit(job, {"BENCH_CACHE": str(self.cache)})  # where nothing is done yet

    def events(self, timeout: float) -> Iterator[Event]:
        for event in super().events(timeout):
            if event.kind == "begun" and event.job.title.startswith(self.title):
                self.attempts[event.job.id] += 1
                if self.attempts[event.job.id] == 1:
                    self.interrupt()
            yield event


@pytest.mark.parametrize("title", ["scratch", "run teacher"])
def test_what_somebody_else_stops_goes_on_in_another_process(title: str, tiny: Tiny) -> None:
    meddled = Meddled(title, tiny.base / "cache")
    summary, said = tiny.run(tiny.plan("kd", "scratch"), "far", meddled)
    assert (summary.done, summary.failed, summary.interrupted) == (2, [], False), said
    assert list(meddled.attempts.values()) == [2]
    assert said.count("its process was asked to stop; resumed in another") == 1
