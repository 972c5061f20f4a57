"""The cost of one method on one task, measured in a process of its own after warm-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import stopping
from bench.baseline import TEACHER
from bench.cells import Cell
from bench.config import content_hash
from bench.environment import device_name, environment, revision
from bench.failures import failure, storage_problem
from bench.measure.energy import counts_energy, energy
from bench.measure.flops import count_flops
from bench.measure.memory import peak_memory_growth
from bench.measure.phases import Phases
from bench.measure.timing import Timing, time_calls
from bench.method import Method, Stage
from bench.models.base import Model, parameter_count
from bench.opening import load_data, make_contender, open_task
from bench.prepare import Prepared, prepare
from bench.store import COST_SCHEMA, as_json, slug, write_atomically
from bench.tasks.base import Data, Task
from bench.teachers.train import load_teacher
from bench.training.evaluate import autocast, evaluating
from bench.training.schedule import stage_epochs
from bench.training.stage import StageRunner, build_optimizer

# in the key, raised when what is measured changes (2: FLOPs of what is timed, more of slow steps)
MEASUREMENT = 2
LATENCY_CALLS = 50
SLOW_SECONDS = 30.0  # of counted steps, after which a slow method is repeated no further


@dataclass(frozen=True)
class CostSpec:
    """What to measure.

    Attributes:
        cell: the method, task, preset and seed; its ``signals`` says how the teacher is served.
        steps: training steps that count, after ``warmup``.
        warmup: calls before the clock starts.
    """

    cell: Cell
    steps: int = 12
    warmup: int = 2

    @property
    def key(self) -> str:
        """Return the hash of what is measured and how."""
        return content_hash(
            ["cost", COST_SCHEMA, MEASUREMENT, self.cell.key, self.steps, self.warmup]
        )

    @property
    def mode(self) -> str:
        """Return how the teacher is served: none, cached or live."""
        if not self.cell.uses_signals:
            return "none"
        return "live" if self.cell.signals == "live" else "cached"


def cost_path(root: Path, spec: CostSpec, threads: int) -> Path:
    """Return where the cost of ``spec`` on this machine with ``threads`` belongs below ``root``."""
    cell = spec.cell.described()
    changes = "".join(f"+{k}={v}" for k, v in sorted(cell["overrides"].items()))
    folder = root / slug(cell["preset"] + changes) / slug(cell["task"]) / slug(cell["label"])
    machine = content_hash([device_name(spec.cell.device), threads])
    return folder / f"cost-{spec.mode}-{spec.key[:12]}-{machine[:8]}.cost.json"


def measure_cost(spec: CostSpec, results: Path) -> dict[str, Any]:
    """Measure, write the cost record below ``results`` and return it."""
    cell, threads = spec.cell, torch.get_num_threads()
    known: dict[str, Any] = {
        "schema": COST_SCHEMA,
        "kind": "cost",
        "measurement": MEASUREMENT,
        "key": spec.key,
        "cell": cell.described(),
        "task": dict(cell.task_info),
        "teacher_served": spec.mode,  # as asked for, until it is known
        "cache_bytes": cell.cache_bytes,
        "environment": environment(cell.device, threads),
        "revision": revision(),
        "error": None,
    }
    try:
        record = {**known, **_measure(spec), "status": "ok"}
        as_json(record)  # refuses a number that JSON cannot hold
    except stopping.Stopped:
        raise
    except Exception as error:
        if storage_problem(error):
            raise
        record = {**known, **failure(error)}
    record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_atomically(cost_path(results, spec, threads), as_json(record))
    return record


def _measure(spec: CostSpec) -> dict[str, Any]:
    cell = spec.cell
    task = open_task(cell)
    method = make_contender(cell)
    data = load_data(cell, task)
    if cell.method == TEACHER:
        return _measure_teacher(spec, task, data)
    if not isinstance(method, Method):
        raise TypeError(f"'{cell.method}' is not trained by the suite, so there is no step to time")
    prepared = prepare(cell, task, data, method)
    timed = replace(prepared.setting, phases=Phases(cell.device, synchronise=True))
    prepared = replace(prepared, setting=timed)
    stages = list(method.stages())
    shares = _shares(prepared, stages)
    # memory first: once an allocator has grown, the process's growth shows nothing any more
    memory = _training_memory(prepared, stages, spec)
    measured = [_stage(prepared, stage, spec) for stage in stages]
    flops = _step_flops(prepared, stages, shares, spec)
    deployed = method.deploy(prepared.student)
    served = prepared.source.served if spec.mode != "none" and prepared.source else spec.mode
    return {
        "teacher_served": served,
        "training": {
            "step": _whole(shares, [timing for timing, _ in measured]),
            "stages": {
                stage.name: {**timing.summary(), "phases_s": found}
                for stage, (timing, found) in zip(stages, measured, strict=True)
            },
            "memory": memory,
            "energy": _training_energy(prepared, stages, shares, spec),
            "flops_per_sample": flops,
        },
        "inference": _inference(deployed, data, task, task.preset.recipe.precision),
        "parameters": {
            "deployed": parameter_count(deployed),
            "train_only": parameter_count(method),
            "teacher": prepared.manifest["parameters"] if prepared.manifest else None,
        },
    }


def _measure_teacher(spec: CostSpec, task: Task, data: Data) -> dict[str, Any]:
    """Measure what serving the teacher takes, in the precision that it is tested in."""
    if spec.cell.teacher is None:
        raise TypeError(f"'{spec.cell.method}' is planned without a teacher")
    teacher, manifest = load_teacher(spec.cell.teacher, task, data)
    return {
        "teacher_served": spec.mode,
        "training": None,
        "inference": _inference(teacher, data, task, task.preset.teacher_recipe.precision),
        "parameters": {
            "deployed": parameter_count(teacher),
            "train_only": 0,
            "teacher": manifest["parameters"],
        },
    }


class _Stepper:
    """Takes training steps of one stage, one call each, batches in their training order."""

    def __init__(self, prepared: Prepared, stage: Stage) -> None:
        self.setting = prepared.setting
        prepared.student.train()
        prepared.method.train()
        self.runner = StageRunner(
            prepared.student, prepared.method, prepared.source, self.setting, stage, epochs=1
        )
        self.optimizer = build_optimizer(self.setting.recipe, prepared.student, prepared.method)
        self.order = self.setting.train.training_order(
            self.setting.seed, 0, self.setting.recipe.batch_size
        )

    @property
    def batch_size(self) -> int:
        return len(self.order[0])

    def __call__(self, at: int) -> None:
        place = at % len(self.order)
        self.runner.step(self.optimizer, self.order[place], epoch=0, at=place, step=place)


def _stage(prepared: Prepared, stage: Stage, spec: CostSpec) -> tuple[Timing, dict[str, float]]:
    """Time the steps of a stage; return their timing, and seconds per step by phase."""
    step = _Stepper(prepared, stage)
    phases = prepared.setting.phases
    for at in range(spec.warmup):
        step(at)
    phases.seconds.clear()
    timing = time_calls(
        lambda at: step(spec.warmup + at),
        samples=step.batch_size,
        device=spec.cell.device,
        repetitions=spec.steps,
        warmup=0,
        limit_s=SLOW_SECONDS,
    )
    steps = len(timing.seconds)
    return timing, {name: value / steps for name, value in phases.seconds.items()}


def _shares(prepared: Prepared, stages: Sequence[Stage]) -> list[float]:
    """Return each stage's share of the training: of its whole epochs, as the loop counts them."""
    counts = stage_epochs([stage.share for stage in stages], prepared.setting.recipe.epochs)
    return [count / sum(counts) for count in counts]


