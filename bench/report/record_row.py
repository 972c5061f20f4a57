"""What a report reads out of one record: the only place that knows how a record is laid out."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from bench.config import leaves, written
from bench.privacy import one_line, without_paths
from bench.report.presets import joined
from bench.report.roles import MARK
from bench.report.text import first_line
from bench.stats import DIRECTIONS
from bench.store import Record

FURTHER = "further_"  # prefix of the columns of further held-out splits
LARGEST = 1e12  # no score is beyond it
UNKNOWN_DEVICE = "unknown device"
# what reading the fields of a malformed record may raise
MALFORMED = (
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
)


@functools.lru_cache(maxsize=4096)  # most fields say the same in every record
def shown(value: str) -> str:
    """Return a name out of a record, maybe a stranger's, as one harmless line."""
    return one_line(value, 2000)


def preset_name(cell: Mapping[str, Any]) -> str:
    """Return the preset with its overrides in it, such as ``quick+epochs=2``."""
    return shown(joined(str(cell["preset"]), cell.get("overrides") or {}))


def shown_label(cell: Mapping[str, Any]) -> str:
    """Return how reports call the cell's method: its label, marked where it is set apart."""
    return shown(f"{cell['label']} {MARK}" if cell.get("not_like_for_like") else str(cell["label"]))


def row_of(record: Record) -> dict[str, Any]:
    """Return one flat row; raises a LookupError, TypeError or the like for a malformed record."""
    task = record["task"]
    metric, direction = str(task["metric"]), str(task["direction"])
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {DIRECTIONS}, got {direction!r}")
    row: dict[str, Any] = {
        **_asked(record),
        "family": str(task.get("family") or ""),
        "title": str(task.get("title") or record["cell"]["task"]),
        "limits": str(task.get("limits") or ""),
        "vocabulary": str(task.get("vocabulary") or ""),
        "generated": bool(record.get("generator")),
        "shared_from": "",
        "classes": finite(task.get("classes")),
        "metric": metric,
        "direction": direction,
        **_came_out(record, metric),
        **_cost(record),
        **_data(record.get("data") or {}),
        **_taught(record.get("teacher") or {}, metric),
        **_ran(record),
    }
    if row["status"] == "ok" and row["test_best"] is None:
        # Nothing to average, so it must not count as a finished run.
        row |= {
            "status": "failed",
            "error_class": "IncompleteRecord",
            "error_message": f"the record says ok but holds no test {metric} that could be one",
        }
    # names may be a stranger's: nothing in them does anything to a terminal, a page or a font
    return {name: shown(v) if isinstance(v, str) else v for name, v in row.items()}


def _asked(record: Record) -> dict[str, Any]:
    """Return what cell it is."""
    cell = record["cell"]
    values = cell.get("preset_values")
    values = values if isinstance(values, dict) else {}
    recipe = values.get("recipe")
    recipe = recipe if isinstance(recipe, dict) else {}
    return {
        # whose results these are; nothing imported ever stands in one table with our own
        "origin": str((record.get("external") or {}).get("origin") or ""),
        "task": str(cell["task"]),
        "preset": preset_name(cell),
        "source": str(cell["source"]),
        "label": shown_label(cell),
        "seed": int(cell["seed"]),
        "method": str(cell["method"]),
        "kind": str(cell["kind"]),
        "not_like_for_like": str(cell.get("not_like_for_like") or ""),
        "recipe": _recipe(recipe),
        "learning_rate": finite(recipe.get("learning_rate")),
        "teacher_seed": finite(cell.get("teacher_seed")),
        "version": version(cell),
        # where the data came from is told elsewhere
        "settings": {name: shown(written(v)) for name, v in leaves(values) if name != "source"},
    }


