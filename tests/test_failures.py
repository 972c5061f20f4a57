"""What goes wrong in a run costs the cells it touches, is written down, and can be made good."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import session, start, wait_for

from bench.store import read_records, record_files

TINY = ["--tasks", "cifar10", "--seeds", "1", "--device", "cpu", "--set", "train_limit=64"]
PLUGIN = '''"""Methods that fail in the ways methods fail."""

import os
import signal
import time
from pathlib import Path

import torch.nn.functional as F

from bench import Method, register_method


class Plain(Method):
    signals = frozenset()

    def loss(self, *, batch, student, teacher, progress):
        return {"ce": F.cross_entropy(student.scores, batch.labels)}


@register_method("raising")
class Raising(Plain):
    """Raise an error in the loss."""

    def loss(self, **given):
        raise ArithmeticError("no loss today")


@register_method("not_a_number")
class NotANumber(Plain):
    """Return a loss that is no number."""

    def loss(self, **given):
        return {"ce": super().loss(**given)["ce"] * float("nan")}


@register_method("termless")
class Termless(Plain):
    """Return no loss at all."""

    def loss(self, **given):
        return {}


@register_method("greedy")
class Greedy(Plain):
    """Take the student in, whose parameters would then be stepped twice."""

    def setup(self, context):
        self.model = context.student


@register_method("killed_once")
class KilledOnce(Plain):
    """Die as a process does that the kernel kills, the first time."""

    def loss(self, **given):
        marker = Path(os.environ["TEST_MARKER"])
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(**given)


@register_method("slow")
class Slow(Plain):
    """Take a while over every step, and say that training has begun."""

    def loss(self, **given):
        Path(os.environ["TEST_MARKER"]).touch()
        time.sleep(float(os.environ["TEST_PAUSE"]))
        return super().loss(**given)


Path(os.environ["TEST_MARKER"] + "-imported").touch()
'''
TASK = '''"""A task with a metric that is sometimes no number."""

from bench import register_task
from bench.tasks.cifar import CifarTask


@register_task("odd")
class Odd(CifarTask):
    """Digits, scored oddly."""

    num_classes = 10

    def evaluate(self, logits, labels):
        return {**super().evaluate(logits, labels), "odd": float("nan")}
'''
posix = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads /proc")


class Bench:
    """``python -m bench run`` with a plug-in, a cache and a marker file of the test's own."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.plugin = base / "failing.py"
        self.plugin.write_text(PLUGIN, encoding="utf-8")
        self.marker = base / "marker"

    def start(
        self, *arguments: str, results: str = "results", pause: float = 0.0
    ) -> subprocess.Popen[str]:
        """Start a run in a session of its own."""
        given = ["--plugin", self.plugin, *TINY, *arguments]
        return start(
            *["-m", "bench", "run", *given, "--results", self.base / results],
            BENCH_CACHE=str(self.base / "cache"),
            TEST_MARKER=str(self.marker),
            TEST_PAUSE=str(pause),
        )

    def run(self, *arguments: str, results: str = "results") -> tuple[int, str]:
        """Run to the end; returns the exit status and what was said."""
        process = self.start(*arguments, results=results)
        said, _ = process.communicate(timeout=300)
        return process.returncode, said

    def records(self, results: str = "results") -> dict[str, dict[str, Any]]:
        found, problems = read_records(self.base / results)
        assert not problems
        named = {record["cell"]["method"]: record for record in found}
        assert len(named) == len(found)
        return named


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def clean_up() -> Iterator[list[subprocess.Popen[str]]]:
    """End whatever is left of the sessions that a test started."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def test_failing_cells_are_written_down_and_the_rest_goes_on(bench: Bench) -> None:
    methods = ["raising", "not_a_number", "killed_once", "termless", "greedy", "scratch"]
    code, said = bench.run("--methods", ",".join(methods), "--set", "epochs=1")
    assert code == 1, said
    assert "1 cells run, 0 already there." in said and "5 failed." in said
    records = bench.records()
    assert sorted(records) == sorted(methods)
    assert records["scratch"]["status"] == "ok"
    statuses = ("failed", "diverged", "failed", "failed", "failed")
    for method, status in zip(methods, statuses, strict=False):
        record = records[method]
        assert record["status"] == status and record["metrics"] is None
        assert record["cell"]["seed"] == 0 and record["data"]["name"] == "embedded digits"
        assert record["environment"]["device"] == "cpu" and record["revision"]
        assert f"{record['error']['class']}: {record['error']['message']}" in said

    error = records["raising"]["error"]
    assert (error["class"], error["message"]) == ("ArithmeticError", "no loss today")
    assert "failing.py" in error["traceback"] and "raise ArithmeticError" in error["traceback"]
    assert error["traceback"].endswith("ArithmeticError: no loss today\n")

    error = records["not_a_number"]["error"]
    assert error["class"] == "Diverged" and "loss 'ce' is nan in epoch 1" in error["message"]

    error = records["killed_once"]["error"]
    assert error["class"] == "ProcessDied"
    assert error["message"] == "the process was ended by SIGKILL" and "memory" in error["hint"]

    error = records["termless"]["error"]
    assert error["message"] == "the loss of 'termless' returned no term in stage 'main'"
    error = records["greedy"]["error"]
    assert error["message"] == "method 'greedy' keeps the student as a module of its own"

    before = {path: path.read_bytes() for path in record_files(bench.base / "results")}
    code, said = bench.run("--methods", "scratch,killed_once", "--set", "epochs=1")
    assert code == 0 and "1 cells run, 1 already there." in said
    assert bench.records()["killed_once"]["status"] == "ok"
    changed = [path for path, data in before.items() if path.read_bytes() != data]
    assert [path.parent.name for path in changed] == ["killed_once"]
    # the two methods compute the same loss from the same streams
    assert bench.records()["killed_once"]["metrics"] == bench.records()["scratch"]["metrics"]


@pytest.mark.slow
def test_failing_teacher_fails_each_cell_that_needs_it(bench: Bench) -> None:
    code, said = bench.run("--methods", "kd,fitnets", "--set", "teacher=resnet9")
    assert code == 1, said
    records = bench.records()
    assert sorted(records) == ["fitnets", "kd"]
    for method in ("kd", "fitnets"):
        assert records[method]["status"] == "failed"
        error = records[method]["error"]
        assert error["class"] == "BenchError"
        # the cell says that it is not its own fault, and whose
        assert "failed: resnet9" in error["message"]
        assert "Traceback" in error["traceback"]
    assert "Traceback" not in said


@pytest.mark.slow  # test_store has the same of a record alone
def test_cell_with_a_metric_that_is_no_number_leaves_a_failed_record(bench: Bench) -> None:
    (bench.base / "odd.py").write_text(TASK, encoding="utf-8")
    plugin = ["--plugin", str(bench.base / "odd.py"), "--tasks", "odd"]
    code, said = bench.run("--methods", "scratch", "--set", "epochs=1", *plugin)
    assert code == 1 and "1 failed." in said
    record = bench.records()["scratch"]
    assert record["status"] == "failed" and "nan" in record["error"]["message"]


@posix
def test_interrupt_stops_the_run_with_a_summary(
    bench: Bench, clean_up: list[subprocess.Popen[str]]
) -> None:
    wanted = ["--methods", "slow,scratch", "--set", "epochs=4", "--workers", "1"]
    runner = bench.start(*wanted, pause=0.5)
    clean_up.append(runner)
    wait_for(bench.marker.exists, 90, "the first cell to train")
    os.killpg(runner.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    said, _ = runner.communicate(timeout=60)
    assert runner.returncode == 130, said
    assert "0 cells run, 0 already there." in said and "stopped; finished work is kept" in said
    assert "Traceback" not in said
    wait_for(lambda: not session(runner.pid), 60, "the workers to go away")
    assert not list(record_files(bench.base / "results"))
    assert "failed" not in said


def test_interrupt_before_the_first_cell_exits_as_interrupted(
    bench: Bench, clean_up: list[subprocess.Popen[str]]
) -> None:
    runner = bench.start("--methods", "scratch")
    clean_up.append(runner)
    imported = bench.base / f"{bench.marker.name}-imported"
    wait_for(imported.exists, 90, "the plug-in to be imported, before anything is planned")
    os.kill(runner.pid, signal.SIGINT)
    said, _ = runner.communicate(timeout=30)
    assert runner.returncode == 130 and "Traceback" not in said, said
