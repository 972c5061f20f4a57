"""Jobs on a Ray cluster: the same contract as on one machine, with processes on any node.

Ray schedules by what each job asks for, the runner decides what may run, and a node runs it
(:mod:`bench.executors.ray_node`).  The cluster holds no state of a run: that is the records and the
cache folder, so a driver that dies is replaced by running the same command again.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cells import Cell
from bench.data.cache import cache_dir
from bench.errors import BenchError
from bench.executors.artefacts import Parcel, accept, parcels, unpack
from bench.executors.base import Event
from bench.executors.ray_cluster import ONCE, Nodes, death, without_a_word
from bench.executors.ray_node import THREADS, Errand, Place, carry, teacher_of
from bench.executors.requests import Request, Requests
from bench.executors.survey import Survey, data_sets, survey
from bench.executors.worker import Job
from bench.failures import ended

PATIENCE = 300.0  # seconds a node may take over its first answer, which imports torch
FORGOTTEN = 30 * 24 * 3600.0  # seconds after which a mark of a driver's is nobody's


@dataclass
class _Out:
    """A job that was handed to Ray."""

    job: Job
    request: Request
    stream: Any
    node: str = ""  # where it runs, once it says so
    damaged: str = ""  # what did not arrive as it was sent


class RayExecutor:
    """Runs jobs as Ray tasks.

    Args:
        ray: the module, connected.
        cells: everything that is to be run.
        results: where records go.
        requests: what jobs ask for.
        threads: processor threads of a job.
        plugins: imported first.

    Raises:
        BenchError: naming a node that differs from this machine, and how.
    """

    def __init__(
        self,
        ray: Any,
        cells: Sequence[Cell],
        *,
        results: Path,
        requests: Requests,
        threads: int,
        plugins: Sequence[str] = (),
    ) -> None:
        requests.check(cells)
        self._ray, self._requests = ray, requests
        self._out: list[_Out] = []
        self._notes: list[Event] = []
        self._roomless: set[Request] = set()  # what was told to fit no node
        self._interrupted = False
        self._lost_on: dict[str, str] = {}  # the node an earlier attempt was lost on, by job
        self._offering = False
        self._offers: dict[str, list[Parcel]] = {}  # by teacher
        self.nodes = Nodes(ray)
        self._handed: Counter[Request] = Counter()
        self._cache, self._results = _place(cache_dir()), _place(results.resolve())
        self._survey = Job(
            "survey", "survey", Survey(data_sets(cells)), results, threads, plugins=tuple(plugins)
        )
        self._expected = survey(self._survey.work, plugins)  # type: ignore[arg-type]
        self._task = ray.remote(carry)
        try:
            self._check_nodes()
        except BaseException:
            self.stop()
            raise

    @property
    def running(self) -> list[Job]:
        """Return the jobs that Ray has: those that run and a few that wait."""
        return [out.job for out in self._out]

    def accepts(self, job: Job) -> bool:
        """Return whether ``job`` is wanted: about as many of its kind may wait as can run at once.

        So a place that becomes free is filled at once, while most of a plan stays free for other
        drivers of the same records.
        """
        request = self._requests.of(job)
        places = self.nodes.places(request)
        if not places and request not in self._roomless:
            self._roomless.add(request)
            asked = f"cpus={request.cpus:g}, gpus={request.gpus:g}, memory={request.memory:g}"
            text = f"no node has room for it ({asked}): it waits for one (--request asks for less)"
            self._notes.append(Event(job, "note", {"text": text}))
        return self._handed[request] < 2 * places + 2

    def submit(self, job: Job) -> None:
        """Hand ``job`` to Ray."""
        request = self._requests.of(job)
        errand = self._errand(job)
        options = self.nodes.options(request, self._lost_on.get(job.id))
        stream = self._task.options(**options).remote(errand)
        self._out.append(_Out(job, request, stream))
        self._handed[request] += 1

    def events(self, timeout: float) -> Iterator[Event]:
        """Yield the messages of running jobs, waiting up to ``timeout`` seconds for the first."""
        yield from self._take_notes()
        if not self._out:
            time.sleep(timeout)
            return
        streams = [out.stream for out in self._out]
        ready, _ = self._ray.wait(streams, timeout=timeout, fetch_local=False)
        if ready:
            ready, _ = self._ray.wait(
                streams, num_returns=len(streams), timeout=0, fetch_local=False
            )
        for out in [out for out in self._out if any(out.stream is stream for stream in ready)]:
            yield from self._hear(out)
        yield from self._take_notes()

    def interrupt(self) -> None:
        """Ask all jobs to stop at their next checkpoint."""
        self._interrupted = True
        for out in self._out:
            self._ray.cancel(out.stream, force=False)

    def cancel(self, job: Job) -> None:
        """End ``job`` now, without further messages."""
        for out in [out for out in self._out if out.job.id == job.id]:
            self._forget(out)
            self._ray.cancel(out.stream, force=True)

    def stop(self) -> None:
        """End all jobs and leave the cluster."""
        for job in self.running:
            self.cancel(job)
        for place in (self._cache, self._results):
            (place.path / place.token).unlink(missing_ok=True)
        self._ray.shutdown()

    def _hear(self, out: _Out) -> Iterator[Event]:
        try:
            kind, value = self._ray.get(next(out.stream))
        except StopIteration:
            kind, value = "done", without_a_word(self._interrupted)
        except Exception as error:
            kind, value = "done", death(self._ray, error, interrupted=self._interrupted)
        if kind == "on":
            out.node = value["node"]
        elif kind == "file":
            self._keep(out, value["root"], value["item"])
        elif kind in ("refused", "unshared"):
            self._forget(out)
            if self._interrupted:
                yield Event(out.job, "done", without_a_word(True))
            else:
                self._turned_away(out, kind, value)
        else:
            if kind == "done":
                self._forget(out)
                if out.damaged:
                    value = ended("lost", "Damaged", out.damaged)
                if not isinstance(out.job.work, Cell):  # there is more to offer now
                    self._offers.pop(teacher_of(out.job)[1], None)
                if value["status"] == "lost":
                    self._lost_on[out.job.id] = out.node
                    self.nodes.changed()
            yield Event(out.job, kind, value)

    def _forget(self, out: _Out) -> None:
        self._out.remove(out)
        self._handed[out.request] -= 1

    def _keep(self, out: _Out, root: str, item: Parcel) -> None:
        data = memoryview(item.data)
        try:
            if root == "results":
                unpack(self._results.path, item, data)
            else:
                accept(self._cache.path, item, data)
        except BenchError as error:
            out.damaged = error.message

    def _turned_away(self, out: _Out, kind: str, value: dict[str, Any]) -> None:
        """Submit a job again that a late node could not run: elsewhere, or with the files it lacks.

        Raises:
            BenchError: when no node is left.
        """
        if kind == "unshared":
            self._offering = True
        elif out.node not in self.nodes.refused:
            line = f"{self.nodes.name(out.node)}: {value['text']}"
            self.nodes.refuse(out.node)
            self._notes.append(Event(out.job, "note", {"text": f"nothing runs on {line}"}))
            if not self.nodes.usable():
                raise BenchError(f"no node is left to run on: {line}")
        self.submit(out.job)

    def _errand(self, job: Job | None) -> Errand:
        names = [*THREADS, "BENCH_DATA", "BENCH_CHECKPOINT_SECONDS"]
        return Errand(
            job=job,
            survey=self._survey,
            expected=self._expected,
            cache=self._cache,
            results=self._results,
            variables={name: os.environ[name] for name in names if name in os.environ},
            offers=self._offered(job) if job is not None and self._offering else None,
        )

    def _offered(self, job: Job) -> list[Parcel]:
        """Return this machine's files of the job's teacher, put into the object store once."""
        import numpy as np

        task, key = teacher_of(job)
        if key and key not in self._offers:
            self._offers[key] = [
                Parcel(item.path, item.sha256, self._ray.put(np.frombuffer(item.data, np.uint8)))
                for item in parcels(self._cache.path, task, key)
            ]
        return self._offers.get(key, [])

    def _check_nodes(self) -> None:
        """Survey every node; :class:`BenchError` for one that differs from this machine."""
        asked = {}
        for node in self.nodes.usable():
            options = {"num_cpus": 0, "label_selector": {"ray.io/node-id": node["NodeID"]}}
            stream = self._task.options(**options, **ONCE).remote(self._errand(None))
            asked[node["NodeID"]] = stream
        limit = time.monotonic() + PATIENCE
        for node_id, stream in asked.items():
            answer = self._answer(node_id, stream, limit)
            self._offering |= not answer["shares"]

    def _answer(self, node_id: str, stream: Any, limit: float) -> dict[str, Any]:
        """Return the outcome of a node's check."""
        name, kind, value = self.nodes.name(node_id), "", {}
        while kind != "done":
            left = max(limit - time.monotonic(), 0.1)
            if not self._ray.wait([stream], timeout=left, fetch_local=False)[0]:
                raise BenchError(f"{name} did not answer within {PATIENCE:g} s")
            try:
                kind, value = self._ray.get(next(stream))
            except Exception as error:
                why = death(self._ray, error, interrupted=False)["error"]["message"]
                raise BenchError(f"{name} cannot run the suite: {why}") from error
            if kind == "refused":
                raise BenchError(f"{name} differs: {value['text']}")
        return value

    def _take_notes(self) -> Iterator[Event]:
        while self._notes:
            yield self._notes.pop(0)


def _place(folder: Path) -> Place:
    """Mark a folder, so that a node can tell whether it sees the same one."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".shared-*"):  # by drivers that were killed
        if abs(time.time() - left.stat().st_mtime) > FORGOTTEN:
            left.unlink(missing_ok=True)
    token = f".shared-{secrets.token_hex(8)}"
    (folder / token).touch()
    return Place(folder, token)