def version(cell: Mapping[str, Any]) -> str:
    """Return a short name for the code and the whole options of the cell's method."""
    told = json.dumps([cell.get("code"), cell.get("config")], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _came_out(record: Record, metric: str) -> dict[str, Any]:
    """Return how the cell ended and its scores."""
    metrics = record.get("metrics") or {}
    best, last = metrics.get("best") or {}, metrics.get("last") or {}
    test = best.get("test") or {}
    error = record.get("error") or {}
    return {
        "status": str(record["status"]),
        "error_class": str(error.get("class") or ""),
        "error_message": without_paths(first_line(str(error.get("message") or ""))),
        "test_best": _score(test.get(metric)),
        "test_last": _score((last.get("test") or {}).get(metric)),
        "validation_best": _score((best.get("validation") or {}).get(metric)),
        "best_epoch": finite(best.get("epoch")),
        "agreement": None,
        **{f"test_{name}": _score(value) for name, value in test.items()},
        # held-out splits beside the official test, shown in columns of their own
        **{
            f"{FURTHER}{name}": _score(scores.get(metric))
            for name, scores in best.items()
            if name not in ("validation", "test") and isinstance(scores, dict)
        },
    }


def _score(value: object) -> float | None:
    """Return ``value`` as a score, or None: one that no metric has would overflow in a mean."""
    number = finite(value)
    return number if number is not None and abs(number) <= LARGEST else None


def _cost(record: Record) -> dict[str, Any]:
    """Return parameters, seconds and memory."""
    parameters = record.get("parameters") or {}
    return {
        "deployed": finite(parameters.get("deployed")),
        "train_only": finite(parameters.get("train_only")),
        "train_seconds": finite((record.get("timings") or {}).get("train_s")),
        "peak_memory": finite((record.get("memory") or {}).get("peak_rss_bytes")),
        "micro_batches": _parts(record.get("batching")),
        # what trained apart from the cell and may have run out of memory by itself
        "taught_in_parts": max(_parts(record.get(name)) for name in ("teacher", "generator")) > 1,
    }


def _parts(found: Any) -> float:
    """Return into how many parts each batch was cut, by a part of a record."""
    return (finite(found.get("micro_batches")) if isinstance(found, dict) else None) or 1.0


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    rows = data.get("rows") or {}
    return {
        "data_name": str(data.get("name") or ""),
        "fingerprint": str(data.get("fingerprint") or ""),
        **{f"rows_{split}": finite(rows.get(split)) for split in ("train", "validation", "test")},
        "dropped": ", ".join(f"{n} {why}" for why, n in (data.get("dropped") or {}).items()),
    }


def _taught(teacher: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return who taught: the task's one teacher, or one of the method's own."""
    score = _score((teacher.get("test") or {}).get(metric))
    own = bool(teacher.get("objective"))
    return {
        "teacher_name": str(teacher.get("name") or ""),
        "teacher_score": None if own else score,
        "teacher_copy": "" if own else teacher_copy(teacher, metric),
        "own_teacher_score": score if own else None,
        "own_teacher_seconds": finite(teacher.get("seconds")) if own else None,
    }


def teacher_copy(teacher: Mapping[str, Any], metric: str) -> str:
    """Return a name for the weights that taught; empty where nothing tells them apart.

    A teacher that is trained again from the same seed on another machine has the same key and
    other weights.  What it scored, to the last digit, tells the two apart.
    """
    scores = [
        finite(split.get(name)) if isinstance(split, Mapping) else None
        for split in (teacher.get("test"), teacher.get("validation"))
        for name in (metric, "nll")
    ]
    if not teacher.get("key") or scores[0] is None:
        return ""
    told = f"{teacher['key']} {teacher.get('name')} {scores}"
    return hashlib.sha256(told.encode(errors="replace")).hexdigest()[:12]


def _ran(record: Record) -> dict[str, Any]:
    """Return where, when and by which code."""
    environment = record.get("environment") or {}
    return {
        "device": str(environment.get("device") or UNKNOWN_DEVICE),
        "device_name": str(environment.get("device_name") or ""),
        "torch": str(environment.get("torch") or ""),
        "revision": short_revision(record.get("revision")),
        "finished": str(record.get("finished") or ""),
        "key": str(record["key"]),
    }


def _recipe(recipe: Mapping[str, Any]) -> str:
    """Return how students are trained, in words; empty where a record does not say it all."""
    epochs, batch, rate = (
        finite(recipe.get(name)) for name in ("epochs", "batch_size", "learning_rate")
    )
    if epochs is None or batch is None or rate is None or not recipe.get("optimizer"):
        return ""
    many = "epoch" if epochs == 1 else "epochs"
    return f"{epochs:g} {many}, batch {batch:g}, {recipe['optimizer']} at rate {rate:g}"


def short_revision(revision: Mapping[str, Any] | None) -> str:
    """Return the first ten characters of a record's revision, marked when the tree was changed."""
    if not revision or not revision.get("git"):
        return ""
    return str(revision["git"])[:10] + ("+uncommitted" if revision.get("clean") is False else "")


def finite(value: object) -> float | None:
    """Return ``value`` as a finite float, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's whole numbers have no largest one
        return None
    return number if math.isfinite(number) else None
