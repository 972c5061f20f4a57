"""Runs whose jobs have processes of their own: statuses, limits, retries, caches."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import wait_for
from suite_runs import Runs, in_thread

from bench.errors import BenchError
from bench.store import record_files

linux = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")


@pytest.fixture
def runs(tmp_path: Path, no_new_methods: None) -> Runs:
    return Runs(tmp_path)


# Failures are rows.


@linux
def test_out_of_memory_cuts_batches_until_they_fit(runs: Runs) -> None:
    small = {"batch_size": 8}  # which would take 256 MiB at once
    summary, said = runs("hungry", "insatiable", "lacking", "scratch", workers=2, changes=small)
    record = runs.record("hungry")
    assert record["status"] == "ok", record["error"]
    cut = record["batching"]
    assert cut["batch_size"] == 8 and cut["micro_batches"] in (2, 4)
    assert cut["micro_batch_size"] * cut["micro_batches"] == 8
    assert "BatchNorm statistics are those of the parts" in cut["note"]
    assert "hungry · cifar10 · seed 0: out of memory; retried with each batch in 2 parts" in said
    assert len(record["epochs"]) == 2

    record = runs.record("insatiable")
    assert record["status"] == "oom" and record["metrics"] is None
    assert "memory" in record["error"]["message"] and "--retry oom" in record["error"]["hint"]
    assert "insatiable · cifar10 · seed 0: out of memory; retried with each batch in 4" in said
    assert "in 8 parts" not in said  # of one sample each

    record = runs.record("lacking")
    assert record["status"] == "skipped"
    assert record["error"]["message"] == (
        "needs the package 'a_package_that_nobody_has', which is not installed"
    )
    assert "batching" not in runs.record("scratch")
    assert (summary.done, len(summary.failed)) == (3, 1)
    assert summary.failed[0].startswith("oom: insatiable · cifar10 · seed 0: RuntimeError: ")

    # what ended so is kept, but a package may have been installed meanwhile
    summary, said = runs("hungry", "insatiable", "lacking", "scratch", changes=small)
    assert (summary.done, summary.reused, dict(summary.kept)) == (1, 2, {"oom": 1})


def test_time_limit_ends_a_cell_and_retry_runs_it_again(runs: Runs) -> None:
    endless = "slow:seconds=600"
    summary, said = runs(endless, cell_timeout=1.5)
    record = runs.record("slow")
    assert record["status"] == "timeout" and record["timings"]["total_s"] > 1.5
    assert record["error"]["message"] == "not done within the limit of 1.5 s"
    assert "--cell-timeout" in record["error"]["hint"]
    assert summary.failed and "timeout: TimeLimit: not done within the limit of 1.5 s" in said

    (path,) = record_files(runs.results)
    before = path.read_bytes()
    summary, _ = runs(endless)
    assert (summary.done, dict(summary.kept)) == (0, {"timeout": 1})
    assert path.read_bytes() == before
    summary, _ = runs(endless, retry=frozenset({"timeout"}), cell_timeout=1.0)
    assert len(summary.failed) == 1 and path.read_bytes() != before


def test_full_disk_stops_with_one_line_and_loses_no_record(runs: Runs) -> None:
    runs("scratch")
    before = {path: path.read_bytes() for path in record_files(runs.results)}
    with pytest.raises(BenchError) as caught:
        runs("scratch", "no_room", "slow")
    line = str(caught.value)
    assert "no_room · cifar10 · seed 0: the largest file size allowed here is reached" in line
    assert "cannot write" in line and "\n" not in line and str(runs.base) not in line
    assert {path: path.read_bytes() for path in record_files(runs.results)} == before
    assert not list(runs.results.rglob("*.tmp")) and not list(runs.results.rglob("*.lease"))


# An interrupt.


def interrupting(begun: Path, times: int) -> Callable[[], None]:
    def send() -> None:
        wait_for(begun.exists, 90, "the first step")
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    return send


def test_one_interrupt_leaves_a_checkpoint_that_the_next_run_goes_on_from(runs: Runs) -> None:
    begun, longer = runs.base / "begun", {"epochs": 5}
    named = f"slow:seconds=0.4:begun={begun}"
    with in_thread(interrupting(begun, 1)):
        summary, said = runs(named, "scratch", changes=longer)
    assert summary.interrupted and (summary.done, summary.failed) == (0, [])
    assert "stopping: running jobs stop at their next checkpoint" in said
    assert not list(record_files(runs.results)) and not (runs.results / ".leases").exists()
    steps = begun.read_text().split()
    assert 0 < len(steps) < 10 and len(steps) % 2 == 0  # whole epochs of two steps

    summary, _ = runs(named, "scratch", changes=longer)
    assert summary.done == 2 and len(begun.read_text().split()) == 10  # none was taken twice
    # `slow` is `scratch` with pauses, so this is what an undisturbed run gives
    assert runs.record("slow")["metrics"] == runs.record("scratch")["metrics"]
    whole = [(entry["losses"], entry["validation"]) for entry in runs.record("scratch")["epochs"]]
    assert [(e["losses"], e["validation"]) for e in runs.record("slow")["epochs"]] == whole


def test_two_interrupts_stop_at_once(runs: Runs) -> None:
    begun = runs.base / "begun"
    started = time.monotonic()
    with in_thread(interrupting(begun, 2)):
        summary, _ = runs(f"slow:seconds=600:begun={begun}")
    assert summary.interrupted and not summary.failed and time.monotonic() - started < 300
    assert not list(record_files(runs.results)) and not (runs.results / ".leases").exists()


def test_a_method_that_cannot_be_asked_fails_alone(runs: Runs) -> None:
    """The pass that keeps the teacher's outputs is shared with the others."""
    summary, said = runs("kd", "unasked")
    assert (summary.done, len(summary.failed)) == (1, 1) and "made_in_setup" in said
    assert runs.record("kd")["status"] == "ok" and runs.record("unasked")["status"] == "failed"


