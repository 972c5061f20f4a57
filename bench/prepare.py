"""From a cell to what is trained: task, contender, student, teacher's signals, generator."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.cells import Cell
from bench.data.unlabelled import Unlabelled
from bench.errors import BenchError
from bench.generators.base import GeneratorModule
from bench.generators.train import load_generator
from bench.generators.variants import open_variants
from bench.method import PROBE_SIZE, Method, Setup
from bench.models.base import Model, uniform_pairs
from bench.tasks.base import Data, Task
from bench.teachers.serve import open_signals, teacher_head
from bench.teachers.signals import TeacherSource
from bench.teachers.store import TeacherFiles, identity_of
from bench.training.generation import Generated
from bench.training.loop import Trained, train
from bench.training.setting import Setting, part_size
from bench.training.streams import stream_seed


@dataclass(frozen=True)
class Prepared:
    """A student, a method that is set up and its teacher: ready to train.

    Attributes:
        student: initialised from the cell's seed, on the cell's device.
        method: set up for it.
        source: what serves the teacher's signals; ``None`` without a teacher.
        manifest: the teacher's; ``None`` without one.
        setting: data, recipe and score of the training.
        seconds: time that preparing took, without loading the data.
        generator: the generator's manifest; ``None`` without one.
    """

    student: Model
    method: Method
    source: TeacherSource | None
    manifest: dict[str, Any] | None
    setting: Setting
    seconds: float
    generator: dict[str, Any] | None = None

    def train(self, checkpoint: Path, report: Callable[[dict[str, Any]], None]) -> Trained:
        """Train the student, from ``checkpoint`` on if there is one; see :func:`train`."""
        return train(
            student=self.student,
            method=self.method,
            teacher=self.source,
            setting=self.setting,
            report=report,
            checkpoint=checkpoint,
        )


def prepare(cell: Cell, task: Task, data: Data, method: Method, micro_batches: int = 1) -> Prepared:
    """Build the student and the teacher source and set the method up.

    Each batch is run in ``micro_batches`` parts, also in fit-time passes and for the teacher's
    signals.  Mining and generators keep whole batches, which shape their output.
    """
    clock = time.perf_counter()
    size = part_size(task.preset.evaluation_batch, micro_batches)
    device = data.train.labels.device
    # the student's initialisation is the same for every method of a seed: its own stream, first
    torch.manual_seed(stream_seed(cell.seed, "init"))
    student = task.build_model(task.preset.student, data=data).to(device)
    source, manifest, pairs = None, None, []
    generator, generator_manifest = None, None
    if cell.teacher is not None:
        manifest = TeacherFiles.of(cell.task, cell.teacher.key).require()
        pairs = uniform_pairs(student.depth, manifest["depth"])
        layers = [hint for _, hint in method.hints(pairs)]
        source = task.teacher_source(
            open_signals(
                cell, task, data, layers, signals=method.signals, micro_batches=micro_batches
            )
        )
    if cell.generator is not None:
        generator, generator_manifest = load_generator(cell.generator, task, data)
    if task.preset.recipe.compile:
        student.compile()
    torch.manual_seed(stream_seed(cell.seed, "method"))
    context = Setup(
        student=student,
        num_classes=task.num_classes,
        family=task.family,
        pairs=pairs,
        probe=data.train.batch(np.arange(min(PROBE_SIZE, len(data.train)))),
        teacher=source,
        head=teacher_head(cell.teacher) if "head" in method.signals and cell.teacher else None,
        training_batches=lambda: (
            data.train.batch(index) for index in data.train.evaluation_order(size)
        ),
        generator=torch.Generator().manual_seed(stream_seed(cell.seed, "method")),
        subclasses=data.subclasses if cell.oracle else None,
        unlabelled=Unlabelled(data.unlabelled, cell.seed) if data.unlabelled else None,
        generator_model=generator,
    )
    method.setup(context)
    _check_own_parameters(cell, method, student)
    setting = Setting(
        train=data.train,
        validation=data.validation,
        recipe=task.preset.recipe,
        seed=cell.seed,
        score=task.evaluate,
        metric=task.metric,
        direction=task.direction,
        pairs=pairs,
        evaluation_batch=task.preset.evaluation_batch,
        generated=_generated(cell, task, data, method, source, generator, size),
        micro_batches=micro_batches,
        taught_by=_taught_by(cell, generator_manifest),
    )
    seconds = time.perf_counter() - clock
    method.to(device)
    return Prepared(student, method, source, manifest, setting, seconds, generator_manifest)


def _check_own_parameters(cell: Cell, method: Method, student: Model) -> None:
    """Refuse a method that holds the student, whose parameters each step would update twice."""
    own = {id(parameter) for parameter in method.parameters()}
    if any(id(parameter) in own for parameter in student.parameters()):
        raise BenchError(
            f"method '{cell.method}' keeps the student as a module of its own",
            "every loss is given the student's output; assign no part of the student to self",
        )


def _taught_by(cell: Cell, generator: Mapping[str, Any] | None) -> str:
    copies = [generator["fingerprint"]] if generator else []
    if cell.teacher is not None:
        copies.append(identity_of(cell.teacher.task, cell.teacher.key))
    return " ".join(copies)


def _generated(
    cell: Cell,
    task: Task,
    data: Data,
    method: Method,
    source: TeacherSource | None,
    generator: GeneratorModule | None,
    size: int,
) -> Generated | None:
    """Return the source of generated inputs; ``None`` for a method that generates none."""
    if not method.generates:
        return None
    if source is None or source.live is None:
        raise BenchError(f"method '{cell.method}' generates inputs, which only a teacher can label")
    variants = []
    if generator is not None and not generator.differentiable:
        variants = open_variants(cell, task, data, method, generator, source.live, size)
    return Generated(
        train=data.train,
        source=source,
        seed=cell.seed,
        precision=task.preset.recipe.precision,
        generator=generator,
        variants=variants,
    )