def _whole(shares: Sequence[float], timings: Sequence[Timing]) -> dict[str, float | int]:
    """Return one summary of all stages, weighted by their ``shares`` of the steps."""
    summaries = [timing.summary() for timing in timings]
    seconds = {
        name: sum(share * each[name] for share, each in zip(shares, summaries, strict=True))
        for name in ("p5_s", "p50_s", "p95_s")
    }
    samples = timings[0].samples
    return {
        **seconds,
        "samples_per_s": samples / seconds["p50_s"],
        "samples": samples,
        "repetitions": min(int(each["repetitions"]) for each in summaries),
    }


def _training_memory(prepared: Prepared, stages: Sequence[Stage], spec: CostSpec) -> dict[str, int]:
    """Return the peak growth over the loaded models during a few steps of each stage."""
    with peak_memory_growth(spec.cell.device) as found:
        for stage in stages:
            step = _Stepper(prepared, stage)
            for at in range(2):
                step(at)
            del step  # its optimiser's state is not there in the next stage
    return found


def _training_energy(
    prepared: Prepared, stages: Sequence[Stage], shares: Sequence[float], spec: CostSpec
) -> dict[str, float]:
    """Return joules per sample, weighted by ``shares``; empty where no counter can be read."""
    total: dict[str, float] = {}
    if not counts_energy(spec.cell.device):
        return total
    for stage, share in zip(stages, shares, strict=True):
        step = _Stepper(prepared, stage)
        with energy(spec.cell.device) as found:
            for at in range(spec.steps):
                step(at)
            if torch.device(spec.cell.device).type == "cuda":
                torch.cuda.synchronize(spec.cell.device)
        for name, value in found.items():
            each = share * value / (spec.steps * step.batch_size)
            total[f"{name}_per_sample"] = total.get(f"{name}_per_sample", 0.0) + each
    return total


def _step_flops(
    prepared: Prepared, stages: Sequence[Stage], shares: Sequence[float], spec: CostSpec
) -> float:
    """Return the floating-point operations of training per sample, weighted by ``shares``.

    Batches of texts differ in length, so the operations are those of the steps that are timed.
    """
    total = 0.0
    for stage, share in zip(stages, shares, strict=True):
        step = _Stepper(prepared, stage)

        def steps(step: _Stepper = step) -> None:
            for at in range(spec.steps):
                step(spec.warmup + at)

        total += share * count_flops(steps) / (spec.steps * step.batch_size)
    return total


def _inference(model: Model, data: Data, task: Task, precision: str) -> dict[str, Any]:
    """Time the deployed model on test samples: one at a time, and in large batches."""
    device = data.test.labels.device
    large = min(task.preset.evaluation_batch, len(data.test))
    one = [data.test.batch(np.array([at % len(data.test)])) for at in range(LATENCY_CALLS)]
    many = data.test.batch(np.arange(large))
    serve = data.test.serving(model)
    with evaluating(model), autocast(device, precision):
        latency = time_calls(
            lambda at: serve(one[at % LATENCY_CALLS]),
            samples=1,
            device=device,
            repetitions=LATENCY_CALLS,
            warmup=5,
        )
        throughput = time_calls(
            lambda at: serve(many), samples=large, device=device, repetitions=5, warmup=2
        )
        memory: dict[str, int] = {}
        if device.type == "cuda":  # a processor's resident size would show what training left
            with peak_memory_growth(device) as memory:
                serve(many)
        further = data.test.serving_costs(model, task.preset.evaluation_batch)
    with evaluating(model):  # texts differ in length: of those whose latency is measured
        flops = count_flops(lambda: [serve(each) for each in one]) / LATENCY_CALLS
    return {
        "latency": latency.summary(),
        "throughput": throughput.summary(),
        "memory": memory,
        "flops_per_sample": flops,
        **further,
    }