# Altered caches are named and made again.


def test_altered_cache_files_are_named_and_made_again(runs: Runs) -> None:
    cache = cache_of_workers()
    runs("kd")
    expected = runs.record("kd")
    (teacher,) = (path for path in newest(cache / "teachers", "model.safetensors"))
    (signals,) = (path for path in newest(cache / "signals", "view-0-0-logits.npy"))
    for path in (teacher, signals):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    for record in record_files(runs.results):
        record.unlink()
    _, said = runs("kd")
    for path in (teacher, signals):
        assert re.search(rf"{path.name} (is|are) damaged \(its checksum does not match\)", said)
    assert runs.record("kd")["metrics"] == expected["metrics"]


def test_another_copy_of_a_teacher_speaks_for_itself(runs: Runs) -> None:
    """Trained again by another number of threads, it has the same key and other weights."""
    import safetensors.torch

    from bench.data.fingerprint import file_sha256

    runs("kd")
    before = runs.record("kd")["epochs"][0]["losses"]
    (weights,) = newest(cache_of_workers() / "teachers", "model.safetensors")
    state = safetensors.torch.load_file(weights)
    safetensors.torch.save_file({name: 1.1 * value for name, value in state.items()}, weights)
    manifest = weights.with_name("manifest.json")
    noted = json.loads(manifest.read_text())
    noted["sha256"][weights.name] = file_sha256(weights)
    manifest.write_text(json.dumps(noted))
    for record in record_files(runs.results):
        record.unlink()
    runs("kd")
    assert runs.record("kd")["epochs"][0]["losses"] != before


def cache_of_workers() -> Path:
    """Return the cache folder that worker processes see: the one when their server started."""
    from multiprocessing import forkserver

    pid = forkserver._forkserver._forkserver_pid
    if pid is None:
        return Path(os.environ["BENCH_CACHE"])
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (found,) = [v for v in variables if v.startswith(b"BENCH_CACHE=")]
    return Path(found.partition(b"=")[2].decode())


def newest(folder: Path, name: str) -> list[Path]:
    return sorted(folder.rglob(name), key=lambda path: path.stat().st_mtime)[-1:]
