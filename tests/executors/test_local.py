"""Several devices on one machine: one cell each, never two on one by accident."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.executors import local, open_place, parse_devices, visible_devices
from bench.executors.base import Event
from bench.executors.local import LocalExecutor
from bench.executors.worker import Job
from bench.runner import jobs_for
from bench.running import Running

from .conftest import Tiny


def test_every_device_has_one_cell_at_a_time(tiny: Tiny) -> None:
    told = tiny.base / "told"
    plan = tiny.plan(*(f"waiting:seconds={1 + at / 100}:told={told}" for at in range(5)))
    summary, said = tiny.run(plan, "results", LocalExecutor(2, ["GPU-a", "GPU-b"]))
    assert (summary.done, summary.failed) == (5, []), said
    there: dict[str, int] = {"GPU-a": 0, "GPU-b": 0}
    most = 0
    for line in sorted(told.read_text().splitlines(), key=lambda line: float(line.split()[1])):
        what, _, device = line.split()
        there[device] += 1 if what == "begin" else -1
        assert there[device] in (0, 1)
        most = max(most, sum(there.values()))
    assert most == 2, "both devices are used at once"


def test_a_process_that_does_not_leave_is_ended(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "LEAVING", 0.5)
    executor = LocalExecutor(1)
    (job,) = jobs_for(tiny.plan("staying"), set(), results=tiny.base / "results", threads=1)
    executor.submit(job)
    (process,) = (process for _, process in executor._running.values())
    heard: list[Event] = []
    while executor.running:
        heard += executor.events(60)
    assert heard[-1].kind == "done" and heard[-1].value["status"] == "ok"
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(("code", "named"), [(-15, "SIGTERM"), (-35, "signal 35")])
def test_the_signal_that_ended_a_process_is_named(code: int, named: str) -> None:
    assert named in LocalExecutor(1)._death(code)["error"]["message"]


def test_devices_are_named_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert parse_devices("cuda:1, cuda:0") == ["cuda:1", "cuda:0"]
    assert visible_devices(["cuda:1", "cuda:0"]) == ["1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    assert visible_devices(["cuda:1", "cuda:0"]) == ["GPU-7", "5"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("cuda:0,cuda:0", "named twice"),
        ("cuda:0,cuda:00", "named twice"),
        ("cpu", "--workers"),
        ("cuda", "cuda:0,cuda:1"),
        (",", "names no device"),
    ],
)
def test_other_devices_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(BenchError, match=complaint):
        parse_devices(text)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"devices": "cuda:0", "workers": 2}, "--workers cannot be given with --devices"),
        ({"devices": "cuda:0", "device": "cuda"}, "--device cannot be given with --devices"),
        ({"address": "auto"}, "--address is for a cluster"),
        ({"requests": ("*:cpus=1",)}, "--request is for a cluster"),
        ({"executor": "rey"}, "did you mean 'ray'"),
        ({"executor": "ray", "workers": 2}, "--workers cannot be given with --executor ray"),
        ({"executor": "ray", "devices": "cuda:0"}, "--devices cannot be given with --executor ray"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, object], complaint: str, tiny: Tiny
) -> None:
    values = {"device": "auto", "workers": None, "threads": 1, "results": tiny.base, **options}
    with pytest.raises(BenchError, match=complaint):
        open_place(Running(**values))  # type: ignore[arg-type]


@pytest.mark.parametrize(("after", "status"), [(1, "oom"), (0, "failed")])
def test_a_kill_that_the_kernel_counted_is_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, status: str
) -> None:
    counts = iter([0, after])
    monkeypatch.setattr("bench.executors.local.oom_kills", lambda: next(counts))
    executor = LocalExecutor(1)
    executor.submit(Job("one", "one", work=None, results=tmp_path, threads=1))  # type: ignore[arg-type]
    (process,) = multiprocessing.active_children()
    process.kill()
    events: list[Event] = []
    while executor.running:
        events += executor.events(timeout=1.0)
    assert (events[-1].kind, events[-1].value["status"]) == ("done", status)
