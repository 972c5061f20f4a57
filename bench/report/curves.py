"""Learning curves read off the records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.report.content import Context
from bench.report.record_row import finite
from bench.report.sections import Section
from bench.store import Record


@dataclass(frozen=True)
class Curve:
    """The validation score of one method by epoch, over its finished seeds, in the metric's unit.

    Attributes:
        epochs: those after which every seed was scored.
        mean: over seeds.
        low: the lowest seed.
        high: the highest seed.
        seeds: their number.
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
        value = finite(mapping(mapping(entry).get("validation")).get(metric))
        if value is not None and isinstance(entry.get("epoch"), int):
            found[entry["epoch"]] = value
    return found


def damaged_curves(records: Iterable[Record]) -> list[str]:
    """Return a line for each finished record whose curves have a score that is not finite.

    Such a score is left out of the figures.
    """
    return [
        f"record {str(record.get('key'))[:12]}: a score in its curves is no finite number"
        for record in records
        if record.get("status") == "ok"
        and any(value is not None and finite(value) is None for value in _scores(record))
    ]


def _scores(record: Record) -> Iterator[object]:
    """Yield the values given as scores of the record's metric in its curves."""
    metric = str(mapping(record.get("task")).get("metric"))
    epochs = record.get("epochs")
    for entry in epochs if isinstance(epochs, list) else []:
        for scores in (mapping(entry).get("validation"), *beside(entry).values()):
            yield mapping(scores).get(metric)
    yield mapping(mapping(record.get("teacher")).get("validation")).get(metric)


def beside(entry: object) -> Mapping[str, Any]:
    """Return the scores of the models trained beside the student, by name, of one epoch."""
    return mapping(mapping(entry).get("companions"))


def mapping(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping, else an empty one: records may be a stranger's."""
    return value if isinstance(value, dict) else {}


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
