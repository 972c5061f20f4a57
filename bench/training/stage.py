"""One stage of training: its optimiser, its steps, its phases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bench.data.splits import View
from bench.errors import BenchError, Diverged
from bench.method import Method, Progress, Stage
from bench.models.base import Model
from bench.tasks.preset import Recipe
from bench.training.evaluate import autocast
from bench.training.generation import without_statistics
from bench.training.schedule import learning_rate_factor
from bench.training.setting import Setting, TeacherCall
from bench.training.streams import stream_seed
from bench.types import Batch, Output


@dataclass(frozen=True)
class Moment:
    """Where a run is.

    Attributes:
        epoch: 0-based, over all stages.
        at: the batch's place in the epoch.
        view: of the training samples.
        progress: of the stage, as methods are told.
    """

    epoch: int
    at: int
    view: View
    progress: Progress


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


class StageRunner:
    """Runs the epochs of one stage.

    Attributes:
        notes: what the method noted in the last epoch, averaged over its steps.
    """

    def __init__(
        self,
        student: Model,
        method: Method,
        teacher: TeacherCall | None,
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
        self.notes: dict[str, float] = {}

    def epoch(
        self, optimizer: torch.optim.Optimizer, epoch: int, stage_epoch: int
    ) -> tuple[dict[str, float], float]:
        """Run one epoch; returns mean loss terms and the last learning rate.

        Args:
            optimizer: over all that is trained.
            epoch: 0-based, over all stages; it names the views and the order.
            stage_epoch: 0-based in this stage; it places the learning rate.
        """
        self.student.train()
        self.method.train()
        totals: dict[str, Tensor] = {}
        noted: dict[str, Tensor] = {}
        order = self.setting.train.training_order(
            self.setting.seed, epoch, self.setting.recipe.batch_size
        )
        rate = self.setting.recipe.learning_rate
        for at, index in enumerate(order):
            step = stage_epoch * self.steps_per_epoch + at
            rate, terms, notes = self.step(optimizer, index, epoch=epoch, at=at, step=step)
            _add(totals, terms)
            _add(noted, notes)
        with self.setting.phases.measure("step"):  # reading the sums waits for the queued steps
            losses = {name: float(value) / len(order) for name, value in totals.items()}
            self.notes = {name: float(value) / len(order) for name, value in noted.items()}
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            raise Diverged(
                f"loss '{bad[0]}' is {losses[bad[0]]} in epoch {epoch + 1}", "lower the rate"
            )
        return losses, rate

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        index: np.ndarray,
        *,
        epoch: int,
        at: int,
        step: int,
    ) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
        """Take one optimiser step on the samples at ``index``.

        Nothing here waits for the device: loss terms come back as tensors.

        Args:
            optimizer: over all that is trained.
            index: sample indices ``(n,)``.
            epoch: names the view.
            at: the batch's place in the epoch; with the epoch it names the dropout masks.
            step: the step's place in the stage; it sets the learning rate.

        Returns:
            The learning rate, the detached loss terms and what the method noted.
        """
        moment = Moment(epoch, at, self._view(epoch), Progress(self.stage.name, step, self.steps))
        sums: dict[str, Tensor] = {}
        notes: dict[str, Tensor] = {}
        parts = np.array_split(index, min(self.setting.micro_batches, len(index)))
        for number, part in enumerate(parts):
            batch, guide, extra = self._given(part, number, moment)
            with self.setting.phases.measure("step"):
                terms = self._all_terms(batch, guide, extra, number, moment)
                share = len(part) / len(index)
                scaled = _scaled(terms, share)
                if number == 0:
                    optimizer.zero_grad(set_to_none=True)
                torch.stack(list(scaled.values())).sum().backward()  # type: ignore[no-untyped-call]
                _add(sums, scaled)
                _add(notes, _scaled(self.method.notes(), share))
        rate = self._rate(step)
        with self.setting.phases.measure("step"):
            self._descend(optimizer, rate)
        return rate, sums, notes

    def _rate(self, step: int) -> float:
        recipe = self.setting.recipe
        return recipe.learning_rate * learning_rate_factor(
            step,
            self.steps,
            schedule=recipe.schedule,
            warmup=recipe.warmup,
            milestones=recipe.milestones,
        )

    def _view(self, epoch: int) -> View:
        views = self.setting.recipe.views
        return View(self.setting.seed, epoch % views if views else epoch)

    def _given(
        self, part: np.ndarray, number: int, moment: Moment
    ) -> tuple[Batch, Output | None, tuple[Batch, Output] | None]:
        """Return the samples at ``part``, the teacher's output for them, and generated inputs with
        the teacher's output for those.
        """
        setting = self.setting
        with setting.phases.measure("data"):
            batch = setting.train.batch(part, moment.view)
        guide = extra = None
        if self.teacher is not None:
            with setting.phases.measure("teacher"):
                guide = self.teacher(batch, self.teacher_layers, moment.view)
        if setting.generated is not None and self.stage.until is None:
            with setting.phases.measure("generate"):
                extra = setting.generated(
                    self.method,
                    self.student,
                    batch,
                    view=moment.view,
                    epoch=moment.epoch,
                    at=moment.at,
                    part=number,
                    progress=moment.progress,
                )
        return batch, guide, extra

    def _all_terms(
        self,
        batch: Batch,
        guide: Output | None,
        extra: tuple[Batch, Output] | None,
        number: int,
        moment: Moment,
    ) -> dict[str, Tensor]:
        """Return the loss terms of part ``number`` of a batch, on real and on generated inputs."""
        # dropout of the student is the same for every method of a seed
        place = (moment.epoch, moment.at, number) if number else (moment.epoch, moment.at)
        torch.manual_seed(stream_seed(self.setting.seed, "dropout", *place))
        terms = self._terms(batch, guide, moment.progress)
        found = dict(_checked(terms, self.method, self.stage))
        if extra is not None:
            found |= self._generated_terms(*extra, moment.progress)
        return found

    def _descend(self, optimizer: torch.optim.Optimizer, rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate
        limit = self.method.clip(self.setting.recipe.clip)
        if limit is not None:
            nn.utils.clip_grad_norm_(
                [p for group in optimizer.param_groups for p in group["params"]], limit
            )
        optimizer.step()
        self.method.after_step(self.student)

    def _terms(
        self, batch: Batch, guide: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
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

    def _generated_terms(
        self, batch: Batch, guide: Output, progress: Progress
    ) -> Mapping[str, Tensor]:
        """Return the loss terms on generated inputs.

        The student normalises them by their own batch statistics, but the running statistics that
        it is deployed with are those of real inputs alone.
        """
        with autocast(self.device, self.setting.recipe.precision), without_statistics(self.student):
            output = self.method.student_output(self.student, batch, ())
        return self.method.generated_loss(
            batch=batch, student=output.float(), teacher=guide, progress=progress
        )


def _scaled(values: Mapping[str, Tensor], share: float) -> Mapping[str, Tensor]:
    """Return ``values`` times the share of its batch that a part is; of a whole batch, as is."""
    return values if share == 1 else {name: value * share for name, value in values.items()}


def _add(sums: dict[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        past = sums.get(name)
        sums[name] = value.detach() if past is None else past + value.detach()


def _checked(terms: object, method: Method, stage: Stage) -> Mapping[str, Tensor]:
    """Return what a loss gave when it can be descended; named scalars of which one has a gradient.

    Raises:
        BenchError: naming the method and what it gave.
    """
    if not isinstance(terms, Mapping):
        problem = f"a {type(terms).__name__}" if terms is not None else "nothing"
    elif not terms:
        problem = "no term"
    elif bad := [name for name, value in terms.items() if not _is_term(name, value)]:
        value = terms[bad[0]]
        shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        problem = f"{bad[0]!r}: a {type(value).__name__}{shape}"
    elif not any(value.requires_grad for value in terms.values()):
        problem = "terms without a gradient"
    else:
        return terms
    name = getattr(method, "name", type(method).__name__)
    raise BenchError(
        f"the loss of '{name}' returned {problem} in stage '{stage.name}'",
        "a mapping of names to scalar tensors",
    )


def _is_term(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and value.dim() == 0
