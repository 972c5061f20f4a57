"""The leaderboard as Markdown: an overview, then one table for every task and preset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
import pandas as pd

from bench.report import text
from bench.report.costs import cost_table
from bench.report.frame import CEILING, REFERENCE
from bench.report.groups import group_table
from bench.report.queries import query_table
from bench.report.remarks import caption, dates, remarks
from bench.report.sections import Line, Section, sections
from bench.store import Record

# Fewer seeds than this name no winner.
SEEDS_FOR_BOLD = 3

INTRODUCTION = f"""\
Every number is on the test split and is a mean ± standard deviation over seeds. Nothing was chosen
on the test split: the *test* column takes the epoch that was best on validation, the *last epoch*
column takes the final one. The *gain* is the difference to *{REFERENCE}*, the same student trained
on hard labels alone, taken seed by seed (same initialisation and batch order) and then averaged;
positive is better. *Gap closed* is the share of the way from *{REFERENCE}* (0 %) to *{CEILING}*
(100 %). Rows in italics are baselines; those run once are held against the mean of *{REFERENCE}*
and marked *unpaired*. *Parameters* are what is deployed, *extra* is what is trained beside the
student and thrown away; *train s* is wall time with other cells perhaps running beside it, not
an isolated cost. The best distillation method is bold only if all its seeds finished and
there are at least {SEEDS_FOR_BOLD}; bold does not mean significant."""

OVERVIEW = f"""\
Mean gain over *{REFERENCE}* on each task, in points (in the metric's own unit where it is no
share). The last column averages a row only if every task in it is complete. Gains on different
tasks are not on one scale, so read the row before its mean."""


def render_leaderboard(
    frame: pd.DataFrame,
    *,
    superseded: int = 0,
    problems: Sequence[str] = (),
    figure: str | None = None,
    costs: Sequence[Record] = (),
    each: Mapping[str, np.ndarray] | None = None,
) -> str:
    """Return the leaderboard of ``frame`` (see :mod:`bench.report.frame`) as Markdown.

    Args:
        frame: one row a cell.
        superseded: records left out for another one of the same cell, told at the end.
        problems: records that could not be used, told at the end.
        figure: relative link to the figure, or None to leave it out.
        costs: cost records; each table of scores is followed by the costs of its methods.
        each: by record key, what single test queries scored.
    """
    parts = sections(frame)
    lines = ["# Distillation Bench: leaderboard", "", INTRODUCTION, ""]
    lines += _overview(parts)
    if figure is not None:
        lines += [f"![Test scores of every method, seed by seed]({figure})", ""]
    for section in parts:
        lines += _section(section)
        lines += group_table(section)
        lines += query_table(section, each or {})
        lines += cost_table(costs, section)
    lines += _footnotes(frame, superseded, problems)
    return "\n".join(lines).rstrip() + "\n"


def _overview(parts: list[Section]) -> Iterator[str]:
    """Yield one table of gains for each preset, source and device that has several tasks."""
    made = []
    for (preset, source, device), group in groupby(parts, lambda s: (s.preset, s.source, s.device)):
        columns = list(group)
        if len(columns) < 2:
            continue
        made += [text.escape(f"### Preset {preset}, source {source}, {device}")]
        made += ["", *_overview_table(columns), ""]
    if made:
        yield from ("## Overview", "", OVERVIEW, "", *made)


def _overview_table(columns: list[Section]) -> list[str]:
    kinds = {line.label: line.kind for section in columns for line in section.lines}
    ranked = []
    for label in sorted(kinds.keys() - {REFERENCE}):
        found = [next((x for x in s.lines if x.label == label), None) for s in columns]
        cells = [_overview_cell(line, s) for line, s in zip(found, columns, strict=True)]
        gains = [
            line.gain.mean * text.scale(section.metric)
            for line, section in zip(found, columns, strict=True)
            if line is not None and line.complete and line.gain is not None
        ]
        mean = sum(gains) / len(gains) if len(gains) == len(columns) else None
        shown = text.NOTHING if mean is None else f"{mean:+.2f}"
        place = (mean is None, -(mean or 0.0), label)
        ranked.append((place, [_name(label, kinds[label]), *cells, shown]))
    head = ["method", *(text.escape(section.task) for section in columns), "mean"]
    return text.table(head, [row for _, row in sorted(ranked, key=lambda item: item[0])])


def _overview_cell(line: Line | None, section: Section) -> str:
    if line is None:
        return "not run"
    if line.best is None:
        return _absent(line)
    shown = text.gain(line.gain, section.metric)
    return shown if line.complete else f"{shown} ({line.ok}/{line.planned} seeds)"


def _section(section: Section) -> list[str]:
    where = f"preset {section.preset}, source {section.source}, {section.device}"
    lines = [f"## {text.escape(section.title)} ({text.escape(where)})", ""]
    lines += [*_table(section), ""]
    notes = remarks(section)
    if notes:
        lines += [f"> {' '.join(notes)}", ""]
    lines += _unfinished(section)
    return [*lines, f"<sub>{caption(section)}</sub>", ""]


def _table(section: Section) -> list[str]:
    metric = section.metric
    percent = text.unit(metric)
    with_f1 = metric != "macro_f1" and any(line.macro_f1 for line in section.lines)
    points = " (points)" if percent else ""
    further = sorted({name for line in section.lines for name in line.further})
    better = ", lower is better" if section.direction == "min" else ""
    head = [
        "method",
        f"test {text.escape(text.metric_name(metric))}{percent}{better}",
        f"last epoch{percent}",
        *(["macro-F1 (%)"] if with_f1 else []),
        *(f"{text.escape(name)}{percent}" for name in further),
        f"gain over {REFERENCE}{points}",
        "gap closed (%)",
        "parameters",
        "extra",
        "train s",
        "seeds",
    ]
    bold = _winner(section)
    rows = []
    for line in section.lines:
        test = text.spread(line.best, metric) if line.best else _absent(line)
        rows.append(
            [
                _name(line.label, line.kind),
                f"**{test}**" if line is bold else test,
                text.spread(line.last, metric),
                *([text.spread(line.macro_f1, "macro_f1")] if with_f1 else []),
                *(text.spread(line.further.get(name), metric) for name in further),
                _gain(line, metric),
                _closed(line, section),
                text.count(line.deployed),
                text.count(line.train_only),
                text.seconds(line.train_seconds),
                _seeds(line),
            ]
        )
    return text.table(head, rows)


def _winner(section: Section) -> Line | None:
    """Return the line to set bold: the best method, if its seeds allow to call it that."""
    whole = [line for line in section.contenders if line.complete and line.like_for_like]
    return whole[0] if whole and whole[0].ok >= SEEDS_FOR_BOLD else None


def _name(label: str, kind: str) -> str:
    return f"*{text.escape(label)}*" if kind == "baseline" else text.escape(label)


def _gain(line: Line, metric: str) -> str:
    shown = text.gain(line.gain, metric)
    if line.gain is None:
        return shown
    if not line.paired:
        return f"{shown} (unpaired)"
    # Fewer pairs than finished seeds: the reference lacks some of them.
    return shown if line.gain.pairs == line.ok else f"{shown} ({line.gain.pairs} pairs)"


def _closed(line: Line, section: Section) -> str:
    if line.closed is not None:
        shown = f"{line.closed * 100:.0f}"
        return "0" if shown == "-0" else shown
    no_gap = line.gain is not None and section.teacher is not None
    return "no gap" if no_gap else text.NOTHING


def _absent(line: Line) -> str:
    if line.failed and line.skipped:
        return "failed or skipped"
    return "failed" if line.failed else "skipped"


def _seeds(line: Line) -> str:
    if line.complete:
        return str(line.ok)
    missing = line.planned - line.ok - line.failed - line.skipped
    counts = {"failed": line.failed, "skipped": line.skipped, "not run": missing}
    why = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    return f"{line.ok}/{line.planned} ({why})"


def _unfinished(section: Section) -> list[str]:
    cells = section.cells[section.cells.status != "ok"].sort_values(["label", "seed"])
    if cells.empty:
        return []
    lines = ["Cells without a result:", ""]
    # Seeds that ended alike share a line.
    alike = cells.groupby(["label", "status", "error_class", "error_message"], sort=True)
    for (label, status, error, message), same in alike:
        seeds = ", ".join(str(seed) for seed in same.seed)
        told = [status, *([] if error == "Skipped" else [error]), message]
        reason = ": ".join(text.escape(part) for part in told if part)
        lines.append(f"- {text.escape(label)}, seed{'s'[: len(same) - 1]} {seeds}, {reason}")
    return [*lines, ""]


def _footnotes(frame: pd.DataFrame, superseded: int, problems: Sequence[str]) -> list[str]:
    told = {word: int((frame.status == word).sum()) for word in ("ok", "failed", "skipped")}
    counts = ", ".join(f"{number} {word}" for word, number in told.items())
    lines = ["---", "", f"Rendered from {len(frame)} cells ({counts}), finished {dates(frame)}."]
    if superseded:
        lines[-1] += f" Left out: {superseded} superseded by another record of the same cell."
    if problems:
        lines += ["", "Records to look at:", ""]
        lines += [f"- {text.escape(text.without_paths(problem))}" for problem in problems]
    return lines
