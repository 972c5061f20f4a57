"""Training inputs whose labels are hidden, for methods that can use them."""

from __future__ import annotations

from collections.abc import Iterator

from bench.data.splits import Split, View
from bench.training.streams import stream_seed
from bench.types import Batch


class Unlabelled:
    """The unlabelled part of a training split; all its labels are −1.

    A batch's ``index`` counts in this part, and its ``part`` says so: the teacher runs live on it.

    Args:
        split: the samples.
        seed: the cell's seed; order and views are a function of it and the step.
    """

    def __init__(self, split: Split, seed: int) -> None:
        if (split.labels != -1).any():
            raise ValueError("an unlabelled sample has a label")
        self._split = split
        self._seed = stream_seed(seed, "unlabelled")
        self._pass: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._split)

    def draw(self, step: int, size: int) -> Batch:
        """Return the ``size`` samples of an optimiser step, augmented as in training.

        Steps pass over the samples again and again, each time in a new order; a part smaller
        than ``size`` is returned whole.
        """
        each = self._split.steps(size)
        number, at = divmod(step, each)
        if self._pass != (number, size):
            self._pass = (number, size)
            self._order = self._split.training_order(self._seed, number, size)
        return self._split.batch(self._order[at], View(self._seed, number))

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield every sample once, un-augmented."""
        for index in self._split.evaluation_order(size):
            yield self._split.batch(index)
