"""Variants of a classification task: few labels, or a long tail.  Test and validation stay whole.

``n=250`` keeps the labels of 250 training samples and hides those of the rest; ``imbalance=100``
thins the classes out along an exponential.  Which samples is a function of the training labels
alone, the same for every seed and method, and a smaller ``n`` is part of a larger one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.config import written
from bench.data.order import fixed_order
from bench.errors import BenchError

OPTIONS = ("n", "imbalance", "teacher_data")  # preset fields that make a variant


@dataclass(frozen=True)
class Chosen:
    """Positions in the training split, ascending: with labels, and (for ``n``) without."""

    labelled: np.ndarray
    unlabelled: np.ndarray | None


@dataclass(frozen=True)
class Variant:
    """What of the training split is used, and how; off by default.

    Attributes:
        n: number of labelled samples.
        imbalance: size of the largest class over that of the smallest.
        teacher_data: whether the teacher was trained on the labelled samples only ("labelled"),
            or on the whole training split with its labels ("all").
    """

    n: int | None = None
    imbalance: float | None = None
    teacher_data: str = "labelled"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Variant:
        """Read it off a resolved preset; without ``n`` and ``imbalance`` nothing is on."""
        if values.get("n") is None and values.get("imbalance") is None:
            return cls()
        return cls(**{name: values[name] for name in OPTIONS})

    def __bool__(self) -> bool:
        return self.n is not None or self.imbalance is not None

    @property
    def options(self) -> dict[str, Any]:
        """Return what is on, by option name."""
        found: dict[str, Any] = {"n": self.n, "imbalance": self.imbalance}
        found = {name: value for name, value in found.items() if value is not None}
        return found | ({"teacher_data": "all"} if self and self.teacher_data == "all" else {})

    @property
    def part(self) -> str:
        """Return the name of the labelled samples, empty for all of them."""
        return _spec({k: v for k, v in self.options.items() if k != "teacher_data"})

    def named(self, task: str) -> str:
        """Return the task's name with the variant, as the command line takes it."""
        return ":".join([task, *([_spec(self.options)] if self else [])])

    def told(self) -> str:
        """Return in one sentence what a reader must know of it."""
        if not self:
            return ""
        if self.n is not None:
            what = f"{self.n:,} labelled training samples, balanced by class as far as they go, "
            what += "the rest without labels"
        else:
            what = f"long tail: largest over smallest class {self.imbalance:g}, exponential between"
        return f"{what}; validation and test whole"

    def check(self, task: str, num_classes: int) -> None:
        """Refuse what cannot be, as far as that is known without the data.

        Raises:
            BenchError: for both options at once, or fewer samples than classes.
        """
        if self.n is not None and self.imbalance is not None:
            raise BenchError(
                f"task '{task}': n={self.n} and imbalance={self.imbalance:g} are both given",
                "one of them at a time",
            )
        if self.n is not None and self.n < num_classes:
            raise BenchError(
                f"task '{task}': n={self.n} labelled samples are too few for {num_classes} classes",
                f"n ≥ {num_classes}",
            )

    def choose(self, labels: np.ndarray, num_classes: int) -> Chosen:
        """Choose among training samples.

        Args:
            labels: ``(N,)`` class indices.
            num_classes: ``C``.

        Raises:
            BenchError: for more samples than there are, or a class left without any.
        """
        if self.n is not None:
            return _balanced(labels, self.n)
        if self.imbalance is not None:
            return Chosen(_long_tail(labels, num_classes, self.imbalance), None)
        return Chosen(np.arange(len(labels)), None)


def _spec(options: Mapping[str, Any]) -> str:
    return ":".join(f"{name}={written(value)}" for name, value in options.items())


def _balanced(labels: np.ndarray, n: int) -> Chosen:
    """Take one sample of each class in turn, in a fixed order, until there are ``n``.

    A class that runs out is passed over.
    """
    if n > len(labels):
        raise BenchError(
            f"n={n} labelled samples, but the training split has {len(labels)}",
            f"n ≤ {len(labels)}",
        )
    rank, order = _ranks(labels)
    turn = np.lexsort((labels[order], rank))  # by place in the class, then by class
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order[turn[:n]]] = True
    return Chosen(np.flatnonzero(chosen), np.flatnonzero(~chosen))


def _long_tail(labels: np.ndarray, num_classes: int, imbalance: float) -> np.ndarray:
    available = np.bincount(labels, minlength=num_classes)
    counts = long_tail_counts(available, imbalance)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        raise BenchError(
            f"imbalance={imbalance:g} leaves class {empty[0]} without a training sample",
            f"the largest class would have {counts.max()}",
        )
    rank, order = _ranks(labels)
    return np.sort(order[rank < counts[labels[order]]])


def long_tail_counts(available: np.ndarray, imbalance: float) -> np.ndarray:
    """Return the size of each class, ``⌊n_max·imbalance^(−c/(C−1))⌋`` (Cao et al. 2019, §4).

    Class 0 is the largest.  ``n_max`` is the largest size that no class falls short of; where
    the classes are equal, as in CIFAR, it is theirs.

    Args:
        available: samples of each class ``(C,)``.
        imbalance: largest over smallest, at least 1.
    """
    steps = np.arange(len(available)) / max(len(available) - 1, 1)
    share = float(imbalance) ** -steps
    # whole numbers must not fall to the next lower one by rounding
    largest = np.floor((available / share).min() + 1e-6)
    counts: np.ndarray = np.floor(largest * share + 1e-6).astype(np.int64)
    return counts


def _ranks(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a fixed shuffled order, and each place's rank within its class in that order."""
    order = fixed_order(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels[order] == label)
        rank[own] = np.arange(len(own))
    return rank, order
