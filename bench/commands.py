"""What the commands do, behind the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import REGISTRIES
from bench.errors import EXIT_FAILED_CELLS, EXIT_INTERRUPTED, EXIT_OK
from bench.registry import load_plugins
from bench.running import Running
from bench.suites import Suite
from bench.terminal import note, say, warn

if TYPE_CHECKING:
    from bench.drive import Summary
    from bench.executors import Placement
    from bench.plan import Plan

STOPPED = "stopped; finished work is kept, and the same command goes on from there."


def execute(suite: Suite, running: Running, console: Console) -> int:
    """Run the missing cells of ``suite`` and return the exit status."""
    from bench.executors import open_place

    running.policy()  # refused here, before anything is planned
    place = open_place(running)
    plan = _plan(suite, running, console, place.device)
    if running.executor == "local" and place.device == "cpu":  # of other machines nothing is known
        say_if_emulated(plan, console)
    return _ended(_run(plan, running, place, console), "cells run", console)


def _run(plan: Plan, running: Running, place: Placement, console: Console) -> Summary:
    """Run the missing cells of ``plan``."""
    from bench.progress import Progress
    from bench.runner import run_plan

    executor, workers = place.start(plan.cells)
    sources = sorted({cell.source for cell in plan.cells})
    say(
        f"{len(plan.cells)} cells of preset '{plan.cells[0].preset}' ({', '.join(sources)} data) "
        f"on {place.device}, {workers} at once.",
        console,
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
    """Measure the cost of the suite's methods and return the exit status.

    Args:
        once: measure one of the tasks that share models and recipe, with cached signals; else
            all, with the teacher live too.
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
    """Run the cell of a record again, compare, and return the exit status."""
    from bench.progress import Progress
    from bench.reproduce import reproduce

    return reproduce(
        path,
        device=device,
        threads=threads,
        plugins=plugins,
        progress=Progress(console),
        say=lambda line: say(line, console),
    )


def tune_methods(suite: Suite, trials: int, running: Running, console: Console) -> int:
    """Tune the suite's methods, print and write what was found, and return the exit status."""
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
        say(f"chosen on validation: {path}", console)
    if interrupted:
        say(STOPPED, console)
        return EXIT_INTERRUPTED
    return EXIT_FAILED_CELLS if failed else EXIT_OK


def _plan(suite: Suite, running: Running, console: Console, device: str) -> Plan:
    from bench.data.cache import cache_dir
    from bench.plan import Serving, make_plan
    from bench.store import check_writable

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
    for each in dict.fromkeys(plan.notes):
        note(each, console)
    return plan


def say_if_emulated(plan: Plan, console: Console) -> None:
    """Print a note when this processor only emulates the precision of a recipe of ``plan``."""
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
    note(
        "these cells train in bfloat16, which this processor only emulates, slower than float32 "
        f"({settings} makes them other cells, in separate tables)",
        console,
    )


def _ended(summary: Summary, what: str, console: Console) -> int:
    """Print how a run went and return the exit status."""
    others = f", {summary.elsewhere} by another runner" if summary.elsewhere else ""
    say(f"{summary.done} {what}, {summary.reused} already there{others}.", console)
    for status, number in sorted(summary.kept.items()):
        say(
            f"{number} ended as '{status}' before and were not run again "
            f"(--retry {status} runs them).",
            console,
        )
    for line in summary.failed:
        say(line, console, "red")
    if summary.interrupted:
        say(STOPPED, console)
        return EXIT_INTERRUPTED
    if summary.failed:
        say(f"{len(summary.failed)} failed.", console)
    return EXIT_FAILED_CELLS if summary.failed or summary.kept else EXIT_OK


def use_plugins(plugins: Sequence[str], console: Console) -> tuple[str, ...]:
    """Import plug-ins, with a warning for each that fails.

    Returns:
        Those that could be imported, files as absolute paths: workers start elsewhere.
    """
    failed = load_plugins(plugins)
    for problem in failed.values():
        warn(problem, console)
    for registry in REGISTRIES.values():
        registry.names()
        for problem in registry.problems:
            warn(problem, console)
    return tuple(
        str(Path(each).resolve()) if each.endswith(".py") else each
        for each in plugins
        if each not in failed
    )


def write_report(results: Path, reports: Path, console: Console) -> int:
    """Render the reports, print their paths and return the exit status."""
    from bench.report import write_reports
    from bench.store import writing

    with writing(f"'{reports}'", "use --reports"):
        summary = write_reports(results, reports)
    for problem in summary.problems:
        warn(problem, console)
    say(f"{summary.records} records rendered:", console)
    for path in summary.paths:
        console.print(f"  {path}", markup=False, soft_wrap=True)
    if summary.refused:
        say(f"{summary.refused} could not be used.", console)
    return EXIT_FAILED_CELLS if summary.refused else EXIT_OK
