"""Accuracy by the number of training samples of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

GROUPS = ("many", "medium", "few")
PREFIX = "accuracy_"


def class_groups(counts: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Return classes by group: the range of their sizes cut into three, equal in log scale.

    With ``r`` = largest over smallest: "many" has more than ``largest·r^(−1/3)`` training samples,
    "few" fewer than ``largest·r^(−2/3)``.  Relative to the counts, because the thresholds of
    ImageNet-LT (100 and 20; Liu et al. 2019) put nearly all of CIFAR-10-LT into "many".

    Args:
        counts: training samples of each class ``(C,)``, none zero.

    Returns:
        Classes by group, without empty groups; empty where all classes are of one size.
    """
    largest, smallest = float(counts.max()), float(counts.min())
    if largest == smallest:
        return {}
    place = np.log(largest / counts) / np.log(largest / smallest)
    # a hair's breadth for rounding: a class on a threshold is "medium"
    group = np.where(place < 1 / 3 - 1e-9, 0, np.where(place > 2 / 3 + 1e-9, 2, 1))
    found = {name: tuple(np.flatnonzero(group == at).tolist()) for at, name in enumerate(GROUPS)}
    return {name: classes for name, classes in found.items() if classes}


def group_accuracy(
    logits: np.ndarray, labels: np.ndarray, groups: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """Return ``accuracy_GROUP`` in [0, 1], over the samples whose class is in the group.

    Args:
        logits: ``(N, C)``.
        labels: ``(N,)`` class indices.
        groups: classes by group; one without samples is left out.
    """
    if not groups:  # no question here of what labels are: a query may have several answers
        return {}
    correct = logits.argmax(axis=1) == labels
    own = {name: np.isin(labels, classes) for name, classes in groups.items()}
    return {
        f"{PREFIX}{name}": float(correct[samples].mean())
        for name, samples in own.items()
        if samples.any()
    }
