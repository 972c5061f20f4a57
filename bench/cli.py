"""The command line: parses the options and hands them on, without logic of its own."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USER, BenchError
from bench.options import (
    Address,
    CacheSize,
    CellTimeout,
    CheckCache,
    Compile,
    Device,
    Devices,
    Live,
    Methods,
    Plugins,
    PresetName,
    Reports,
    Requests,
    Results,
    Retry,
    Seeds,
    Settings,
    SourceName,
    Tasks,
    TeacherSeed,
    Threads,
    Where,
    Workers,
)
from bench.report.cli import compare, import_, publish, report
from bench.terminal import CONSOLE, refuse

if TYPE_CHECKING:
    from bench.suites import Suite

ABOUT = """Which knowledge-distillation method should I use, and what does it cost?

\b
  python -m bench all                                   every method on embedded data, then a report
  python -m bench run --methods scratch,kd --tasks amazon --seeds 3
  python -m bench run --methods kd,kd:temperature=2 --tasks cifar10 --preset small
  python -m bench list methods
  python -m bench report
"""
app = typer.Typer(
    help=ABOUT,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("all")
def run_all(
    preset: PresetName = "quick",
    seeds: Seeds = "3",
    source: SourceName = None,
    device: Device = "auto",
    workers: Workers = None,
    threads: Threads = 1,
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    plugin: Plugins = None,
    cache_gb: CacheSize = 8.0,
    retry: Retry = "failed",
    cell_timeout: CellTimeout = None,
    cost: Annotated[bool, typer.Option(help="Measure costs after running the cells.")] = True,
) -> None:
    """Run every cell of a preset, measure costs, render the report.

    Finished cells are not run again: stop and restart as you like.  Costs are measured on one of
    the tasks that share models and recipe, with the teacher's signals cached ("profile" measures
    them on any task, and with the teacher live too).
    """
    from bench.commands import execute, measure, write_report
    from bench.running import Running

    suite = _suite("all", "all", preset, seeds, 0, source, None)
    running = Running(
        device=device,
        workers=workers,
        threads=threads,
        results=results,
        plugins=_plugins(plugin),
        cache_gb=cache_gb,
        retry=retry,
        cell_timeout=cell_timeout,
    )
    code = execute(suite, running, CONSOLE)
    if cost and code != EXIT_INTERRUPTED:
        code = max(code, measure(suite, running, CONSOLE, once=True))
    if code != EXIT_INTERRUPTED:
        code = max(code, write_report(results, reports, CONSOLE))
    raise typer.Exit(code)


@app.command()
def run(
    context: typer.Context,
    suite: Annotated[
        Path | None, typer.Argument(help="A suite file (.yaml or .toml), instead of the options.")
    ] = None,
    methods: Methods = "all",
    tasks: Tasks = "all",
    preset: PresetName = "quick",
    seeds: Seeds = "3",
    teacher_seed: TeacherSeed = 0,
    source: SourceName = None,
    set_: Settings = None,
    device: Device = "auto",
    workers: Workers = None,
    threads: Threads = 1,
    results: Results = Path("results"),
    plugin: Plugins = None,
    cache_gb: CacheSize = 8.0,
    live: Live = False,
    check_cache: CheckCache = False,
    compile_: Compile = False,
    retry: Retry = "failed",
    cell_timeout: CellTimeout = None,
    executor: Where = "local",
    devices: Devices = None,
    address: Address = None,
    request: Requests = None,
) -> None:
    """Run chosen methods on chosen tasks.

    Each cell (method × task × seed) leaves one record.

    \b
      python -m bench run --methods scratch,kd,fitnets --tasks amazon,sentiment140
      python -m bench run --methods kd:temperature=2 --tasks cifar10 --seeds 0,1
      python -m bench run suites/mine.yaml
      BENCH_DATA=mirror python -m bench run --tasks cifar10 --preset small
      python -m bench run --preset small --devices cuda:0,cuda:1
      python -m bench run --preset small --executor ray --request '*/small:gpus=0.25'
    """
    from bench.commands import execute
    from bench.running import Running
    from bench.suites import read_suite

    if suite is not None:
        _refuse_beside_a_suite(context, suite)
    chosen = (
        read_suite(suite)
        if suite is not None
        else _suite(methods, tasks, preset, seeds, teacher_seed, source, set_)
    )
    if compile_:
        chosen = chosen.model_copy(
            update={"overrides": {**chosen.overrides, "recipe.compile": True}}
        )
    running = Running(
        device=device,
        workers=workers,
        threads=threads,
        results=results,
        plugins=_plugins(plugin),
        cache_gb=cache_gb,
        live=live,
        check_cache=check_cache,
        retry=retry,
        cell_timeout=cell_timeout,
        executor=executor,
        devices=devices,
        address=address,
        requests=tuple(request or ()),
    )
    raise typer.Exit(execute(chosen, running, CONSOLE))


@app.command()
def profile(
    methods: Methods = "all",
    tasks: Tasks = "all",
    preset: PresetName = "quick",
    source: SourceName = None,
    set_: Settings = None,
    device: Device = "auto",
    threads: Threads = 1,
    results: Results = Path("results"),
    plugin: Plugins = None,
    cache_gb: CacheSize = 8.0,
) -> None:
    """Measure what methods cost, and nothing else.

    Training and inference throughput, latency, memory, FLOPs: one process at a time, after
    warm-up, with the teacher cached and live.  Keep the machine otherwise idle.
    """
    from bench.commands import measure
    from bench.running import Running

    suite = _suite(methods, tasks, preset, "1", 0, source, set_)
    running = Running(
        device=device,
        workers=1,
        threads=threads,
        results=results,
        plugins=_plugins(plugin),
        cache_gb=cache_gb,
    )
    raise typer.Exit(measure(suite, running, CONSOLE))


@app.command()
def reproduce(
    record: Annotated[Path, typer.Argument(help="A record (.json) of a finished cell.")],
    device: Device = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads; by default the record's.")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Run a recorded cell again from its record alone, and compare every number.

    Exits with 0 when all are the same to the last bit.  Differences in versions, machine, code
    and data are listed first.
    """
    from bench.commands import reproduce_record

    raise typer.Exit(reproduce_record(record, device, threads, _plugins(plugin), CONSOLE))


