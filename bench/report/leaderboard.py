"""The leaderboard: an overview, then one table for every task and preset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress

from bench.failures import BROKEN
from bench.privacy import without_paths
from bench.report import text
from bench.report.captions import caption, dates, group_caption
from bench.report.class_groups import group_table
from bench.report.columns import absent, fewer_pairs, usual
from bench.report.content import Block, Bullets, Context, Heading, Part, Table, Text, Value
from bench.report.costs import cost_table
from bench.report.differences import differences
from bench.report.formats import markdown
from bench.report.groups import Group, told_apart
from bench.report.lines import Line
from bench.report.pictures import gain_map
from bench.report.queries import query_table
from bench.report.remarks import remarks
from bench.report.roles import CEILING, REFERENCE
from bench.report.sections import Section
from bench.stats import SEEDS_FOR_TEST

INTRODUCTION = f"""\
Every number is on the test split and is a mean ± standard deviation over seeds. Nothing was chosen
on the test split: the *test* column takes the epoch that was best on validation, the *last epoch*
column takes the final one. The *gain* is the difference to *{REFERENCE}*, the same student trained
on hard labels alone, taken seed by seed (same initialisation and batch order) and then averaged;
positive is better. *Gap closed* is the share of the way from *{REFERENCE}* (0 %) to *{CEILING}*
(100 %). Rows in italics are baselines; those run once are held against the mean of *{REFERENCE}*
and marked *unpaired*. *Agreement*, in tables whose predictions are at hand, is the share of test
samples on which student and teacher predict the same. *Parameters* are what is deployed, *extra* is
what is trained beside the student and thrown away; *train s* is the median wall time of the runs,
with other cells perhaps running beside them, not an isolated cost.

