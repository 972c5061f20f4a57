"""The commands that only look: what is registered, what this machine has, what data can be read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import BASELINES, METHODS, REGISTRIES, TASKS, registry_of
from bench.errors import EXIT_OK, EXIT_USER, BenchError, blamed, unknown
from bench.privacy import one_line
from bench.settings import settings_of
from bench.suites import Suite
from bench.terminal import note, say


def list_registered(what: str, console: Console, only: Sequence[str] = ()) -> None:
    """Print a table of what is registered, or of what can be set.

    Args:
        what: "methods", "tasks", "baselines", "presets", "options" or "settings".
        console: where to print.
        only: tasks to list the presets of, or methods to list the options of; else all.

    Raises:
        BenchError: for an unknown list or name, and for names with another list.
    """
    narrowed = {"presets": _list_presets, "options": _list_options}
    if what in narrowed:
        narrowed[what](console, only)
        return
    if what not in (*REGISTRIES, "settings"):
        raise unknown("list", what, [*REGISTRIES, *narrowed, "settings"])
    if only:
        raise BenchError(f"list {what} takes no other argument, got '{','.join(only)}'")
    if what == "settings":
        _list_settings(console)
        return
    table = Table("name", "what it is", box=None, pad_edge=False)
    table.add_column("where", no_wrap=True)  # a place that is cut or broken cannot be copied
    for entry in REGISTRIES[what].entries():
        words = (entry.name, entry.summary, entry.origin)
        table.add_row(*(escape(one_line(word)) for word in words))
    console.print(table)


def _list_presets(console: Console, tasks: Sequence[str]) -> None:
    from tabulate import tabulate

    found = []
    for name in tasks or TASKS.names():
        for preset, values in TASKS.get(name).presets.items():
            found.append((preset, name, values))
    order = {preset: at for at, preset in enumerate(("quick", "small", "standard", "paper"))}
    rows = [
        (preset, name, values.student, values.teacher, str(values.recipe.epochs), values.source)
        for preset, name, values in sorted(found, key=lambda row: (order.get(row[0], 9), row[1]))
    ]
    head = ("preset", "task", "student", "teacher", "epochs", "data")
    # not fitted to the terminal: a model's name that is broken in the middle cannot be copied
    written = tabulate(rows, head, tablefmt="plain", disable_numparse=True)
    console.print(written, markup=False, soft_wrap=True)


def _list_options(console: Console, contenders: Sequence[str]) -> None:
    """Print the options of each method and baseline that has any, or of those named."""
    from bench.plan import kind_of

    table = Table(box=None, pad_edge=False)
    for column in ("method", "option"):  # a name that is cut or broken cannot be copied
        table.add_column(column, no_wrap=True)
    for column in ("default", "allowed", "meaning"):
        table.add_column(column)
    for name in contenders or (*METHODS.names(), *BASELINES.names()):
        registry = registry_of(kind_of(name))
        try:
            config = registry.get(name).Config
        except BenchError as error:  # a package it needs is not installed
            note(str(error), console)
            continue
        found = list(settings_of(config))
        if contenders and not found:
            note(f"'{name}' has no options", console)
        for each in found:
            words = (name, each.path, each.default, each.allowed, each.meaning)
            table.add_row(*(escape(one_line(word, 500)) for word in words))
    console.print(table)
    console.print("Write NAME:OPTION=VALUE, say kd:temperature=2.", markup=False)


def _list_settings(console: Console) -> None:
    """Print the fields of a preset, those of the three recipes once."""
    from bench.generators import build
    from bench.models import retriever, text, vision
    from bench.tasks.preset import Preset
    from bench.tasks.retrieval import RetrievalPreset

    general = {each.path for each in settings_of(Preset)}
    table = Table("setting", "allowed", "meaning", box=None, pad_edge=False)
    for each in settings_of(RetrievalPreset):
        if each.path.startswith(("teacher_recipe.", "generator_recipe.")) or each.path == "source":
            continue  # a source is asked for by --source
        meaning = each.meaning if each.path in general else f"{each.meaning} Retrieval only."
        table.add_row(*(escape(word) for word in (each.path, each.allowed, meaning)))
    console.print(table)
    for line in (
        "teacher_recipe and generator_recipe have the fields of recipe; plain epochs and "
        "batch_size are recipe's. What a preset sets: python -m bench list presets.",
        f"Image models: {vision.KNOWN}.",
        f"Text models: {text.KNOWN}.",
        f"Retrievers: {retriever.KNOWN}.",
        f"Generators: for images {build.KNOWN['image']}; for texts {build.KNOWN['text']}.",
        "Write --set SETTING=VALUE, or for one task only --tasks TASK:SETTING=VALUE.",
    ):
        say(line, console)


def show_doctor(device: str, console: Console) -> None:
    """Print what this machine has."""
    from bench.data.cache import cache_dir
    from bench.environment import bfloat16_support, choose_device, device_name, versions

    chosen = choose_device(device)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("device", f"{chosen} ({device_name(chosen)})")
    table.add_row("precision", f"bfloat16 autocast, {bfloat16_support(chosen)}")
    table.add_row("versions", ", ".join(f"{name} {value}" for name, value in versions().items()))
    cache = cache_dir()
    free = shutil.disk_usage(cache).free / 2**30
    table.add_row("cache", f"{cache} ({free:.0f} GiB free)")
    table.add_row("embedded data", "available")
    for kind in ("mirror", "hub"):
        for name, state in _reachable(kind):
            table.add_row(name, state)
    console.print(table, soft_wrap=True)


def _reachable(kind: str) -> list[tuple[str, str]]:
    """Return what can be read from a source, as rows of two columns."""
    from bench.data.hub_refs import ALL
    from bench.data.sources import open_source

    if kind == "mirror" and not os.environ.get("BENCH_DATA"):
        return [("mirror", "not set (set BENCH_DATA to a folder)")]
    try:
        source = open_source(kind)
    except BenchError as error:
        return [(kind, str(error))]
    states = {}
    for ref in ALL:
        splits = list(ref.files) if kind == "hub" and ref.files else ["train"]
        problem = source.problem(ref, splits)
        if problem and problem.startswith("cannot reach the hub"):
            return [(kind, "cannot be reached from here")]
        states[f"{kind} {ref.name}"] = problem or "available"
    return list(states.items())


def show_data(suite: Suite, prefetch: bool, console: Console) -> int:
    """Print what each task would load and return the exit status."""
    from bench.plan import choose_source, task_specs

    columns = ("task", "data", "source", "revision", "fingerprint", "rows")
    table = Table(*columns, box=None, pad_edge=False)
    problems = []
    for name, options in task_specs(suite):
        try:
            cls = TASKS.get(name)
            task = cls(suite.preset, source=choose_source(name, suite), overrides=options)
            with blamed("the task"):
                problem = task.problem()
                if problem:
                    raise BenchError(problem)
                origin = task.origin()
                rows = ""
                if prefetch:
                    rows = "/".join(str(count) for count in task.load().rows().values())
        except BenchError as error:
            problems.append(f"{name}: {error}")
            continue
        table.add_row(
            task.full_name,
            origin.name,
            origin.source,
            origin.revision,
            origin.fingerprint[:12],
            rows,
        )
    console.print(table, soft_wrap=True)
    for line in problems:
        say(f"cannot be read: {line}", console, "red")
    return EXIT_USER if problems else EXIT_OK
