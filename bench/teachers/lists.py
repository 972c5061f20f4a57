"""Retrieval teachers in batches with in-batch negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from bench.data.splits import View
from bench.teachers.signals import LiveTeacher, TeacherSource
from bench.types import Batch, Output


class OwnLists:
    """A teacher that scores each query's own list only.

    In-batch negatives change with the batch, so their scores cannot be cached, and a cross-encoder
    would have to read every pair: the teacher gives them probability zero (−∞), as a hard label
    does.

    Args:
        source: the teacher for lists.
    """

    def __init__(self, source: TeacherSource) -> None:
        self.source = source

    @property
    def served(self) -> str:
        """Return how outputs were served."""
        return self.source.served

    @property
    def samples(self) -> int:
        """Return the number of samples the teacher itself has run on."""
        return self.source.samples

    @property
    def live(self) -> LiveTeacher | None:
        """Return the teacher itself, where it can be run."""
        return self.source.live

    def __call__(self, batch: Batch, hidden: Sequence[int], view: View | None = None) -> Output:
        inputs = {name: value for name, value in batch.inputs.items() if name != "foreign"}
        output = self.source(replace(batch, inputs=inputs), hidden, view)
        foreign = batch.inputs.get("foreign")
        if foreign is None or output.logits is None:
            return output
        padding = (0, foreign.shape[1])
        return replace(output, logits=F.pad(output.logits, padding, value=-torch.inf))
