"""The contract of a baseline that is not trained by the suite's loop.

Baselines that *are* (the plain student, label smoothing) are ordinary :class:`bench.method.Method`
classes registered with ``@register_baseline``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bench import config as configuration
from bench.card import Card

if TYPE_CHECKING:
    from bench.tasks.base import Task

TEACHER = "teacher"  # the baseline that is the teacher itself


@dataclass(frozen=True)
class Prediction:
    """A baseline's predictions on the held-out splits.

    Attributes:
        logits: by split name, ``(N, C)`` float32; log-probabilities are logits too.
        parameters: parameters of the deployed model, ``None`` where it has none to count.
    """

    logits: Mapping[str, np.ndarray]
    parameters: int | None = None


class Baseline:
    """Base class of the baselines that do their own training.

    Class attributes:
        seeded: whether the result depends on the seed; if not, it is run once.
        needs_teacher: whether the teacher must be trained first.
        families: the task families it works on.
    """

    name: ClassVar[str]
    Config: ClassVar[type[configuration.Config]] = configuration.Config
    seeded: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = False
    families: ClassVar[frozenset[str]] = frozenset({"image", "text", "retrieval"})
    card: ClassVar[Card] = Card(title="")
    # what a method may have beside these, and no such baseline has
    signals: ClassVar[frozenset[str]] = frozenset()
    own_teacher: ClassVar[None] = None
    space: ClassVar[tuple[tuple[Any, ...], ...]] = ()
    oracle: ClassVar[bool] = False
    needs_generator: ClassVar[bool] = False

    def __init__(self, config: configuration.Config) -> None:
        self.config = config

    def predict(self, *, task: Task, seed: int, teacher: Mapping[str, np.ndarray]) -> Prediction:
        """Fit on the task's training split (selecting on validation) and predict the others.

        Args:
            task: the loaded task.
            seed: the cell's seed.
            teacher: the teacher's logits by split name; empty unless ``needs_teacher``.
        """
        raise NotImplementedError
