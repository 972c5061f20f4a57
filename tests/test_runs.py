"""Runs whose jobs have processes of their own: statuses, limits, retries, shared results."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import wait_for
from rich.console import Console

from bench.errors import BenchError
from bench.leases import Leases
from bench.plan import make_plan
from bench.progress import Progress
from bench.registry import load_plugin
from bench.runner import Policy, Summary, run_plan
from bench.store import read_record, read_records, record_files, write_record
from bench.suites import Suite

PLUGIN = '''"""Methods that ask for too much."""

import os
import resource
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from bench import Config, Method, register_method


class Plain(Method):
    signals = frozenset()

    def loss(self, *, batch, student, teacher, progress):
        return {"ce": F.cross_entropy(student.scores, batch.labels)}


def limit(kind, size):
    resource.setrlimit(kind, (size, resource.getrlimit(kind)[1]))


class Hungry(Plain):
    """Take 32 MiB for each sample in a process that may grow by 200 MiB."""

    def setup(self, context):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit(resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + 200 * 2**20)

    def loss(self, *, batch, **given):
        taken = torch.empty(len(batch.labels), 2**23)
        return super().loss(batch=batch, **given)


@register_method("hungry")
class HungryForEachSample(Hungry):
    """Fit when the batch is cut."""


@register_method("insatiable")
class Insatiable(Hungry):
    """Fit never."""

    def loss(self, **given):
        taken = torch.empty(2**28)
        return super().loss(**given)


@register_method("lacking")
class Lacking(Plain):
    """Need what is not installed."""

    def setup(self, context):
        import a_package_that_nobody_has


@register_method("no_room")
class NoRoom(Plain):
    """Train where only small files can be written."""

    def setup(self, context):
        limit(resource.RLIMIT_FSIZE, 4000)


class Pause(Config):
    seconds: float = 0.0
    begun: str = ""


@register_method("slow")
class Slow(Plain):
    """Take a while over every step."""

    Config = Pause

    def loss(self, **given):
        if self.config.begun:
            with open(self.config.begun, "a") as stream:
                stream.write("step ")
        time.sleep(self.config.seconds)
        return super().loss(**given)
'''
linux = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")


class Runs:
    """Runs suites of the plug-in's methods on 64 digits, one seed, two epochs."""

    def __init__(self, base: Path) -> None:
        self.base, self.results = base, base / "results"
        self.plugin = base / "asking.py"
        self.plugin.write_text(PLUGIN, encoding="utf-8")
        load_plugin(str(self.plugin))

    def __call__(
        self,
        *methods: str,
        workers: int = 1,
        results: Path | None = None,
        changes: dict[str, Any] | None = None,
        **policy: Any,
    ) -> tuple[Summary, str]:
        """Run ``methods``; returns the summary and what was said."""
        suite = Suite(
            methods=methods,
            tasks=("cifar10",),
            seeds=(0,),
            overrides={"train_limit": 64, "epochs": 2, **(changes or {})},
        )
        plan = make_plan(suite, device="cpu", plugins=(str(self.plugin),))
        said = io.StringIO()
        console = Console(file=said, width=300, force_terminal=False)
        summary = run_plan(
            plan,
            results=results or self.results,
            workers=workers,
            threads=1,
            progress=Progress(console),
            policy=Policy(**policy),
        )
        return summary, said.getvalue()

    def record(self, method: str) -> dict[str, Any]:
        """Return the one record of ``method``."""
        records, problems = read_records(self.results)
        assert not problems
        (found,) = [record for record in records if record["cell"]["method"] == method]
        return found


@pytest.fixture
def runs(tmp_path: Path, no_new_methods: None) -> Runs:
    return Runs(tmp_path)


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(timeout=120)
    assert not thread.is_alive()


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


# Two runners on one results directory.


