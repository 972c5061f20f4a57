"""What the report commands do, behind the command line."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from bench.errors import EXIT_FAILED_CELLS, EXIT_OK, BenchError
from bench.report.compare import Comparison, change_table, compare
from bench.report.content import Context
from bench.report.formats import WRITERS
from bench.report.select import Choice, load, render_choice
from bench.store import write_atomically, writing
from bench.terminal import say, warn


def print_tables(results: Path, choice: Choice, out: Path | None, console: Console) -> int:
    """Print the chosen tables, or write them to the file ``out``; return the exit status."""
    if out is not None and out.is_dir():
        raise BenchError(f"--out '{out}' is a folder", "must be a file")
    context = load(results)
    written = render_choice(context, choice)
    if out is None:
        # as it is: a table that is piped on must not be wrapped or coloured
        console.file.write(written)
    else:
        with writing(f"--out '{out}'", "must be a file that can be written"):
            write_atomically(out, written.encode())
        say(f"written: {out}", console)
    return _say_problems(context)


def show_comparison(a: str, b: str, tolerance: float | None, form: str, console: Console) -> int:
    """Print what changed from ``a`` to ``b`` and return the exit status.

    It is 1 when something is worse, or when records could not be used.  ``a`` and ``b`` are folders
    of records, each followed by ``@REVISION`` for the records of one git revision only.
    """
    if form not in WRITERS:
        from bench.errors import unknown

        raise unknown("format", form, WRITERS)
    before, after = _load(a), _load(b)
    found = compare(before, after, tolerance)
    if form == "markdown":
        _say_settings(found, console)
    console.file.write(WRITERS[form](change_table(found)))
    if form == "markdown":
        _say_verdict(found, console)
    code = _say_problems(before, after)
    return EXIT_FAILED_CELLS if found.worse else code


def _say_problems(*contexts: Context) -> int:
    """Warn on standard error of records that could not be used; return the exit status."""
    console = Console(stderr=True, highlight=False)
    for problem in dict.fromkeys(line for context in contexts for line in context.problems):
        warn(problem, console)
    return EXIT_FAILED_CELLS if any(context.refused for context in contexts) else EXIT_OK


def _load(place: str) -> Context:
    folder, at, revision = place.rpartition("@")
    if not at or Path(place).is_dir():
        return load(Path(place), beside=False)
    if len(revision) < 4:
        raise BenchError(f"revision '{revision}' is too short", "give four characters or more")
    return load(Path(folder), revision, beside=False)


def _say_settings(found: Comparison, console: Console) -> None:
    for name, a, b in found.settings:
        say(f"{name}: {a} -> {b}", console)
    console.print()


def _say_verdict(found: Comparison, console: Console) -> None:
    counts: dict[str, int] = {}
    for change in found.changes:
        counts[change.verdict] = counts.get(change.verdict, 0) + 1
    told = ", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items()))
    console.print(f"\n{told}.", markup=False, soft_wrap=True)
    for change in found.worse:
        say(f"{change.verdict}: {change.label} on {change.where}", console)


def publish_results(results: Path, out: Path, predictions: bool, console: Console) -> int:
    """Publish the results, print where and return the exit status."""
    from bench.report.publish import publish

    context, paths = publish(results, out, predictions=predictions)
    say(f"{len(paths)} files in {out}", console)
    return _say_problems(context)


def import_file(path: Path, origin: str, results: Path, replace: bool, console: Console) -> None:
    """Import results and print how many and where."""
    from bench.report.external import import_results

    written = import_results(path, origin, results, replace=replace)
    say(
        f"{len(written)} records of '{origin}' imported, marked as external, in "
        f"{results / 'external'}",
        console,
    )
