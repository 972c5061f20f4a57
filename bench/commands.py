"""What the commands do, behind the command line."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import BASELINES, METHODS, TASKS
from bench.arguments import parse_retry
from bench.errors import (
    EXIT_FAILED_CELLS,
    EXIT_INTERRUPTED,
    EXIT_OK,
    BenchError,
)
from bench.privacy import one_line
from bench.registry import Registry, load_plugins
from bench.suites import Suite

if TYPE_CHECKING:
    from bench.drive import Summary
    from bench.executors import Placement
    from bench.plan import Plan
    from bench.runner import Policy

STOPPED = "stopped; what was finished is kept, the same command goes on from there."


@dataclass(frozen=True, kw_only=True)
class Running:
    """How to run: on what, how many at once, where records go, how teachers are served.

    Args:
        plugins: what :func:`use_plugins` returned.
    """

    device: str
    workers: int | None
    threads: int
    results: Path
    plugins: tuple[str, ...] = ()
    cache_gb: float = 8.0
    live: bool = False
    check_cache: bool = False
    retry: str = "failed"
    cell_timeout: float | None = None
    executor: str = "local"
    devices: str | None = None
    address: str | None = None
    requests: tuple[str, ...] = ()

    def policy(self) -> Policy:
        """Return how the run deals with what goes wrong."""
        from bench.runner import Policy
        from bench.training.checkpoint import chosen_interval

        limit = self.cell_timeout
        if limit is not None and not 0 < limit < float("inf"):
            raise BenchError(f"cannot limit a cell to {limit:g} seconds", "more than 0")
        if not self.cache_gb < float("inf"):
            raise BenchError(f"cannot keep {self.cache_gb:g} gigabytes of teacher signals")
        chosen_interval()  # refused here, before any cell would be
        return Policy(parse_retry(self.retry), limit)


def execute(suite: Suite, running: Running, console: Console) -> int:
    """Run what is missing of ``suite``; returns the exit status."""
    from bench.executors import open_place

    running.policy()  # refused here, before anything is planned
    place = open_place(running)
    plan = _plan(suite, running, console, place.device)
    if running.executor == "local" and place.device == "cpu":  # of other machines nothing is known
        say_if_emulated(plan, console)
    return _ended(_run(plan, running, place, console), "cells run", console)


def _run(plan: Plan, running: Running, place: Placement, console: Console) -> Summary:
    """Run what is missing of ``plan``."""
    from bench.progress import Progress
    from bench.runner import run_plan

    executor, workers = place.start(plan.cells)
    sources = sorted({cell.source for cell in plan.cells})
    console.print(
        f"{len(plan.cells)} cells of preset '{plan.cells[0].preset}' ({', '.join(sources)} data) "
        f"on {place.device}, {workers} at once.",
        markup=False,
        soft_wrap=True,
    )
    return run_plan(
        plan,
        results=running.results,
        workers=workers,
        threads=running.threads,
        progress=Progress(console),
        policy=running.policy(),
        executor=executor,
    )


def measure(suite: Suite, running: Running, console: Console, *, once: bool = False) -> int:
    """Measure the cost of the suite's methods; returns the exit status.

    Args:
        once: measure one task of those that share their models and recipe, with cached signals;
            else all, with the teacher live too.
    """
    from bench.environment import choose_device
    from bench.progress import Progress
    from bench.runner import first_alike, measure_plan

    policy = running.policy()
    plan = _plan(suite, running, console, choose_device(running.device))
    if once:
        plan = first_alike(plan)
    summary = measure_plan(
        plan,
        results=running.results,
        threads=running.threads,
        progress=Progress(console),
        policy=policy,
        live=not once,
    )
    return _ended(summary, "costs measured", console)


def reproduce_record(
    path: Path, device: str, threads: int | None, plugins: Sequence[str], console: Console
) -> int:
    """Run the cell of a record again and compare; returns the exit status."""
    from bench.environment import choose_device
    from bench.progress import Progress
    from bench.reproduce import reproduce

    return reproduce(
        path,
        device=choose_device(device),
        threads=threads,
        plugins=plugins,
        progress=Progress(console),
        say=lambda line: console.print(one_line(line), markup=False, soft_wrap=True),
    )


def tune_methods(suite: Suite, trials: int, running: Running, console: Console) -> int:
    """Tune the suite's methods, print what was found and write it down; returns the exit status."""
    from bench.chosen import chosen_path, write_chosen
    from bench.executors import open_place
    from bench.tuning import tunable, tune

    place = open_place(running)
    table = Table("task", "method", "trials", "default", "best", box=None, pad_edge=False)
    table.add_column("chosen", overflow="fold")  # cut off it would be of no use
    written, failed, interrupted = [], False, False
    for task, studies, interrupted in tune(
        tunable(suite),
        trials=trials,
        results=running.results,
        plan=lambda one: _plan(one, running, console, place.device),
        run=lambda plan: _run(plan, running, place, console),
    ):
        for study in studies:
            best = study.best
            table.add_row(
                task,
                escape(study.title),
                str(len(study.told)),
                *("-" if score is None else f"{score:.4f}" for score in study.ends),
                escape(best[0]) if best else "-",
            )
            failed = failed or study.failed
        if not interrupted:
            path = chosen_path(running.results, suite, task)
            if write_chosen(path, suite, studies, task):
                written.append(path)
    console.print(table, soft_wrap=True)
    for path in written:
        console.print(f"chosen on validation: {path}", markup=False, soft_wrap=True)
    if interrupted:
        console.print(STOPPED)
        return EXIT_INTERRUPTED
    return EXIT_FAILED_CELLS if failed else EXIT_OK