def test_two_runners_share_the_cells_and_run_each_once(runs: Runs) -> None:
    """The second takes what is left, waits for the rest, and runs nothing again."""
    begun = runs.base / "begun"
    shared = [f"slow:seconds=1:begun={begun}", "scratch", "label_smoothing"]
    ended: list[tuple[Summary, str]] = []
    with in_thread(lambda: ended.append(runs(*shared))):
        wait_for(begun.exists, 90, "the first runner's first cell")
        second, said = runs(*shared)
    first, _ = ended[0]
    records, problems = read_records(runs.results)
    assert [record["status"] for record in records] == ["ok"] * 3 and not problems
    assert first.done + second.done == 3 and first.elsewhere + second.elsewhere == 3
    assert second.done >= 1 and "slow" in said and "another runner is running it" in said
    assert begun.read_text().split() == ["step"] * 4  # two epochs of two steps, once
    assert not (runs.results / ".leases").exists()


def test_a_live_lease_keeps_others_away_and_its_result_is_adopted(
    runs: Runs, tmp_path: Path
) -> None:
    runs("scratch", results=tmp_path / "other")
    (done,) = record_files(tmp_path / "other")
    key = read_record(done)["key"]
    ended: list[tuple[Summary, str]] = []
    with Leases(runs.results) as others:
        assert others.acquire(key[:32])
        with in_thread(lambda: ended.append(runs("scratch"))):
            time.sleep(4)  # it looks once a second
            assert not ended and not list(record_files(runs.results))
            target = runs.results / done.relative_to(tmp_path / "other")
            target.parent.mkdir(parents=True)
            target.write_bytes(done.read_bytes())
            others.release(key[:32])
    summary, said = ended[0]
    assert (summary.done, summary.elsewhere) == (0, 1) and target.read_bytes() == done.read_bytes()
    assert "another runner is running it" in said and "by another runner" in said


def test_that_another_machine_lacks_a_package_says_nothing_of_this_one(
    runs: Runs, tmp_path: Path
) -> None:
    runs("scratch", results=tmp_path / "other")
    (done,) = record_files(tmp_path / "other")
    record = read_record(done)
    error = {"class": "MissingPackage", "message": "No module named 'x'"}
    ended: list[Summary] = []
    with Leases(runs.results) as others:
        assert others.acquire(record["key"][:32])
        with in_thread(lambda: ended.append(runs("scratch")[0])):
            time.sleep(4)
            write_record(runs.results, {**record, "status": "skipped", "error": error})
            others.release(record["key"][:32])
    assert (ended[0].done, ended[0].elsewhere) == (1, 0)
    (again,) = record_files(runs.results)
    assert read_record(again)["status"] == "ok"


def test_a_result_is_kept_whatever_other_copies_of_its_cell_say(runs: Runs) -> None:
    runs("scratch")
    (done,) = record_files(runs.results)
    failed = {**read_record(done), "status": "failed", "error": {"class": "E", "message": "x"}}
    copy = runs.results / "z-old" / "cell.json"  # merged from another machine, read later
    copy.parent.mkdir()
    copy.write_text(json.dumps(failed), encoding="utf-8")
    summary, _ = runs("scratch")
    assert (summary.done, summary.reused) == (0, 1)


def test_lease_of_a_dead_runner_is_taken_over_at_once(runs: Runs) -> None:
    runs("scratch", results=runs.base / "other")
    key = runs_key(runs.base / "other")
    gone = os.fork()
    if gone == 0:  # a runner that is killed while it holds the lease
        Leases(runs.results).acquire(key[:32])
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(gone, 0)
    (left,) = (runs.results / ".leases").iterdir()
    assert json.loads(left.read_text())["pid"] == gone
    summary, _ = runs("scratch")
    assert summary.done == 1 and not (runs.results / ".leases").exists()


def runs_key(results: Path) -> str:
    (path,) = record_files(results)
    return str(read_record(path)["key"])


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
    safetensors.torch.save_file({name: 2 * value for name, value in state.items()}, weights)
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
