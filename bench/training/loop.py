"""The one training loop: teachers, students and every method run through it.

Fair by construction: batch order, views and dropout are functions of the seed and the position
alone, every method takes the same number of optimiser steps, and selection looks at validation
only.  The loop never knows a method's name.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.data.splits import Split, View
from bench.errors import BenchError
from bench.method import Method, Progress, Stage
from bench.models.base import Model
from bench.tasks.base import Recipe
from bench.training.checkpoint import Checkpoint
from bench.training.evaluate import autocast, predict
from bench.training.schedule import learning_rate_factor, stage_epochs
from bench.training.streams import stream_seed
from bench.types import Batch, Output

TeacherCall = Callable[[Batch, Sequence[int]], Output]
Score = Callable[[np.ndarray, np.ndarray], dict[str, float]]


class Diverged(BenchError):
    """Training produced a loss that is not finite."""


@dataclass(frozen=True)
class Setting:
    """Everything of a run but the student, the method and the teacher.

    Attributes:
        train: the training split.
        validation: the split that selects the epoch.
        recipe: optimiser, schedule, epochs, precision.
        seed: the cell's seed.
        score: metrics from (logits, labels).
        metric: the metric that selects.
        direction: "max" or "min".
        pairs: the layer map for hints.
        evaluation_batch: batch size for validation.
    """

    train: Split
    validation: Split
    recipe: Recipe
    seed: int
    score: Score
    metric: str
    direction: str
    pairs: Sequence[tuple[int, int]] = ()
    evaluation_batch: int = 500


@dataclass
class Trained:
    """The outcome of a run.

    Attributes:
        model: the deployed model, in its last state.
        best_state: its parameters and buffers at the epoch that was best on validation.
        best_epoch: that epoch, 1-based.
        epochs: one entry an epoch, as kept in the record.
        seconds: wall time by phase.
    """

    model: Model
    best_state: dict[str, Tensor]
    best_epoch: int
    epochs: list[dict[str, Any]]
    seconds: dict[str, float]


@dataclass
class _State:
    """What a checkpoint must bring back besides parameters and the optimiser."""

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
    teacher: Callable[[Batch, Sequence[int], View], Output] | None,
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
        Diverged: when a loss is not finite; checked once an epoch, so that no step waits for it.
    """
    stages = list(method.stages())
    counts = stage_epochs([stage.share for stage in stages], setting.recipe.epochs)
    saved = Checkpoint(checkpoint)
    state = _State()
    restored = saved.load(student=student, method=method)
    if restored is not None:
        state = _State(**restored.progress)
    first = state.stage
    for number in range(first, len(stages)):
        optimizer = build_optimizer(setting.recipe, student, method)
        if restored is not None and number == first and restored.optimizer:
            optimizer.load_state_dict(restored.optimizer)
        runner = _StageRunner(student, method, teacher, setting, stages[number], counts[number])
        offset = sum(counts[:number])
        while state.epoch < offset + counts[number]:
            started = time.perf_counter()
            losses, rate = runner.epoch(optimizer, state.epoch, state.epoch - offset)
            trained = time.perf_counter()
            state.seconds["train"] += trained - started
            entry = {
                "epoch": state.epoch + 1,
                "stage": stages[number].name,
                "losses": losses,
                "lr": rate,
                "seconds": trained - started,
                "validation": None,
            }
            if stages[number].evaluate:
                entry["validation"] = _validate(student, method, setting, state)
                state.seconds["evaluate"] += time.perf_counter() - trained
            state.epochs.append(entry)
            state.epoch += 1
            report(entry)
            saved.save(student=student, method=method, optimizer=optimizer, progress=vars(state))
        state.stage = number + 1
    return Trained(
        method.deploy(student), state.best_state, state.best_epoch, state.epochs, state.seconds
    )


def build_optimizer(recipe: Recipe, student: nn.Module, method: nn.Module) -> torch.optim.Optimizer:
    """Build the recipe's optimiser over the student and whatever the method trains beside it.

    AdamW does not decay vectors (norms and biases); SGD decays everything, as in the published
    CIFAR recipes.
    """
    parameters = [p for p in (*student.parameters(), *method.parameters()) if p.requires_grad]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=recipe.learning_rate,
            momentum=0.9,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


