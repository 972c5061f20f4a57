"""Learning curves read off the records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.report.content import Context
from bench.report.sections import Section
from bench.store import Record


@dataclass(frozen=True)
class Curve:
    """The validation score of one method by epoch, over its finished seeds, in the metric's unit.

    Attributes:
        epochs: those that every seed was scored after.
        mean: over seeds.
        low: the lowest seed.
        high: the highest seed.
        seeds: how many there are.
    """

    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: int


def curves(context: Context, section: Section) -> dict[str, Curve]:
    """Return a curve for each method of ``section`` that was scored after two epochs or more."""
    found: dict[str, list[dict[int, float]]] = {}
    ok = section.cells[section.cells.status == "ok"]
    for label, key in zip(ok.label, ok.key, strict=True):
        by_epoch = validation(context.by_key.get(str(key), {}), section.metric)
        if by_epoch:
            found.setdefault(str(label), []).append(by_epoch)
    made = {label: _curve(runs) for label, runs in sorted(found.items())}
    return {label: curve for label, curve in made.items() if len(curve.epochs) > 1}


def validation(record: Mapping[str, Any] | Record, metric: str) -> dict[int, float]:
    """Return the validation score by epoch of one run; epochs that were not scored are left out."""
    found = {}
    epochs = record.get("epochs")
    for entry in epochs if isinstance(epochs, list) else []:
        scores = entry.get("validation") if isinstance(entry, dict) else None
        value = scores.get(metric) if isinstance(scores, dict) else None
        if not isinstance(value, int | float) or not math.isfinite(value):
            continue
        if isinstance(entry.get("epoch"), int):
            found[entry["epoch"]] = float(value)
    return found


def _curve(runs: Iterable[Mapping[int, float]]) -> Curve:
    kept = list(runs)
    epochs = sorted(set.intersection(*(set(run) for run in kept)))
    columns = [[run[epoch] for run in kept] for epoch in epochs]
    return Curve(
        tuple(epochs),
        tuple(sum(column) / len(column) for column in columns),
        tuple(map(min, columns)),
        tuple(map(max, columns)),
        len(kept),
    )
