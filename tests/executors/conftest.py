"""Plans of a few tiny cells, and methods that take their time."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.cells import Cell
from bench.drive import Summary
from bench.executors.base import Executor
from bench.plan import Plan, make_plan
from bench.progress import Progress
from bench.registry import load_plugin
from bench.runner import Policy, run_plan
from bench.suites import Suite

PLUGIN = '''"""A method that says where it runs and waits there."""

import multiprocessing
import os
import signal
import threading
import time

import torch.nn.functional as F

from bench import Config, Method, register_method


class Wait(Config):
    seconds: float = 0.0
    told: str = ""


@register_method("waiting")
class Waiting(Method):
    """Sleep before training."""

    signals = frozenset()
    Config = Wait

    def setup(self, context):
        device = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
        self.tell(f"begin {time.monotonic()} {device}")
        time.sleep(self.config.seconds)
        self.tell(f"end {time.monotonic()} {device}")

    def tell(self, line):
        if self.config.told:
            with open(self.config.told, "a") as stream:
                stream.write(line + chr(10))

    def loss(self, *, batch, student, teacher, progress):
        return {"ce": F.cross_entropy(student.scores, batch.labels)}


@register_method("killing")
class Killing(Waiting):
    """Kill the process that waits for this one."""

    def setup(self, context):
        os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
        time.sleep(60)


@register_method("staying")
class Staying(Waiting):
    """Leave a thread behind that outlives the job."""

    def setup(self, context):
        threading.Thread(target=time.sleep, args=(600,)).start()
'''
TINY = {"train_limit": 64, "epochs": 2, "teacher_recipe.epochs": 1}


class Tiny:
    """Plans and runs of a few cells on 64 digits."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.plugin = base / "waiting.py"
        self.plugin.write_text(PLUGIN, encoding="utf-8")
        load_plugin(str(self.plugin))

    def plan(self, *methods: str, seeds: int = 1) -> Plan:
        """Return the plan of ``methods`` on cifar10's digits."""
        suite = Suite(
            methods=methods, tasks=("cifar10",), seeds=tuple(range(seeds)), overrides=TINY
        )
        return make_plan(suite, device="cpu", plugins=(str(self.plugin),))

    def run(
        self,
        plan: Plan,
        results: str,
        executor: Executor | Callable[[list[Cell]], Executor] | None = None,
        **policy: Any,
    ) -> tuple[Summary, str]:
        """Run ``plan``; returns the summary and what was said."""
        said = io.StringIO()
        summary = run_plan(
            plan,
            results=self.base / results,
            workers=1,
            threads=1,
            progress=Progress(Console(file=said, width=300)),
            policy=Policy(**policy),
            executor=executor,
        )
        return summary, said.getvalue()


@pytest.fixture
def tiny(tmp_path: Path, no_new_methods: None) -> Tiny:
    """Return what plans and runs tiny cells in a folder of the test's own."""
    return Tiny(tmp_path)
