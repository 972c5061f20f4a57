"""The page of ablations: a heat map for each grid, a table for each method and task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bench.report import text
from bench.report.ablation import Ablation, Configuration, Grid, ablations, interval
from bench.report.sections import SECTION
from bench.stats import mean_and_sd
from bench.store import Record, slug

PAGE = "ablations.md"
INTRODUCTION = """\
One method in several configurations, on the test split at the epoch that was best on validation.
*To the default* is the same-seed difference to the method with its default options, averaged over
seeds, with the 95 % interval of Student's t over seeds; positive is better. An interval over few
seeds is wide, and with so many rows one in twenty excludes zero by chance. An *oracle* is given
finer true labels that no other method has: a bound, not a contender."""


def ablation_files(frame: pd.DataFrame, records: Iterable[Record]) -> dict[str, bytes]:
    """Return the page and its figures by path below the report's folder; empty without any."""
    found = ablations(frame, records)
    if not found:
        return {}
    from bench.report.figure import encode
    from bench.report.heatmap import draw_heatmap

    files: dict[str, bytes] = {}
    lines = ["# Distillation Bench: ablations", "", INTRODUCTION, ""]
    for ablation in found:
        lines += [text.escape(_heading(ablation)).join(("## ", "")), ""]
        for grid in ablation.grids():
            path = f"figures/{figure_name(ablation, grid)}"
            figure = draw_heatmap(ablation, grid)
            files |= {f"{path}.{form}": encode(figure, form) for form in ("svg", "png")}
            about = f"Gain of {ablation.method} by {grid.row} and {grid.column}"
            lines += [f"![{text.escape(about)}]({path}.svg)", ""]
        if ablation.default is not None:
            lines += [*_table(ablation), ""]
            lines += [f"<sub>{text.escape(_default(ablation.default))}</sub>", ""]
    files[PAGE] = ("\n".join(lines).rstrip() + "\n").encode()
    return files


def figure_name(ablation: Ablation, grid: Grid) -> str:
    """Return the figure's file name, without an ending: it says what is in it, and is its own."""
    places = dict(zip(SECTION, ablation.place, strict=True))
    where = [places[name] for name in ("task", "preset", "source", "device")]
    identity = json.dumps([ablation.place, dict(grid.fixed)], sort_keys=True, default=str)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    parts = ["ablation", ablation.method, grid.row, grid.column, *where, digest]
    return "-".join(slug(part) for part in parts)


def _heading(ablation: Ablation) -> str:
    places = dict(zip(SECTION, ablation.place, strict=True))
    where = f"preset {places['preset']}, source {places['source']}, {places['device']}"
    return f"{ablation.method} on {ablation.title} ({where})"


def _table(ablation: Ablation) -> list[str]:
    metric = ablation.metric
    points = " (points)" if text.unit(metric) else ""
    head = [
        "configuration",
        f"test {text.escape(text.metric_name(metric))}{text.unit(metric)}",
        f"to the default{points}",
        "95 % interval",
        *([f"gain over {ablation.reference}{points}"] if ablation.reference else []),
        "seeds",
    ]
    return text.table(head, [_row(ablation, each) for each in ablation.configurations])


def _row(ablation: Ablation, configuration: Configuration) -> list[str]:
    metric = ablation.metric
    is_default = configuration is ablation.default
    name = "default" if is_default else options_text(ablation.changed(configuration))
    # bold, so that nobody takes an oracle for a way to use the method
    mark = " **oracle**" if configuration.kind == "oracle" else ""
    first = text.escape(name) + mark
    width = 5 if ablation.reference else 4
    if not configuration.scores:
        return [
            first,
            text.escape("; ".join(configuration.unfinished)),
            *[text.NOTHING] * (width - 1),
        ]
    differences = [] if is_default else ablation.to_default(configuration)
    mean = mean_and_sd(differences).mean if differences else None
    bounds = interval(differences)
    return [
        first,
        text.spread(mean_and_sd(configuration.scores.values()), metric),
        text.NOTHING if mean is None else text.number(mean, metric, signed=True),
        text.NOTHING
        if bounds is None
        else " to ".join(text.number(bound, metric, signed=True) for bound in bounds),
        *([text.gain(ablation.gain(configuration), metric)] if ablation.reference else []),
        _seeds(configuration, ablation),
    ]


def _seeds(configuration: Configuration, ablation: Ablation) -> str:
    planned = {seed for each in ablation.configurations for seed in each.scores}
    done = len(configuration.scores)
    return str(done) if done == len(planned) else f"{done}/{len(planned)}"


def _default(configuration: Configuration) -> str:
    return f"Default: {options_text(configuration.config)}."


def options_text(options: Mapping[str, Any]) -> str:
    """Write options as ``beta=0.5, rotation=off``."""
    return ", ".join(f"{name}={_value(value)}" for name, value in sorted(options.items()))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
