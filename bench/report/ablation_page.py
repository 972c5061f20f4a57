"""The part of ablations: a heat map for each grid, a table for each method and task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from bench.report import text
from bench.report.ablation import Ablation, Configuration, Grid, ablations
from bench.report.columns import fewer_pairs
from bench.report.content import (
    Block,
    Context,
    Heading,
    Part,
    Picture,
    Table,
    Text,
    Value,
)
from bench.report.names import file_name
from bench.report.pictures import draw
from bench.report.roles import MARK
from bench.stats import SEEDS_FOR_TEST, difference_interval, mean_and_sd

INTRODUCTION = (
    "One method in several configurations, on the test split at the epoch that was best on "
    "validation. “To the default” is the same-seed difference to the method with its default "
    "options, averaged over seeds, with its 95 % interval over seeds (Student's t below "
    f"{SEEDS_FOR_TEST} of them, the bootstrap from there on); positive is better. An interval over "
    "few seeds is wide, and with so many rows one in twenty excludes zero by chance. An oracle is "
    "given finer true labels that no other method has: a bound, not a contender; "
    f"{MARK} is not like for like, as said under the task's own table."
)
CUT = 60  # characters of a reason why there is no result


def ablation_parts(context: Context) -> Iterator[Part]:
    """Yield the part of ablations; nothing where no method was run in several configurations."""
    found = ablations(context)
    if not found:
        return
    blocks: list[Block] = [Text(INTRODUCTION)]
    for ablation in found:
        blocks.append(Heading(_heading(ablation)))
        for grid in ablation.grids():
            blocks.append(
                Picture(
                    figure_name(ablation, grid),
                    partial(draw, "ablation", ablation, grid),
                    f"Gain of {ablation.method} by {grid.row} and {grid.column}",
                    _figure_caption(ablation, grid),
                )
            )
        if ablation.default is not None:
            blocks.append(_table(ablation))
    yield Part("Ablations", tuple(blocks))


def _figure_caption(ablation: Ablation, grid: Grid) -> str:
    framed = " The default is framed." if grid.default is not None else ""
    others = f" Other options: {options_text(grid.fixed)}." if grid.fixed else ""
    return (
        f"Mean gain over {ablation.reference} of the same seed; hatched: not run or no result."
        f"{framed}{others}"
    )


def figure_name(ablation: Ablation, grid: Grid) -> str:
    """Return the figure's file name, without extension, unique to its content."""
    fixed = json.dumps(dict(grid.fixed), sort_keys=True, default=str)
    digest = hashlib.sha256(fixed.encode()).hexdigest()[:8]
    return file_name("ablation", ablation.method, grid.row, grid.column, *ablation.place, digest)


def _heading(ablation: Ablation) -> str:
    return f"{ablation.method} on {ablation.title} ({ablation.where})"


def _table(ablation: Ablation) -> Table:
    metric = ablation.metric
    points = text.points(metric)
    head = [
        "configuration",
        f"test {text.metric_name(metric)}{text.unit(metric)}",
        f"to the default{points}",
        "95 % interval",
        *([f"gain over {ablation.reference}{points}"] if ablation.reference else []),
        "seeds",
    ]
    assert ablation.default is not None
    return Table(
        name=file_name("ablation", ablation.method, *ablation.place),
        head=head,
        rows=[_row(ablation, each) for each in ablation.configurations],
        title=_heading(ablation),
        source=f"Default: {options_text(ablation.default.config)}.",
    )


def _row(ablation: Ablation, configuration: Configuration) -> list[Value]:
    metric = ablation.metric
    is_default = configuration is ablation.default
    first = _name(ablation, configuration)
    seeds = Value(_seeds(configuration, ablation), len(configuration.scores))
    if not configuration.scores:
        why = Value(text.first_line("; ".join(configuration.unfinished), CUT) or text.NOTHING)
        gaps = [Value(text.NOTHING)] * (3 if ablation.reference else 2)
        return [first, why, *gaps, seeds]
    differences = [] if is_default else ablation.to_default(configuration)
    mean = mean_and_sd(differences).mean if differences else None
    bounds = difference_interval(differences)
    few = fewer_pairs(len(differences), len(configuration.scores))
    spread = mean_and_sd(configuration.scores.values())
    gain = ablation.gain(configuration)
    over = Value(text.gain(gain, metric), gain.mean if gain else None)
    return [
        first,
        Value(text.spread(spread, metric), spread.mean),
        Value(text.NOTHING if mean is None else text.number(mean, metric, signed=True) + few, mean),
        Value(
            text.NOTHING
            if bounds is None
            else " to ".join(
                text.number(bound, metric, signed=True) for bound in (bounds.low, bounds.high)
            )
        ),
        *([over] if ablation.reference else []),
        seeds,
    ]


def _name(ablation: Ablation, configuration: Configuration) -> Value:
    """Return what the configuration changes, bold for an oracle: nobody can use it as a method."""
    is_default = configuration is ablation.default
    name = "default" if is_default else options_text(ablation.changed(configuration))
    oracle = configuration.kind == "oracle"
    marks = (" (oracle)" if oracle else "") + ("" if configuration.like_for_like else f" {MARK}")
    return Value(name + marks, bold=oracle)


def _seeds(configuration: Configuration, ablation: Ablation) -> str:
    planned = {seed for each in ablation.configurations for seed in each.planned}
    done = len(configuration.scores)
    return str(done) if done == len(planned) else f"{done}/{len(planned)}"


def options_text(options: Mapping[str, Any]) -> str:
    """Write options as ``beta=0.5, rotation=off``."""
    return ", ".join(f"{name}={_value(value)}" for name, value in sorted(options.items()))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