@app.command()
def tune(
    methods: Methods = "all",
    tasks: Annotated[str, typer.Option(help="Tasks, each tuned separately.")] = "cifar10",
    preset: PresetName = "quick",
    trials: Annotated[
        int, typer.Option(min=1, help="Trials per method, including its default.")
    ] = 12,
    seeds: Annotated[
        str,
        typer.Option(help="Seeds of each trial, as a list ('1000,' is one); no published seeds."),
    ] = "1000,",
    source: SourceName = None,
    set_: Settings = None,
    device: Device = "auto",
    workers: Workers = None,
    threads: Threads = 1,
    results: Results = Path("tuning"),
    plugin: Plugins = None,
    cache_gb: CacheSize = 8.0,
) -> None:
    """Tune methods equally: the same number of trials and the same validation data for each.

    Trials are cells with their own records, scored on validation only; the chosen options are
    written as a suite file.  Needs optuna; stop and restart as you like.

    \b
      python -m bench tune --methods kd,dkd,lelp --tasks cifar10 --trials 12
      python -m bench run tuning/quick/cifar10.yaml
    """
    from bench.commands import tune_methods
    from bench.running import Running

    suite = _suite(methods, tasks, preset, seeds, 0, source, set_)
    running = Running(
        device=device,
        workers=workers,
        threads=threads,
        results=results,
        plugins=_plugins(plugin),
        cache_gb=cache_gb,
    )
    raise typer.Exit(tune_methods(suite, trials, running, CONSOLE))


@app.command("list")
def list_parts(
    what: Annotated[
        str, typer.Argument(help="methods, tasks, baselines, presets, options or settings.")
    ],
    of: Annotated[
        str, typer.Argument(help="Options of these methods, presets of these tasks, only: kd,tgt.")
    ] = "",
    plugin: Plugins = None,
) -> None:
    """List methods, tasks, baselines or presets, or what can be set.

    "options" are those of each method (kd:temperature=2), "settings" those of a preset (--set).

    \b
      python -m bench list methods
      python -m bench list options kd,tgt
      python -m bench list presets cifar10
    """
    from bench.arguments import split_names
    from bench.inquiries import list_registered

    _plugins(plugin)
    list_registered(what, CONSOLE, split_names(of))


app.command()(report)
app.command()(compare)
app.command()(publish)
app.command("import")(import_)


@app.command()
def doctor(device: Device = "auto") -> None:
    """Show what this machine has.

    Device, precision, versions, reachable data sources, free disk space.
    """
    from bench.inquiries import show_doctor

    show_doctor(device, CONSOLE)


@app.command()
def data(
    tasks: Tasks = "all",
    preset: PresetName = "quick",
    source: SourceName = None,
    plugin: Plugins = None,
    prefetch: Annotated[bool, typer.Option(help="Load everything once, to fill caches.")] = False,
) -> None:
    """Show what each task would load, and from where.

    With fingerprints; --prefetch loads everything once.
    """
    from bench.inquiries import show_data

    _plugins(plugin)
    raise typer.Exit(
        show_data(_suite("all", tasks, preset, "1", 0, source, None), prefetch, CONSOLE)
    )


GRID_OPTIONS = ("methods", "tasks", "preset", "seeds", "teacher_seed", "source", "set_")


def _refuse_beside_a_suite(context: typer.Context, suite: Path) -> None:
    """Refuse options that say what to run, which a suite file already says."""
    if "=" in str(suite) and not suite.exists():  # --set epochs=1 batch_size=32
        raise BenchError(
            f"'{suite}' is no suite file", f"each setting has its own --set: --set {suite}"
        )
    for name in GRID_OPTIONS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            flag = "--" + name.strip("_").replace("_", "-")
            raise BenchError(f"{flag} cannot be given with a suite file", "put it into the file")


def _suite(
    methods: str,
    tasks: str,
    preset: str,
    seeds: str,
    teacher_seed: int,
    source: str | None,
    settings: list[str] | None,
) -> Suite:
    from bench.arguments import parse_seeds, parse_settings, split_names
    from bench.config import build
    from bench.suites import Suite

    values = {
        "methods": split_names(methods),
        "tasks": split_names(tasks),
        "preset": preset,
        "seeds": parse_seeds(seeds),
        "teacher_seed": teacher_seed,
        "source": source,
        "overrides": parse_settings(settings or []),
    }
    return build(Suite, values, "the command line")


def _plugins(given: list[str] | None) -> tuple[str, ...]:
    from bench.commands import use_plugins

    return use_plugins(given or (), CONSOLE)


def main() -> int:
    """Run the command line and return the exit status (or leave through ``SystemExit``)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of a terminal that has not all characters
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except BenchError as error:
        refuse(str(error))
        return EXIT_USER
    except OSError as error:
        from bench.failures import storage_problem

        problem = storage_problem(error)
        if problem is not None:
            refuse(f"{problem} (finished work is kept)")
            return EXIT_USER
        if error.filename is None:
            raise
        refuse(f"'{error.filename}': {error.strerror}")  # a name that no file can have, say
        return EXIT_USER
    return EXIT_OK