def _plan(suite: Suite, running: Running, console: Console, device: str) -> Plan:
    from bench.data.cache import cache_dir
    from bench.plan import Serving, make_plan

    plan = make_plan(
        suite,
        device=device,
        plugins=running.plugins,
        serving=Serving(
            "live" if running.live else "auto", int(running.cache_gb * 2**30), running.check_cache
        ),
    )
    check_writable(running.results)
    cache_dir()  # refused here, before any cell would be
    for note in dict.fromkeys(plan.notes):
        console.print(f"note: {one_line(note)}", markup=False, soft_wrap=True)
    return plan


def say_if_emulated(plan: Plan, console: Console) -> None:
    """Say so where this processor only emulates the precision that something is trained in."""
    from bench.environment import bfloat16_support

    slow: dict[str, None] = {}  # in this order
    for cell in plan.cells:
        recipes = {
            "recipe": cell.trained,
            "teacher_recipe": cell.teacher is not None and not cell.teacher.checkpoint,
            "generator_recipe": cell.generator is not None,
        }
        for name, used in recipes.items():
            recipe = cell.preset_values[name]
            if used and recipe and recipe["precision"] == "bfloat16":
                slow[name] = None
    if not slow or bfloat16_support("cpu") != "emulated":
        return
    settings = " ".join(f"--set {name}.precision=float32" for name in slow)
    console.print(
        "note: this processor has no bfloat16, in which these cells train: emulated it is slower "
        f"than float32 ({settings} gives other cells, in tables of their own)",
        markup=False,
        soft_wrap=True,
    )


def _ended(summary: Summary, what: str, console: Console) -> int:
    """Say how a run went; returns the exit status."""
    others = f", {summary.elsewhere} by another runner" if summary.elsewhere else ""
    console.print(f"{summary.done} {what}, {summary.reused} there already{others}.")
    for status, number in sorted(summary.kept.items()):
        console.print(
            f"{number} ended as '{status}' before and were not run again "
            f"(--retry {status} runs them).",
            markup=False,
            soft_wrap=True,
        )
    for line in summary.failed:
        console.print(one_line(line), style="red", markup=False, soft_wrap=True)
    if summary.interrupted:
        console.print(STOPPED)
        return EXIT_INTERRUPTED
    if summary.failed:
        console.print(f"{len(summary.failed)} failed.")
    return EXIT_FAILED_CELLS if summary.failed or summary.kept else EXIT_OK


def use_plugins(plugins: Sequence[str], console: Console) -> tuple[str, ...]:
    """Import plug-ins; one that fails is named.

    Returns:
        Those that could be imported, files by their whole paths: workers start elsewhere.
    """
    failed = load_plugins(plugins)
    for problem in failed.values():
        warn(problem, console)
    for registry in registries().values():
        registry.names()
        for problem in registry.problems:
            warn(problem, console)
    return tuple(
        str(Path(each).resolve()) if each.endswith(".py") else each
        for each in plugins
        if each not in failed
    )


def warn(problem: str, console: Console) -> None:
    """Print a warning as one line; names in it may be a stranger's."""
    line = one_line(problem, 1000)
    console.print(f"warning: {line}", style="yellow", markup=False, soft_wrap=True)


def check_writable(folder: Path) -> None:
    """Raise :class:`BenchError` unless records can be written below ``folder``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"'{folder}' cannot be made: {error.strerror}", "use --results") from error
    try:
        # permission bits do not tell of a read-only mount or a full disk: only writing does
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"written")
    except OSError as error:
        raise BenchError(
            f"'{folder}' cannot be written: {error.strerror}", "use --results"
        ) from error


def write_report(results: Path, reports: Path, console: Console) -> int:
    """Render the reports and say where they are; returns the exit status."""
    from bench.report import write_reports
    from bench.store import writing

    with writing(f"'{reports}'", "use --reports"):
        summary = write_reports(results, reports)
    for problem in summary.problems:
        warn(problem, console)
    console.print(f"{summary.records} records rendered:")
    for path in summary.paths:
        console.print(f"  {path}", markup=False, soft_wrap=True)
    if summary.refused:
        console.print(f"{summary.refused} could not be used.")
    return EXIT_FAILED_CELLS if summary.refused else EXIT_OK


def registries() -> dict[str, Registry[Any]]:
    """Return the registries by what they hold."""
    return {"methods": METHODS, "baselines": BASELINES, "tasks": TASKS}
