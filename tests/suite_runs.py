"""Runs of methods that ask for too much, each job in a process of its own."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.plan import make_plan
from bench.progress import Progress
from bench.registry import load_plugin
from bench.runner import Policy, Summary, run_plan
from bench.store import read_records
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


@register_method("unasked")
class Unasked(Method):
    """Fail when asked which layers it reads."""

    signals = frozenset({"logits", "hidden"})

    def hints(self, pairs):
        return self.made_in_setup

    def loss(self, **given):
        raise NotImplementedError


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


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(timeout=120)
    assert not thread.is_alive()
