"""Inputs that a method generates, and the teacher's outputs for them, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from bench.data.splits import Split, View
from bench.method import Generation, Method, Progress
from bench.models.base import Model
from bench.training.evaluate import autocast
from bench.training.streams import stream_seed
from bench.types import Batch, Output

if TYPE_CHECKING:
    from bench.generators.base import Generator
    from bench.teachers.signals import LiveTeacher, TeacherSource


@dataclass(frozen=True)
class Variant:
    """One generated input for each training sample, made before training.

    Attributes:
        split: sample ``i`` was made from training sample ``i``; its labels are −1.
        teacher: gives the teacher's outputs for them.
    """

    split: Split
    teacher: TeacherSource


class Generated:
    """Makes a step's generated batch and asks the teacher about it.

    Args:
        train: the training split.
        source: serves the teacher on training samples; its live teacher runs on all other inputs.
        seed: the cell's seed.
        precision: autocast type of generator and student.
        generator: frozen; ``None`` where the method needs none.
        variants: made before training; used in turn, one per epoch, where there are any.
    """

    def __init__(
        self,
        *,
        train: Split,
        source: TeacherSource,
        seed: int,
        precision: str,
        generator: Generator | None = None,
        variants: Sequence[Variant] = (),
    ) -> None:
        if source.live is None:
            raise ValueError("generated inputs need a teacher that can be run")
        self.train, self.source, self.seed, self.precision = train, source, seed, precision
        self.generator, self.variants = generator, list(variants)
        self.live: LiveTeacher = source.live

    def __call__(
        self,
        method: Method,
        student: Model,
        batch: Batch,
        *,
        view: View,
        epoch: int,
        at: int,
        part: int = 0,
        progress: Progress,
    ) -> tuple[Batch, Output]:
        """Return the generated batch of a step and the teacher's float32 output for it.

        Every draw is a function of the seed and the position, and no other stream is affected.
        """
        place = (epoch, at, part) if part else (epoch, at)
        position = stream_seed(self.seed, "generated", *place)
        index = method.choose_seeds(batch, np.random.default_rng(position))
        if self.variants:
            chosen = batch.index.cpu().numpy() if index is None else index
            variant = self.variants[epoch % len(self.variants)]
            made = variant.split.batch(chosen)
            return made, variant.teacher(made, ())
        seeds = batch if index is None else self.train.batch(index, view)
        other = View(stream_seed(self.seed, "second view"), view.epoch)
        device = next(student.parameters()).device
        with torch.random.fork_rng(devices=[]), frozen(student), autocast(device, self.precision):
            inputs = method.generate(
                batch=seeds,
                context=Generation(
                    generator=self.generator,
                    teacher=self.live.respond,
                    student=lambda given: student(given).float(),
                    another_view=lambda chosen: self.train.batch(chosen, other),
                    random=torch.Generator().manual_seed(position),
                ),
                progress=progress,
            )
        if inputs is seeds.inputs:  # training samples as they are: what is cached of them holds
            made = unlabelled(inputs)
            return made, self.source(replace(seeds, inputs=made.inputs), (), view)
        made = unlabelled({name: value.detach() for name, value in inputs.items()})
        with torch.no_grad():
            return made, self.live.respond(made.inputs)


def unlabelled(inputs: Mapping[str, Tensor]) -> Batch:
    """Return generated inputs as a batch; labels and positions, which they lack, are −1.

    Queries keep their own lists but get no in-batch negatives.
    """
    inputs = {name: value for name, value in inputs.items() if name != "foreign"}
    first = next(iter(inputs.values()))
    none = torch.full((len(first),), -1, dtype=torch.int64, device=first.device)
    return Batch(inputs, none, none, mask=inputs.get("attention_mask"))


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in evaluation mode without gradients of its parameters; restore it after."""
    modes = [(module, module.training) for module in model.modules()]
    kept = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in kept:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in kept:
            parameter.requires_grad_(True)
        for module, mode in modes:
            module.training = mode


@contextmanager
def without_statistics(model: nn.Module) -> Iterator[None]:
    """Let normalisation in training mode use batch statistics without keeping them."""
    keeping = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    for module in keeping:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in keeping:
            module.track_running_stats = True
