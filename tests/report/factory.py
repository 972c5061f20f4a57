"""Small hand-made records for the report's tests."""

from __future__ import annotations

import hashlib
from typing import Any

from bench.store import Record


def record(
    method: str = "kd",
    seed: int = 0,
    score: float | None = 0.8,
    *,
    label: str | None = None,
    kind: str | None = None,
    task: str = "amazon",
    metric: str = "accuracy",
    direction: str = "max",
    status: str = "ok",
    error: dict[str, str] | None = None,
    preset: str = "quick",
    overrides: dict[str, Any] | None = None,
    finished: str = "2025-03-01T10:00:00+00:00",
    last: float | None = None,
    parameters: dict[str, int | None] | str | None = "student",
    teacher: float | None = 0.9,
    device: str = "cpu",
    not_like_for_like: str = "",
    own_teacher: tuple[float, float] | None = None,
) -> Record:
    """Return one record whose test score is ``score``; only what the reports read is filled.

    ``own_teacher`` is the score and the training seconds of a teacher of the method's own.
    """
    baselines = {"scratch", "teacher", "label_smoothing", "tfidf"}
    kind = kind or ("baseline" if method in baselines else "method")
    label = label or method
    identity = repr((label, seed, task, preset, overrides, finished, status, score, device))
    if parameters == "student":
        parameters = {"deployed": 412_000, "student": 412_000, "train_only": 0, "teacher": None}
    made: Record = {
        "schema": 1,
        "key": hashlib.sha256(identity.encode()).hexdigest(),
        "status": status,
        "cell": {
            **{"kind": kind, "method": method, "label": label, "options": {}, "config": {}},
            **{"task": task, "preset": preset, "overrides": overrides or {}, "seed": seed},
            **{"source": "embedded", "teacher_seed": 0},
        },
        "task": {
            **{"family": "text", "dataset": "embedded snippets", "metric": metric, "classes": 2},
            **{"title": f"{task} · embedded snippets", "direction": direction},
            "limits": "A few hundred sentences only.",
        },
        "error": error,
        "finished": finished,
    }
    if not_like_for_like:
        made["cell"]["not_like_for_like"] = not_like_for_like
    if status != "ok":
        return made
    test = {metric: score, "macro_f1": score, "nll": 0.5, "ece": 0.05}
    final = {**test, metric: score if last is None else last}
    made |= {
        "metrics": {
            "best": {"epoch": 3, "validation": test, "test": test},
            "last": {"epoch": 4, "validation": final, "test": final},
        },
        "timings": {"total_s": 14.0, "train_s": 12.0, "evaluate_s": 1.0, "setup_s": 1.0},
        "memory": {"peak_rss_bytes": 10**9},
        "parameters": parameters,
        "data": {
            **{"source": "embedded", "name": "snippets", "revision": "1", "fingerprint": "f" * 8},
            "rows": {"train": 1600, "validation": 200, "test": 200},
        },
        "teacher": None
        if teacher is None
        else {"key": "t", "name": "big", "seed": 0, "test": {metric: teacher}, "served": "cached"},
        "environment": {"torch": "2.9.0", "device": device, "device_name": "a cpu", "threads": 1},
        "revision": {"git": "0123456789abcdef", "clean": True},
    }
    if own_teacher:
        score, seconds = own_teacher
        own = {"objective": {"method": method}, "seconds": seconds, "test": {metric: score}}
        made["teacher"] = {**made["teacher"], **own}
    return made


def failure(method: str, seed: int, message: str, **changes: Any) -> Record:
    """Return the record of a cell that raised a ValueError with ``message``."""
    error = {"class": "ValueError", "message": message, "hint": "", "traceback": "…"}
    return record(method, seed, None, status="failed", error=error, **changes)
