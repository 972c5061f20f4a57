"""Ablations: one method in several configurations, as found in the records.

Configurations of a method are compared with its default in a table; two numeric options that were
varied together, with at least a complete 2×2 block of values, become a heat map.
Nothing here knows a method's options: configurations are compared as the records hold them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from bench.report.content import Context
from bench.report.lines import Row, present
from bench.report.roles import MARK, REFERENCE
from bench.report.sections import Section
from bench.stats import Gain, paired_differences, paired_gain

# What a heat map's gains are over: the first of these that was run beside the method.
REFERENCES = ("kd", REFERENCE)
# Fewer configurations than this, the default among them, are a comparison and no ablation.
FEWEST = 3

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Configuration:
    """One configuration of a method in one section.

    Attributes:
        label: its name in tables.
        kind: of the record: "method", "baseline" or "oracle".
        config: all options, resolved.
        scores: test score by seed, of the finished cells.
        planned: the seeds of all its cells, finished or not.
        unfinished: why the other cells have no result, without repetition.
        like_for_like: whether it may be compared with the others as it stands.
    """

    label: str
    kind: str
    config: Options
    scores: Mapping[int, float]
    planned: frozenset[int]
    unfinished: tuple[str, ...]
    like_for_like: bool


@dataclass(frozen=True)
class Grid:
    """Two numeric options varied together, all others alike.

    Attributes:
        row: the option down the side; ``rows`` its values, ascending.
        column: the option along the bottom; ``columns`` its values, ascending.
        gains: paired gain over the reference by (row value, column value).
        fixed: the options that all of them share.
        default: the place of the method's default in it, if it is there.
    """

    row: str
    column: str
    rows: tuple[float, ...]
    columns: tuple[float, ...]
    gains: Mapping[tuple[float, float], Gain]
    fixed: Options
    default: tuple[float, float] | None


@dataclass(frozen=True)
class Ablation:
    """One method's configurations on one task, preset, source and device.

    Attributes:
        place: task, preset, source, device and origin.
        title: the task's title in tables.
        where: preset, source and device (and whose results they are) in words.
        metric: the task's primary one.
        direction: of the metric.
        default: the configuration without options, if it was run.
        others: the rest, those that change fewest options first.
        reference: label of the row that gains are over, if any was run.
        reference_scores: its score by seed.
    """

    place: tuple[str, ...]
    title: str
    where: str
    metric: str
    direction: str
    method: str
    default: Configuration | None
    others: tuple[Configuration, ...]
    reference: str | None
    reference_scores: Mapping[int, float]

    @property
    def configurations(self) -> list[Configuration]:
        """Return all configurations, the default first."""
        return [*([self.default] if self.default else []), *self.others]

    def gain(self, configuration: Configuration) -> Gain | None:
        """Return its paired gain over the reference."""
        return paired_gain(configuration.scores, self.reference_scores, self.direction)

    def to_default(self, configuration: Configuration) -> list[float]:
        """Return its same-seed improvements over the default, by seed."""
        base = self.default.scores if self.default else {}
        return paired_differences(configuration.scores, base, self.direction)

    def changed(self, configuration: Configuration) -> dict[str, Any]:
        """Return the options in which it differs from the default."""
        base = self.default.config if self.default else {}
        return {
            name: value
            for name, value in sorted(configuration.config.items())
            if name not in base or base[name] != value
        }

    def grids(self) -> list[Grid]:
        """Return the pairs of numeric options that were varied together."""
        return list(_grids(self))


def ablations(context: Context) -> list[Ablation]:
    """Find the ablations in the records of ``context``, section by section."""
    found = []
    for section in context.sections:
        by_method: dict[str, list[Row]] = {}
        for row in _of_one_teacher(section):
            by_method.setdefault(str(row["method"]), []).append(row)
        for method, rows in sorted(by_method.items()):
            if len({row["label"] for row in rows}) < FEWEST:
                continue
            made = _ablation(section, method, rows, context)
            whole = made.default is not None and len(made.configurations) >= FEWEST
            if whole or made.grids():
                found.append(made)
    return found


def _of_one_teacher(section: Section) -> list[Row]:
    """Return the rows by label, without those of further teacher seeds: only options may differ."""
    rows = [row for label in sorted(section.rows) for row in section.rows[label]]
    seeds = present(row["teacher_seed"] for row in rows)
    further = set(seeds) - {min(seeds, default=0)}
    return [row for row in rows if row["teacher_seed"] not in further]


def _ablation(section: Section, method: str, rows: list[Row], context: Context) -> Ablation:
    by_config: dict[str, list[tuple[Row, Options]]] = {}
    for row in sorted(rows, key=lambda row: (row["label"], row["seed"])):
        config = _config(context, str(row["key"]))
        if config is not None:
            by_config.setdefault(_canonical(config), []).append((row, config))
    made = [_configuration([row for row, _ in g], g[0][1]) for g in by_config.values()]
    default = next((each for each in made if each.label == method), None)
    base = default.config if default else {}

    def order(each: Configuration) -> tuple[int, list[tuple[str, float, str]]]:
        changed = sorted(name for name in each.config if each.config[name] != base.get(name))
        return len(changed), [(name, *_place(each.config[name])) for name in changed]

    lines = [section.line(name) for name in REFERENCES if name != method]
    reference = next((line for line in lines if line is not None), None)
    return Ablation(
        place=section.place,
        title=section.title,
        where=section.where,
        metric=section.metric,
        direction=section.direction,
        method=method,
        default=default,
        others=tuple(sorted((each for each in made if each is not default), key=order)),
        reference=reference.label if reference else None,
        reference_scores=reference.scores if reference else {},
    )


def _config(context: Context, key: str) -> Options | None:
    """Return the resolved options of the cell ``key``; None where its record has none."""
    cell = context.by_key.get(key, {}).get("cell")
    config = cell.get("config") if isinstance(cell, dict) else None
    return config if isinstance(config, dict) else None


def _configuration(rows: list[Row], config: Options) -> Configuration:
    told = {f"{row['status']}: {row['error_message']}" for row in rows if row["status"] != "ok"}
    labels = (str(row["label"]).removesuffix(f" {MARK}") for row in rows)
    return Configuration(
        # the shortest: options that say a default are left out of it
        label=min(labels, key=lambda label: (len(label), label)),
        kind=str(rows[0]["kind"]),
        config=config,
        scores={int(row["seed"]): float(row["test_best"]) for row in rows if row["status"] == "ok"},
        planned=frozenset(int(row["seed"]) for row in rows),
        unfinished=tuple(sorted(told)),
        like_for_like=not any(row["not_like_for_like"] for row in rows),
    )


def _grids(ablation: Ablation) -> Iterator[Grid]:
    finished = [each for each in ablation.configurations if each.scores]
    numeric = sorted(
        name
        for name in {name for each in finished for name in each.config}
        if len({each.config[name] for each in finished if _is_number(each.config.get(name))}) > 1
    )
    for pair in combinations(numeric, 2):
        alike: dict[str, list[Configuration]] = {}
        for each in finished:
            if all(_is_number(each.config.get(name)) for name in pair):
                rest = {name: value for name, value in each.config.items() if name not in pair}
                alike.setdefault(_canonical(rest), []).append(each)
        for _, group in sorted(alike.items()):
            grid = _grid(ablation, pair, group)
            if grid is not None:
                yield grid


def _grid(ablation: Ablation, pair: tuple[str, str], group: list[Configuration]) -> Grid | None:
    """Return the grid that ``group`` spans, or None where no 2×2 block of it is complete."""
    values = {name: tuple(sorted({float(each.config[name]) for each in group})) for name in pair}
    # the longer axis along the bottom: a figure is wider than high
    row, column = sorted(pair, key=lambda name: (len(values[name]), name))
    gains = {}
    for each in group:
        gain = ablation.gain(each)
        if gain is not None:
            gains[float(each.config[row]), float(each.config[column])] = gain
    blocks = (
        all((r, c) in gains for r in rows for c in columns)
        for rows in combinations(values[row], 2)
        for columns in combinations(values[column], 2)
    )
    if not any(blocks):
        return None
    default = ablation.default
    here = default is not None and default in group
    return Grid(
        row=row,
        column=column,
        rows=values[row],
        columns=values[column],
        gains=gains,
        fixed={name: value for name, value in group[0].config.items() if name not in pair},
        default=(float(default.config[row]), float(default.config[column]))
        if here and default
        else None,
    )


def _place(value: object) -> tuple[float, str]:
    """Return the sort key of ``value``: numbers by size, then words."""
    return (float(value), "") if isinstance(value, int | float) else (math.inf, str(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _canonical(config: Options) -> str:
    return json.dumps(dict(config), sort_keys=True, default=str)
