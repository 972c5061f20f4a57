"""The data behind the page's run cards: every cell with its curve, environment, configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.config import leaves
from bench.privacy import without_paths
from bench.report.content import Context
from bench.report.curves import validation
from bench.report.rows import Row
from bench.report.text import scale

# More curve points than this would make the page heavy; then each run keeps fewer, or none.
POINTS = 150_000
POINTS_OF_A_RUN = 60


class _Shared:
    """Nested settings that many runs have in common: flattened and kept once."""

    def __init__(self) -> None:
        self.values: list[dict[str, str]] = []
        self._at: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """Return the number of ``value``."""
        written = json.dumps(value, sort_keys=True)
        if written not in self._at:
            self._at[written] = len(self.values)
            self.values.append(_flat(value))
        return self._at[written]


def run_data(context: Context, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the page's script needs: a list of runs for each row, by its number."""
    points = min(POINTS_OF_A_RUN, POINTS // max(len(context.frame), 1))
    environments, configurations, datas = _Shared(), _Shared(), _Shared()
    cards = []
    for row in rows:
        runs = []
        for cell in row.section.rows[row.label]:
            record = context.by_key.get(str(cell["key"]), {})
            runs.append(
                {
                    "seed": int(cell["seed"]),
                    "status": cell["status"],
                    "error": f"{cell['error_class']}: {cell['error_message']}"
                    if cell["error_class"]
                    else "",
                    "test": _short(cell["test_best"]),
                    "last": _short(cell["test_last"]),
                    "epoch": _short(cell["best_epoch"]),
                    "seconds": _short(cell["train_seconds"]),
                    "finished": cell["finished"],
                    "revision": cell["revision"],
                    "key": str(cell["key"])[:12],
                    "curve": _curve(record, row.section.metric, points),
                    "environment": environments.place(record.get("environment")),
                    "configuration": configurations.place(_configuration(record)),
                    "data": datas.place(record.get("data")),
                }
            )
        cards.append(
            {
                "label": row.label,
                "where": f"{row.section.title}, {row.section.where}",
                "metric": row.section.metric,
                "factor": scale(row.section.metric),
                "runs": runs,
            }
        )
    return {
        "cards": cards,
        "environments": environments.values,
        "configurations": configurations.values,
        "datas": datas.values,
        "curves": points > 1,
    }


def _configuration(record: Mapping[str, Any]) -> dict[str, Any]:
    cell = record.get("cell") or {}
    return {"method": cell.get("config") or {}, "preset": cell.get("preset_values") or {}}


def _flat(value: Any) -> dict[str, str]:
    """Return nested mappings as one level of names and written values, without any path."""
    if not isinstance(value, Mapping):
        return {}
    return {
        name: without_paths("" if inner is None else str(inner))[:200]
        for name, inner in leaves(value)
    }


def _curve(record: Mapping[str, Any], metric: str, points: int) -> list[list[float]]:
    """Return ``[epoch, score]`` pairs, thinned to ``points`` with both ends kept."""
    by_epoch = sorted(validation(record, metric).items())
    if points < 2 or len(by_epoch) < 2:
        return []
    if len(by_epoch) > points:
        step = (len(by_epoch) - 1) / (points - 1)
        by_epoch = [by_epoch[round(at * step)] for at in range(points)]
    return [[epoch, float(f"{score:.5g}")] for epoch, score in by_epoch]


def _short(value: Any) -> float | None:
    return None if value is None or value != value else float(f"{value:.6g}")
