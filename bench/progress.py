"""Progress for people: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from bench.executors.worker import Job


class Progress:
    """Shows a run; on a terminal live, else one line a finished job.

    Args:
        console: where to write.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None

    @contextmanager
    def started(self, jobs: Sequence[Job], *, workers: int, reused: int) -> Iterator[None]:
        """Show a run of ``jobs`` while the context lasts."""
        self.total, self.finished, self.failed = len(jobs), 0, 0
        self.workers, self.begun = workers, time.monotonic()
        self.spent: dict[str, float] = {}
        self.running: dict[str, tuple[float, Any]] = {}
        if reused:
            self.console.print(f"{reused} cells are there already and are not run again.")
        if not jobs:
            yield
            return
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
        )
        self.whole = self.bars.add_task("all jobs", total=len(jobs), note="")
        if not self.console.is_terminal:
            yield
            return
        with Live(
            Group(self.bars), console=self.console, refresh_per_second=4, transient=True
        ) as self._live:
            yield
        self._live = None

    def job_started(self, job: Job) -> None:
        """Show that ``job`` runs now."""
        bar = self.bars.add_task(f"  {job.title}", total=job.total or None, note="")
        self.running[job.id] = (time.monotonic(), bar)

    def epoch(self, job: Job, entry: dict[str, Any]) -> None:
        """Show an epoch of ``job``."""
        self.bars.update(self.running[job.id][1], completed=entry["epoch"], note=_metric(entry))

    def job_done(self, job: Job, outcome: dict[str, Any]) -> None:
        """Show that ``job`` has ended."""
        begun, bar = self.running.pop(job.id, (time.monotonic(), None))
        if bar is not None:
            self.bars.remove_task(bar)
        self.finished += 1
        self.failed += outcome["status"] != "ok"
        self.spent[job.id] = time.monotonic() - begun
        self.bars.update(self.whole, completed=self.finished, note=self._left())
        line = Text(f"[{self.finished}/{self.total}] ", style="dim")
        line.append(job.title, style="" if outcome["status"] == "ok" else "red")
        line.append(f"  {_result(job, outcome)}  {self.spent[job.id]:.1f} s")
        if not self.console.is_terminal:
            line.append(f"  {self._left()}")
        self.console.print(line, soft_wrap=True)

    def tick(self) -> None:
        """Refresh what depends on the clock."""
        if self._live is not None:
            self.bars.update(self.whole, note=self._left())

    def _left(self) -> str:
        """Estimate the time left from the jobs finished so far."""
        if not self.finished or self.finished == self.total:
            return ""
        rate = (time.monotonic() - self.begun) / self.finished
        seconds = int(rate * (self.total - self.finished))
        return f"about {seconds // 60}:{seconds % 60:02d} left"


def _metric(entry: dict[str, Any]) -> str:
    if not entry.get("validation"):
        return str(entry["stage"])
    name, value = next(iter(entry["validation"].items()))
    return f"validation {name} {value:.3f}"


def _result(job: Job, outcome: dict[str, Any]) -> str:
    if outcome["status"] != "ok":
        error = outcome["error"]
        return f"failed: {error['class']}: {error['message']}"
    return str(outcome["shown"])