From {SEEDS_FOR_TEST} seeds on there are 95 % intervals (bootstrap over seeds, widened for few
values) and tests (paired t-test over seeds, Holm's correction over the rows of a table), and the
best trained student is bold together with all that are not significantly worse. With fewer seeds
paired differences have the wide interval of Student's t, and nothing is tested or bold: three runs
cannot tell luck from merit. All of it is for one teacher, one
split of the data and one setting of each method; other choices add noise that no seed shows."""

OVERVIEW = (
    f"Mean gain over {REFERENCE} on each task, in points (in the metric's own unit where it is no "
    "share). Gains on different tasks are not on one scale. The last column averages a row only if "
    "every task in it is complete; where tables differ in their settings there is no such column."
)
OWN_RATES = (
    " Tables that differ in the learning rate alone are one column, each method at its own rate."
)


def render_leaderboard(context: Context, parts: Sequence[Part]) -> str:
    """Return the leaderboard as Markdown."""
    lines = ["# Distillation Bench: leaderboard", "", INTRODUCTION, ""]
    lines += markdown(parts)
    first, *problems = footnotes(context)
    lines += ["---", "", text.escape(first)]
    if problems:
        lines += [
            "",
            "Records to look at:",
            "",
            *(f"- {text.escape(problem)}" for problem in problems),
        ]
    return "\n".join(lines).rstrip() + "\n"


def overview(context: Context) -> Iterator[Part]:
    """Yield one table and map of gains for each preset, source and device that has several."""
    made: list[Block] = []
    for group in context.overall:
        if len(group.sections) > 1:
            made += [Heading(group.heading), _overview(group)]
            made += [Text(note, "note") for note in _left_out(context, group)]
            made += gain_map(group)
    if made:
        own = any(rates.own for rates in context.rates)
        yield Part("Overview", (Text(OVERVIEW + OWN_RATES * own), *made))


def _left_out(context: Context, group: Group) -> Iterator[str]:
    """Yield notes on the tests and rows left out, and on those left out of own rates' columns."""
    official = [group.column(section) for section in group.sections if section.further]
    if official:
        yield (
            f"On the official test here, though they have a further one, shown in their own "
            f"tables: {', '.join(official)}."
        )
    if group.aside:
        yield f"In one column only, and so not here: {', '.join(group.aside)}."
    for rates in context.rates:
        own = rates.own
        if own and rates.without and any(own.place == section.place for section in group.sections):
            yield (
                f"{own.task}: not in this column, as a rate or a seed is missing: "
                f"{', '.join(rates.without)}. Their scores stand in the tables of each rate."
            )


def _overview(group: Group) -> Table:
    columns = group.sections
    # gains on tasks whose metric is no share are on no common scale
    shares = [text.scale(section.metric) == 100.0 for section in columns]
    averaged = any(shares) and not group.mixed
    kinds = {line.label: line.kind for section in columns for line in section.lines}
    placed = []
    for label in sorted(kinds.keys() - {REFERENCE, *group.aside}):
        found = [section.any_line(label) for section in columns]
        row = [Value(label, italic=kinds[label] == "baseline")]
        # several settings are seldom all run, and to say so of each would drown what was
        missing = text.NOTHING if group.mixed else "not run"
        row += [_overview_cell(*each, missing) for each in zip(found, columns, strict=True)]
        mean = _mean_gain(list(compress(found, shares))) if averaged else None
        if averaged:
            row.append(Value(text.NOTHING if mean is None else f"{mean:+.2f}", mean))
        place = (mean is None, -(mean or 0.0), label != CEILING, label)
        placed.append((place, row))
    return Table(
        name=f"overview-{group.slug}",
        head=[
            "method",
            *(group.column(section) for section in columns),
            *(["mean" if all(shares) else "mean of points"] if averaged else []),
        ],
        rows=[row for _, row in sorted(placed, key=lambda item: item[0])],
        title=f"Mean gain over {REFERENCE}, {group.where}",
        source=group_caption(group),
    )


def _mean_gain(lines: Sequence[Line | None]) -> float | None:
    """Return the mean gain in points, or None where a task is missing or incomplete."""
    gains = [100 * x.gain.mean for x in lines if x and x.complete and x.gain and not _fewer(x)]
    return sum(gains) / len(gains) if len(gains) == len(lines) else None


def _fewer(line: Line) -> str:
    """Return how many pairs the gain of ``line`` is from, where the plain student lacks seeds."""
    return fewer_pairs(line.gain.pairs, line.ok) if line.gain and line.paired else ""


def _overview_cell(line: Line | None, section: Section, missing: str) -> Value:
    if line is None:
        return Value(missing)
    if line.best is None:
        return Value(absent(line))
    shown = text.gain(line.gain, section.metric)
    if not line.complete:
        shown += f" ({line.ok}/{line.planned} seeds)"
    elif line.gain and line.trained_student and not line.paired:
        shown += " (unpaired)"
    else:
        shown += _fewer(line)
    return Value(shown, line.gain.mean if line.gain else None)


def tasks(context: Context) -> Iterator[Part]:
    """Yield one part for each section: scores, remarks, costs."""
    for section in context.sections:
        blocks: list[Block] = [score_table(section)]
        notes = remarks(section)
        if notes:
            blocks.append(Text(" ".join(notes), "note"))
        blocks += _unfinished(section)
        blocks += group_table(section)
        blocks += query_table(section, context.each)
        blocks += differences(section)
        blocks += cost_table(context, section)
        short = _short(section, context.sections)
        yield Part(f"{section.title} ({section.where})", tuple(blocks), short)


def _short(section: Section, sections: Sequence[Section]) -> str:
    """Return the name of ``section`` in the navigation: task, and what tells it from others."""
    return told_apart(
        section,
        sections,
        lambda each: [each.base_preset, *each.settings, each.source, each.device, each.origin],
    )


def score_table(section: Section) -> Table:
    """Return the table of scores of ``section``."""
    columns = usual(section)
    return Table(
        name=section.slug,
        head=[column.head(section) for column in columns],
        rows=[[column.value(line, section) for column in columns] for line in section.lines],
        title=f"{section.title}, preset {section.preset}",
        source=caption(section),
    )


def _unfinished(section: Section) -> list[Block]:
    cells = section.cells[section.cells.status != "ok"].sort_values(["label", "seed"])
    if cells.empty:
        return []
    items = []
    # Seeds that ended alike share a line.
    alike = cells.groupby(["label", "status", "error_class", "error_message"], sort=True)
    for (label, status, error, message), same in alike:
        seeds = ", ".join(str(seed) for seed in same.seed)
        told = [status, *([] if error == "Skipped" else [error]), message]
        reason = ": ".join(str(part) for part in told if part)
        items.append(f"{label}, seed{'s'[: len(same) - 1]} {seeds}, {reason}")
    return [Bullets("Cells without a result:", tuple(items))]


def footnotes(context: Context) -> list[str]:
    """Return the footnotes of a report: the number of cells, and records to look at."""
    frame = context.cells
    told = {word: int((frame.status == word).sum()) for word in ("ok", *BROKEN, "skipped")}
    always = ("ok", "failed", "skipped")
    shown = {word: number for word, number in told.items() if number or word in always}
    counts = ", ".join(f"{number} {word}" for word, number in shown.items())
    external = int((frame.origin != "").sum())
    others = f" {external} of them are external results." if external else ""
    lines = [f"Rendered from {len(frame)} cells ({counts}), finished {dates(frame)}.{others}"]
    if context.superseded:
        lines[0] += (
            f" Left out: {context.superseded} superseded by another record of the same cell."
        )
    return [*lines, *map(without_paths, context.problems)]
