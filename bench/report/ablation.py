"""Ablations: one method in several configurations, found in the records and not announced.

A method whose configurations are in the records is tabled against its own default; two numeric
options that were varied together, with at least a complete 2×2 block of values, become a heat map.
Nothing here knows a method's options: configurations are compared as the records hold them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from bench.report.frame import REFERENCE
from bench.report.sections import SECTION
from bench.stats import Gain, mean_and_sd, paired_gain
from bench.store import Record

# What a heat map's gains are over: the first of these that was run beside the method.
REFERENCES = ("kd", REFERENCE)
# Fewer configurations than this, the default among them, are a comparison and no ablation.
FEWEST = 3

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Configuration:
    """One configuration of a method in one section.

    Attributes:
        label: how the tables call it.
        kind: of the record: "method", "baseline" or "oracle".
        config: all options, resolved.
        scores: test score by seed, of the finished cells.
        unfinished: why the other cells have no result, without repetition.
    """

    label: str
    kind: str
    config: Options
    scores: Mapping[int, float]
    unfinished: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """Two numeric options varied together, all others alike.

    Attributes:
        row: the option down the side; ``rows`` its values, ascending.
        column: the option along the bottom; ``columns`` its values, ascending.
        gains: paired gain over the reference by (row value, column value).
        fixed: the options that all of them share.
        default: the method's default place in it, if it is there.
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
        place: the values of :data:`bench.report.sections.SECTION`.
        title: the task's, as tables have it.
        direction: of the metric.
        default: the configuration without options, if it was run.
        others: the rest, those that change fewest options first.
        reference: name of what gains are over, if any was run.
        reference_scores: its score by seed.
    """

    place: tuple[str, ...]
    title: str
    direction: str
    method: str
    default: Configuration | None
    others: tuple[Configuration, ...]
    reference: str | None
    reference_scores: Mapping[int, float]

    @property
    def metric(self) -> str:
        """Return the task's primary metric."""
        return self.place[SECTION.index("metric")]

    @property
    def configurations(self) -> list[Configuration]:
        """Return all configurations, the default first."""
        return [*([self.default] if self.default else []), *self.others]

    def gain(self, configuration: Configuration) -> Gain | None:
        """Return its paired gain over the reference."""
        return paired_gain(configuration.scores, self.reference_scores, self.direction)

    def to_default(self, configuration: Configuration) -> list[float]:
        """Return its same-seed improvements over the default, by seed."""
        own, base = configuration.scores, self.default.scores if self.default else {}
        sign = 1.0 if self.direction == "max" else -1.0
        return [sign * (own[seed] - base[seed]) for seed in sorted(own.keys() & base.keys())]

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


def ablations(frame: pd.DataFrame, records: Iterable[Record]) -> list[Ablation]:
    """Find the ablations in ``frame``, whose rows were made from ``records``."""
    configs = {str(record["key"]): record["cell"].get("config") or {} for record in records}
    found = []
    for place, section in frame.groupby(SECTION, sort=True, dropna=False):
        for method, cells in section.groupby("method", sort=True):
            made = _ablation(tuple(map(str, place)), str(method), cells, section, configs)
            whole = made.default is not None and len(made.configurations) >= FEWEST
            if whole or made.grids():
                found.append(made)
    return found


def _ablation(
    place: tuple[str, ...],
    method: str,
    cells: pd.DataFrame,
    section: pd.DataFrame,
    configs: Mapping[str, Options],
) -> Ablation:
    by_config: dict[str, list[pd.Series]] = {}
    for _, cell in cells.sort_values(["label", "seed"]).iterrows():
        by_config.setdefault(_canonical(configs[cell.key]), []).append(cell)
    made = [_configuration(group, configs[group[0].key]) for group in by_config.values()]
    default = next((each for each in made if each.label == method), None)
    base = default.config if default else {}

    def order(each: Configuration) -> tuple[int, str]:
        changed = [name for name in each.config if each.config[name] != base.get(name)]
        return len(changed), _canonical({name: each.config[name] for name in changed})

    reference, scores = _reference(section, method)
    return Ablation(
        place=place,
        title=str(cells.title.iloc[-1]),
        direction=str(cells.direction.iloc[-1]),
        method=method,
        default=default,
        others=tuple(sorted((each for each in made if each is not default), key=order)),
        reference=reference,
        reference_scores=scores,
    )


def _configuration(cells: list[pd.Series], config: Options) -> Configuration:
    told = sorted({f"{c.status}: {c.error_message}" for c in cells if c.status != "ok"})
    return Configuration(
        # the shortest: options that say a default are left out of it
        label=min((str(cell.label) for cell in cells), key=lambda label: (len(label), label)),
        kind=str(cells[0].kind),
        config=config,
        scores={int(cell.seed): float(cell.test_best) for cell in cells if cell.status == "ok"},
        unfinished=tuple(told),
    )


def _reference(section: pd.DataFrame, method: str) -> tuple[str | None, dict[int, float]]:
    for name in REFERENCES:
        cells = section[(section.label == name) & (section.status == "ok")]
        if name != method and not cells.empty:
            pairs = zip(cells.seed, cells.test_best, strict=True)
            return name, {int(seed): float(score) for seed, score in pairs}
    return None, {}


def _grids(ablation: Ablation) -> Iterator[Grid]:
    finished = [each for each in ablation.configurations if each.scores]
    numeric = sorted(
        name
        for name in {name for each in finished for name in each.config}
        if len({each.config.get(name) for each in finished if _is_number(each.config.get(name))})
        > 1
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


def interval(differences: list[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean of paired differences (Student's t); None below two.

    It speaks of seeds alone: other data, another teacher or another schedule are not in it.
    """
    from scipy.stats import t

    if len(differences) < 2:
        return None
    spread = mean_and_sd(differences)
    assert spread.sd is not None
    half = float(t.ppf(0.975, spread.n - 1)) * spread.sd / spread.n**0.5
    return spread.mean - half, spread.mean + half


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _canonical(config: Options) -> str:
    return json.dumps(dict(config), sort_keys=True, default=str)
