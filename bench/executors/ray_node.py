"""A Ray task on its node: it runs one job in a process of its own and passes its messages back.

The job runs exactly as the local executor would run it, in a fork of a preloaded server; Ray's own
worker only waits.  So a crash or leak affects only the job, peak memory is the job's own, and one
process that has imported torch serves job after job.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.cells import Cell, GeneratorSpec, SignalsSpec, TeacherSpec
from bench.data.cache import cache_dir
from bench.errors import BenchError
from bench.executors.artefacts import Parcel, parcel, parcels, receive
from bench.executors.local import VISIBLE, LocalExecutor
from bench.executors.survey import difference
from bench.executors.worker import Job
from bench.failures import ended

# How many threads a library uses can change the last bit of a sum.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
OWN_FOLDER = "BENCH_NODE_FOLDER"
Message = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Place:
    """A folder of the driver, which a node may or may not share.

    A node whose environment names a folder of its own in ``BENCH_NODE_FOLDER`` uses that one.

    Attributes:
        path: where it is.
        token: the name of an empty file in it, made for this run.
    """

    path: Path
    token: str

    def seen(self) -> bool:
        """Return whether this node sees the same folder under the same path."""
        return not os.environ.get(OWN_FOLDER) and (self.path / self.token).is_file()


@dataclass(frozen=True)
class Errand:
    """What a node is asked to do.

    Attributes:
        job: the job; ``None`` asks for the check only.
        survey: the job that finds out what would run it here.
        expected: the result of the driver's own survey.
        cache: the driver's cache folder.
        results: the driver's folder of records.
        variables: the driver's environment variables that shape results or name data folders.
        offers: the teacher and signals the job needs, for a node that does not share the cache;
            ``None`` when the driver believes that all do.
    """

    job: Job | None
    survey: Job
    expected: Mapping[str, str]
    cache: Place
    results: Place
    variables: Mapping[str, str]
    offers: Sequence[Parcel] | None


_host: LocalExecutor | None = None
_checked: dict[str, str] = {}  # by the driver's cache token, which names the run


def carry(errand: Errand) -> Iterator[Message]:
    """Do the errand and yield its messages; the body of every Ray task.

    Besides the messages of :class:`bench.executors.base.Event`: "on" (which node), "refused" (it
    differs from the driver), "unshared" (it lacks files that were not offered) and "file" (one
    that belongs to the driver).  Interrupted, the job is left at its next checkpoint.
    """
    import ray

    host = _start_host(errand.variables)
    yield "on", {"node": ray.get_runtime_context().get_node_id()}
    try:
        problem = _check(host, errand)
        if problem:
            yield "refused", {"text": problem}
        elif errand.job is None:
            yield "done", {"status": "ok", "error": None, "shares": errand.cache.seen()}
        elif errand.offers is None and not errand.cache.seen():
            yield "unshared", {}
        else:
            yield from _work(host, errand, errand.job, ray.get)
    except KeyboardInterrupt:  # nothing that is said now reaches the driver
        host.interrupt()
        while host.running:
            list(host.events(timeout=1.0))
    finally:
        host.stop()


def _work(host: LocalExecutor, errand: Errand, job: Job, fetch: Any) -> Iterator[Message]:
    shared = errand.cache.seen()
    cache = _cache(errand.cache)
    task, key = teacher_of(job)
    if not shared and key and errand.offers:
        try:
            receive(cache, errand.offers, fetch)
        except BenchError as error:
            yield "done", ended("lost", "Damaged", error.message)
            return
    variables = {"BENCH_CACHE": str(cache)}
    if VISIBLE in os.environ:  # what Ray has chosen for this task
        variables[VISIBLE] = os.environ[VISIBLE]
    with _results(errand) as results:
        outcome: dict[str, Any] = {}
        for kind, value in _messages(host, replace(job, results=results), variables):
            if kind == "done":
                outcome = value
            else:
                yield kind, value
        if not shared and key and outcome["status"] == "ok" and not isinstance(job.work, Cell):
            known = frozenset((offer.path, offer.sha256) for offer in errand.offers or ())
            for item in parcels(cache, task, key, known):
                yield _file("cache", item)
        if results != errand.results.path:
            # predictions before the record that names them
            for path in sorted(results.rglob("*.*"), key=lambda path: path.suffix != ".npz"):
                if path.is_file():
                    yield _file("results", parcel(results, path))
    yield "done", outcome


def _file(root: str, item: Parcel) -> Message:
    import numpy as np

    # as an array it is laid into Ray's object store without a further copy
    return "file", {"root": root, "item": replace(item, data=np.frombuffer(item.data, np.uint8))}


def _messages(host: LocalExecutor, job: Job, variables: Mapping[str, str]) -> Iterator[Message]:
    """Yield the messages of ``job``, its "done" last."""
    with _nameless_main():
        host.submit(job, variables)
    while host.running:
        for event in host.events(timeout=1.0):
            yield event.kind, event.value


def _check(host: LocalExecutor, errand: Errand) -> str:
    """Return how this node differs from the driver; empty when it does not."""
    if errand.cache.token not in _checked:
        found: dict[str, str] = {}
        variables = {"BENCH_CACHE": str(_cache(errand.cache))}
        for kind, value in _messages(host, errand.survey, variables):
            if kind == "done":
                found = value.get("found") or {"survey": value["error"]["message"]}
        _checked[errand.cache.token] = difference(errand.expected, found) or ""
    return _checked[errand.cache.token]


def _start_host(variables: Mapping[str, str]) -> LocalExecutor:
    global _host
    if _host is None:
        for name in THREADS:  # Ray sets its own
            os.environ.pop(name, None)
        for name, value in variables.items():
            os.environ[name] = value if name in THREADS else os.environ.get(name, value)
        _host = LocalExecutor(1)
    return _host


@contextmanager
def _nameless_main() -> Iterator[None]:
    """Keep a new process from importing Ray's worker script as its main module."""
    main = sys.modules["__main__"]
    file = main.__dict__.pop("__file__", None)
    try:
        yield
    finally:
        if file is not None:
            main.__dict__["__file__"] = file


@contextmanager
def _results(errand: Errand) -> Iterator[Path]:
    """Yield the folder the job writes to: the driver's, else a temporary one that is sent there."""
    if errand.results.seen():
        yield errand.results.path
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-results-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _cache(driver: Place) -> Path:
    """Return the cache folder to use here."""
    own = os.environ.get(OWN_FOLDER)
    if own:
        Path(own).mkdir(parents=True, exist_ok=True)
        return Path(own)
    return driver.path if driver.seen() else cache_dir()


def teacher_of(job: Job) -> tuple[str, str]:
    """Return the task and the key of the job's teacher; empty when it has none."""
    work = job.work
    if isinstance(work, SignalsSpec):
        work = work.cells[0]
    if isinstance(work, GeneratorSpec):
        work = work.judge
    spec = work if isinstance(work, TeacherSpec) else getattr(work, "teacher", None)
    return (spec.task, spec.key) if isinstance(spec, TeacherSpec) else ("", "")
