"""What a run is given besides the student, the method and the teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.data.splits import Split, View
from bench.measure.phases import Phases
from bench.tasks.preset import Recipe
from bench.training.generation import Generated
from bench.types import Batch, Output

TeacherCall = Callable[[Batch, Sequence[int], View], Output]
Score = Callable[[np.ndarray, np.ndarray], dict[str, float]]


def part_size(batch: int, parts: int) -> int:
    """Return how many samples go at once when batches of ``batch`` are cut into ``parts``."""
    return max(batch // parts, 1)


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
        micro_batches: parts into which each batch is cut to save memory; the optimiser still takes
            one step a batch, along the mean gradient over its samples.
        phases: where the time goes.
        generated: makes the inputs of a method that generates some.
        taught_by: tells the copies of teacher and generator; one that is trained again under the
            same key, elsewhere say, has other weights.
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
    micro_batches: int = 1
    phases: Phases = field(default_factory=Phases)
    generated: Generated | None = None
    taught_by: str = ""

    @property
    def evaluation_size(self) -> int:
        """Return how many samples go through a model at once where no gradient is needed."""
        return part_size(self.evaluation_batch, self.micro_batches)
