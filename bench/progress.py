"""Progress for people: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from bench.executors.worker import Job
from bench.privacy import one_line


class Progress:
    """Shows a run: live on a terminal, else one line per finished job.

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
        self._elsewhere: set[str] = set()
        if reused:
            self.console.print(f"{reused} cells are already there and are not run again.")
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
        """Show that ``job`` has started."""
        bar = self.bars.add_task(
            f"  {escape(one_line(job.title))}", total=job.total or None, note=""
        )
        self.running[job.id] = (time.monotonic(), bar)

    def epoch(self, job: Job, entry: dict[str, Any]) -> None:
        """Show an epoch of ``job``."""
        self.bars.update(self.running[job.id][1], completed=entry["epoch"], note=_metric(entry))

    def note(self, text: str) -> None:
        """Print ``text`` as a note."""
        self.console.print(Text(f"note: {one_line(text)}", style="yellow"), soft_wrap=True)

    def elsewhere(self, job: Job) -> None:
        """Say, once, that another runner is running ``job``."""
        if job.id not in self._elsewhere:
            self._elsewhere.add(job.id)
            self.note(f"{job.title}: another runner is running it; waiting for its result")

    def job_left(self, job: Job) -> None:
        """Stop showing ``job``, which stopped without a result."""
        _, bar = self.running.pop(job.id, (0.0, None))
        if bar is not None:
            self.bars.remove_task(bar)

    def job_done(self, job: Job, outcome: dict[str, Any]) -> None:
        """Show that ``job`` has ended."""
        begun, bar = self.running.pop(job.id, (time.monotonic(), None))
        if bar is not None:
            self.bars.remove_task(bar)
        self.finished += 1
        fine = outcome["status"] in ("ok", "skipped")
        self.failed += not fine
        self.spent[job.id] = time.monotonic() - begun
        self.bars.update(self.whole, completed=self.finished, note=self._left())
        line = Text(f"[{self.finished}/{self.total}] ", style="dim")
        line.append(one_line(job.title), style="" if fine else "red")
        line.append(f"  {one_line(_result(outcome))}  {self.spent[job.id]:.1f} s")
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


def _result(outcome: dict[str, Any]) -> str:
    if outcome["status"] == "ok":
        return str(outcome["shown"])
    error = outcome["error"]
    if outcome["status"] == "skipped":
        return f"skipped: {error['message']}"
    hint = f" ({error['hint']})" if error.get("hint") else ""
    return f"{outcome['status']}: {error['class']}: {error['message']}{hint}"
