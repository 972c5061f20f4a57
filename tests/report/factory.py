"""Small hand-made records for the report's tests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from bench.report.content import Context
from bench.report.costs import collect_costs, usable_costs
from bench.report.frame import collect
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


def learned(made: Record, epochs: int = 6) -> Record:
    """Return ``made`` with a learning curve that ends at its score."""
    metric = made["task"]["metric"]
    final = made["metrics"]["best"]["validation"][metric]
    made["epochs"] = [
        {
            "epoch": at,
            "stage": "main",
            "lr": 0.1,
            "seconds": 2.0,
            "losses": {"ce": 1.0 / at},
            "validation": {metric: final * (1 - 0.5**at), "nll": 1.0 / at},
        }
        for at in range(1, epochs + 1)
    ]
    return made


def cost(label: str = "kd", served: str = "cached", speed: float = 1.0, **changes: Any) -> Record:
    """Return one cost record; ``speed`` scales its rates."""
    made = record(label, 0, 0.5, **changes)
    step = {"samples_per_s": 900.0 * speed, "p5_s": 0.09, "p50_s": 0.1, "p95_s": 0.12}
    kept = ("schema", "key", "status", "cell", "task", "environment", "revision", "finished")
    return {name: made[name] for name in kept} | {
        "kind": "cost",
        "error": None,
        "teacher_served": served,
        "training": {
            "step": {**step, "repetitions": 20, "samples": 128},
            "memory": {"rss_growth_bytes": int(60e6 / speed)},
            "flops_per_sample": 3.1e7 / speed,
        },
        "inference": {
            "throughput": {"samples_per_s": 5200.0 * speed},
            "latency": {"p50_s": 0.0021 / speed, "p95_s": 0.003 / speed},
            "flops_per_sample": 1.2e7,
        },
        "parameters": {"deployed": 412_000, "train_only": 0, "teacher": 2_000_000},
    }


NAMES = ("scratch", "kd", "fitnets", "lelp", "dkd", "gpd", "tgt", "label_smoothing")
TASKS = ("amazon", "amazon-5", "cifar10", "cifar10-binary", "cifar100", "sentiment140")


def world(seeds: int = 6, tasks: int = 6, methods: int = 8) -> tuple[list[Record], list[Record]]:
    """Return records and cost records of a made-up benchmark with plausible numbers.

    Every method has its own merit, every task its own level and gap, every seed its own luck that
    all methods share in part; all drawn from a fixed seed.
    """
    rng = np.random.default_rng(5)
    names = [*NAMES, *(f"method-{at}" for at in range(len(NAMES), methods))][:methods]
    merit = {name: 0.0 if name == "scratch" else float(rng.uniform(-0.15, 0.9)) for name in names}
    made, costs = [], []
    for at in range(tasks):
        task = [*TASKS, *(f"task-{n}" for n in range(len(TASKS), tasks))][at]
        level, gap = float(rng.uniform(0.55, 0.8)), float(rng.uniform(0.03, 0.12))
        luck = rng.normal(0, 0.006, seeds)
        for name in names:
            taste = merit[name] + (0.0 if name == "scratch" else float(rng.normal(0, 0.2)))
            scores = level + gap * taste + luck + rng.normal(0, 0.004, seeds)
            made += [
                learned(record(name, seed, float(score), task=task, teacher=level + gap))
                for seed, score in enumerate(scores)
            ]
            speed = float(rng.uniform(0.5, 1.0))
            served = "none" if name in ("scratch", "label_smoothing") else "cached"
            costs.append(cost(name, served, speed, task=task))
            if served == "cached":
                costs.append(cost(name, "live", 0.6 * speed, task=task))
        made.append(record("teacher", 0, level + gap, task=task, teacher=None))
    return made, costs


def runs_of(task: str, seeds: int = 3) -> list[Record]:
    """Return the plain student and KD on ``task``."""
    return [
        record(name, seed, score + seed / 100, task=task)
        for name, score in (("scratch", 0.7), ("kd", 0.75))
        for seed in range(seeds)
    ]


def runs(method: str, scores: Iterable[float], **changes: Any) -> list[Record]:
    """Return a record of ``method`` for each of ``scores``, seeds from 0."""
    return [record(method, seed, score, **changes) for seed, score in enumerate(scores)]


def context(records: list[Record], costs: Iterable[Record] = ()) -> Context:
    """Return what a report is rendered from."""
    return Context(collect(records).frame, collect_costs(usable_costs(costs)[0]), records)
