"""The command line of the commands on results, without logic of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.options import Reports, Results
from bench.terminal import CONSOLE


def report(
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    task: Annotated[
        str | None, typer.Option(help="Print the tables of these tasks instead: cifar10,amazon.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns to print: method,test,gain,p_scratch,seeds.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="Column to sort by, best or largest first; -COLUMN reverses.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="markdown, latex, csv or html.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the printed tables to this file.")] = None,
) -> None:
    """Render the reports from the records alone, or print chosen tables.

    \b
      python -m bench report
      python -m bench report --task cifar10 --columns method,test,gain --sort gain
      python -m bench report --task cifar10 --format latex --out table.tex
    """
    if all(option is None for option in (task, columns, sort, format_, out)):
        from bench.commands import write_report

        raise typer.Exit(write_report(results, reports, CONSOLE))
    from bench.arguments import split_names
    from bench.report.command import print_tables
    from bench.report.select import Choice

    choice = Choice(
        split_names(task or ""), split_names(columns or ""), sort or "", format_ or "markdown"
    )
    raise typer.Exit(print_tables(results, choice, out, CONSOLE))


def compare(
    a: Annotated[str, typer.Argument(help="Folder of records, or FOLDER@REVISION.")],
    b: Annotated[str, typer.Argument(help="The one to compare with the first.")],
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="Points a mean may fall, however few the seeds.")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="markdown, latex, csv or html.")
    ] = "markdown",
) -> None:
    """Compare two result sets, seed by seed.

    Exits with 1 when B is worse than A beyond noise, or lacks what A has.
    """
    from bench.report.command import show_comparison

    raise typer.Exit(show_comparison(a, b, tolerance, format_, CONSOLE))


def publish(
    out: Annotated[Path, typer.Argument(help="A new or empty folder, or one published before.")],
    results: Results = Path("results"),
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Publish saved predictions too; they are large.")
    ] = False,
) -> None:
    """Write a folder for any static host: page, tables, figures, records, checksums."""
    from bench.report.command import publish_results

    raise typer.Exit(publish_results(results, out, predictions, CONSOLE))


def import_(
    path: Annotated[Path, typer.Argument(help="A record (.json) or a table (.csv).")],
    origin: Annotated[str, typer.Option(help="Whose results these are, shown in every table.")],
    results: Results = Path("results"),
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite what was imported before.")
    ] = False,
) -> None:
    """Import somebody else's results, checked and marked as theirs.

    The columns of a table are in docs/reports.md.
    """
    from bench.report.command import import_file

    import_file(path, origin, results, replace, CONSOLE)