class _StageRunner:
    """Runs the epochs of one stage."""

    def __init__(
        self,
        student: Model,
        method: Method,
        teacher: Callable[[Batch, Sequence[int], View], Output] | None,
        setting: Setting,
        stage: Stage,
        epochs: int,
    ) -> None:
        self.student, self.method, self.teacher = student, method, teacher
        self.setting, self.stage = setting, stage
        self.device = next(student.parameters()).device
        self.steps_per_epoch = setting.train.steps(setting.recipe.batch_size)
        self.steps = epochs * self.steps_per_epoch
        hints = method.hints(setting.pairs) if stage.hints else ()
        self.student_layers = [pair[0] for pair in hints]
        self.teacher_layers = [pair[1] for pair in hints]

    def epoch(
        self, optimizer: torch.optim.Optimizer, epoch: int, stage_epoch: int
    ) -> tuple[dict[str, float], float]:
        """Run one epoch; returns mean loss terms and the last learning rate."""
        recipe, seed = self.setting.recipe, self.setting.seed
        self.student.train()
        self.method.train()
        view = View(seed, epoch)
        totals: dict[str, Tensor] = {}
        order = self.setting.train.training_order(seed, epoch, recipe.batch_size)
        rate = recipe.learning_rate
        for at, index in enumerate(order):
            step = stage_epoch * self.steps_per_epoch + at
            rate = recipe.learning_rate * learning_rate_factor(
                step,
                self.steps,
                schedule=recipe.schedule,
                warmup=recipe.warmup,
                milestones=recipe.milestones,
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            # dropout of the student is the same for every method of a seed
            torch.manual_seed(stream_seed(seed, "dropout", epoch, at))
            batch = self.setting.train.batch(index, view)
            terms = self._terms(batch, view, Progress(self.stage.name, step, self.steps))
            optimizer.zero_grad(set_to_none=True)
            total = torch.stack(list(terms.values())).sum()
            total.backward()  # type: ignore[no-untyped-call]
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(
                    [p for group in optimizer.param_groups for p in group["params"]], recipe.clip
                )
            optimizer.step()
            for name, value in terms.items():
                totals[name] = totals.get(name, 0.0) + value.detach()  # type: ignore[assignment]
        losses = {name: float(value) / len(order) for name, value in totals.items()}
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            raise Diverged(
                f"loss '{bad[0]}' is {losses[bad[0]]} in epoch {epoch + 1}", "lower the rate"
            )
        return losses, rate

    def _terms(self, batch: Batch, view: View, progress: Progress) -> Mapping[str, Tensor]:
        guide = None
        if self.teacher is not None:
            guide = self.teacher(batch, self.teacher_layers, view)
        with autocast(self.device, self.setting.recipe.precision):
            if self.stage.until is None:
                output = self.method.student_output(self.student, batch, self.student_layers)
            else:
                output = self.student(
                    batch.inputs, hidden=self.student_layers, until=self.stage.until
                )
        return self.method.loss(
            batch=batch, student=output.float(), teacher=guide, progress=progress
        )


def _validate(student: Model, method: Method, setting: Setting, state: _State) -> dict[str, float]:
    """Score the deployed model on validation and keep its state when it is the best so far."""
    deployed = method.deploy(student)
    logits = predict(
        deployed,
        setting.validation,
        batch_size=setting.evaluation_batch,
        precision=setting.recipe.precision,
    )
    if not np.isfinite(logits).all():
        raise Diverged(f"predictions are not finite after epoch {state.epoch + 1}")
    metrics = setting.score(logits, setting.validation.labels.cpu().numpy())
    past = [entry["validation"][setting.metric] for entry in state.epochs if entry["validation"]]
    sign = 1.0 if setting.direction == "max" else -1.0
    if not past or sign * metrics[setting.metric] > max(sign * value for value in past):
        state.best_epoch = state.epoch + 1
        state.best_state = {
            name: value.detach().to("cpu", copy=True)
            for name, value in deployed.state_dict().items()
        }
    return metrics
