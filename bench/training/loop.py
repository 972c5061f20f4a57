"""The one training loop: teachers, students and every method run through it.

Fair by construction: batch order, views and dropout are functions of the seed and the position
alone, every method takes the same number of optimiser steps, and selection looks at validation
only.  The loop never knows a method's name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bench import stopping
from bench.errors import Diverged
from bench.method import Method
from bench.models.base import Model
from bench.training.checkpoint import Checkpoint
from bench.training.evaluate import predict
from bench.training.schedule import stage_epochs
from bench.training.setting import Setting, TeacherCall
from bench.training.stage import StageRunner, build_optimizer


@dataclass
class Trained:
    """The outcome of a run.

    Attributes:
        model: the deployed model, in its last state.
        best_state: its parameters and buffers at the epoch that was best on validation.
        best_epoch: that epoch, 1-based.
        epochs: one entry per epoch, as kept in the record.
        seconds: wall time by phase.
    """

    model: Model
    best_state: dict[str, Tensor]
    best_epoch: int
    epochs: list[dict[str, Any]]
    seconds: dict[str, float]


@dataclass
class _State:
    """What a checkpoint must restore besides parameters and the optimiser."""

    stage: int = 0
    epoch: int = 0
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "evaluate": 0.0})


def train(
    *,
    student: Model,
    method: Method,
    teacher: TeacherCall | None,
    setting: Setting,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
    checkpoint: Path | None = None,
) -> Trained:
    """Train ``student`` with ``method`` and return it with its history.

    Args:
        student: initialised, on its device.
        method: already set up.
        teacher: gives the teacher's float32 output for (batch, hidden layers, view), without
            gradient; ``None`` when the method needs none.
        setting: data, recipe, seed and metric.
        report: called after each epoch with that epoch's entry.
        checkpoint: file to resume from and to save to; removed by the caller when done.

    Raises:
        Diverged: when a loss or prediction is not finite; checked once per epoch, to keep steps
            fast.
        Stopped: at the end of an epoch, after a checkpoint, when this process was asked to stop.
    """
    stages = list(method.stages())
    counts = stage_epochs([stage.share for stage in stages], setting.recipe.epochs)
    saved = Checkpoint(checkpoint, taught_by=setting.taught_by)
    state = _State()
    restored = saved.load(student=student, method=method)
    if restored is not None:
        state = _State(**restored.progress)
        setting.phases.seconds.update(
            {name: state.seconds[name] for name in state.seconds.keys() - {"train", "evaluate"}}
        )
    first = state.stage
    for number in range(first, len(stages)):
        optimizer = build_optimizer(setting.recipe, student, method)
        if restored is not None and number == first and restored.optimizer:
            optimizer.load_state_dict(restored.optimizer)
        runner = StageRunner(student, method, teacher, setting, stages[number], counts[number])
        offset = sum(counts[:number])
        while state.epoch < offset + counts[number]:
            started = time.perf_counter()
            losses, rate = runner.epoch(optimizer, state.epoch, state.epoch - offset)
            trained = time.perf_counter()
            state.seconds["train"] += trained - started
            state.seconds |= setting.phases.seconds
            entry = {
                "epoch": state.epoch + 1,
                "stage": stages[number].name,
                "losses": losses,
                "lr": rate,
                "seconds": trained - started,
                "validation": None,
            }
            if runner.notes:
                entry["notes"] = runner.notes
            if stages[number].evaluate:
                entry["validation"] = _validate(student, method, setting, state)
                entry |= _companions(student, method, setting, state)
                state.seconds["evaluate"] += time.perf_counter() - trained
            state.epochs.append(entry)
            state.epoch += 1
            report(entry)
            saved.save(student=student, method=method, optimizer=optimizer, progress=vars(state))
            if state.epoch < sum(counts):  # the last epoch's work is better finished than repeated
                stopping.check()
        state.stage = number + 1
    return Trained(
        method.deploy(student), state.best_state, state.best_epoch, state.epochs, state.seconds
    )


def _validate(student: Model, method: Method, setting: Setting, state: _State) -> dict[str, float]:
    """Return the deployed model's validation scores; keep its state if it is the best so far."""
    deployed = method.deploy(student)
    metrics = _score(deployed, setting, state)
    past = [entry["validation"][setting.metric] for entry in state.epochs if entry["validation"]]
    sign = 1.0 if setting.direction == "max" else -1.0
    if not past or sign * metrics[setting.metric] > max(sign * value for value in past):
        state.best_epoch = state.epoch + 1
        state.best_state = {
            name: value.detach().to("cpu", copy=True)
            for name, value in deployed.state_dict().items()
        }
    return metrics


def _companions(
    student: Model, method: Method, setting: Setting, state: _State
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the entry with the scores of models trained beside the student; empty without."""
    found = {
        name: _score(model, setting, state) for name, model in method.companions(student).items()
    }
    return {"companions": found} if found else {}


def _score(model: Model, setting: Setting, state: _State) -> dict[str, float]:
    logits = predict(
        model,
        setting.validation,
        batch_size=setting.evaluation_size,
        precision=setting.recipe.precision,
    )
    if not np.isfinite(logits).all():
        raise Diverged(f"predictions are not finite after epoch {state.epoch + 1}")
    return setting.score(logits, setting.validation.labels.cpu().numpy())
