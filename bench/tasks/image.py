"""Image classification: the family's loading, normalisation and models."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bench.data.order import fixed_order
from bench.errors import BenchError
from bench.tasks.base import Data, Task

if TYPE_CHECKING:
    from bench.data.splits import Augment
    from bench.models.base import Model

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


class ImageTask(Task):
    """Images ``(N, H, W, 3)`` uint8 with class labels."""

    family: ClassVar[str] = "image"
    augmented: ClassVar[bool] = True
    has_variants: ClassVar[bool] = True

    def arrays(self) -> Arrays:
        """Return ``{split: (images, labels)}``: train, validation, test; labels as in the set."""
        raise NotImplementedError

    def relabel(self, labels: np.ndarray) -> np.ndarray:
        """Turn the set's labels into the task's; the identity by default.

        Where it merges labels, the set's own are the task's finer true labels.
        """
        return labels

    def augmentation(self) -> Augment:
        """Return what a training view does to an image of this source."""
        raise NotImplementedError

    def _check(self, arrays: Arrays) -> None:
        """Refuse what :meth:`arrays` must not return: nothing later on would notice it.

        Raises:
            BenchError: naming the split and what is wrong with it.
        """
        who = f"task '{self.name}'"
        missing = [name for name in ("train", "validation", "test") if name not in arrays]
        if missing:
            raise BenchError(f"{who} has no split '{missing[0]}'", "train, validation and test")
        for name, (images, labels) in arrays.items():
            shape, kind = tuple(images.shape), images.dtype
            if kind != np.uint8 or images.ndim != 4 or shape[-1] != 3:
                raise BenchError(
                    f"{who}, split '{name}': images of shape {shape} and type {kind}",
                    "(N, H, W, 3) and uint8, 0 to 255",
                )
            if len(images) != len(labels):
                raise BenchError(
                    f"{who}, split '{name}': {len(images)} images and {len(labels)} labels"
                )

    def load(self, device: str = "cpu") -> Data:
        from bench.data.columns import check_labels
        from bench.data.splits import ImageSplit, as_labels

        arrays = self.arrays()
        self._check(arrays)
        for name, (_, labels) in arrays.items():
            given = self.relabel(labels)
            check_labels(given, self.num_classes, f"task '{self.name}', split '{name}'")
        images, fine = arrays["train"]
        if self.preset.train_limit is not None:
            images, fine = images[: self.preset.train_limit], fine[: self.preset.train_limit]
        # of all training images, so that every variant of a task is normalised alike and a
        # teacher of the whole set is not asked about inputs it never saw
        mean, std = channel_statistics(images)

        def split(
            images: np.ndarray, labels: np.ndarray, *, training: bool, part: str = ""
        ) -> ImageSplit:
            augment = self.augmentation() if training else None
            return ImageSplit(
                images, labels, mean=mean, std=std, augment=augment, device=device, part=part
            )

        labels, part = self.relabel(fine), self.variant.part
        finer = not np.array_equal(fine, labels)
        unlabelled = None
        if self.variant:
            chosen = self.variant.choose(labels, self.num_classes)
            if chosen.unlabelled is not None and len(chosen.unlabelled):
                hidden = np.full(len(chosen.unlabelled), -1)
                unlabelled = split(
                    images[chosen.unlabelled], hidden, training=True, part=f"{part} unlabelled"
                )
            images, labels, fine = (each[chosen.labelled] for each in (images, labels, fine))
        validation, test = (
            split(arrays[name][0], self.relabel(arrays[name][1]), training=False)
            for name in ("validation", "test")
        )
        return Data(
            split(images, labels, training=True, part=part),
            validation,
            test,
            subclasses=as_labels(fine, device) if finer else None,
            unlabelled=unlabelled,
            groups=self.class_groups(labels),
        )

    def build_model(self, name: str, *, data: Data | None = None) -> Model:
        from bench.models.vision import build_vision

        return build_vision(name, num_classes=self.num_classes)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel in 0…255, ``(3,)`` each.

    Computed from the training split only: nothing of validation or test shapes the inputs.
    """
    histogram = np.stack(
        [np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)]
    )
    share = histogram / histogram.sum(axis=1, keepdims=True)
    values = np.arange(256)
    mean = share @ values
    return mean, np.sqrt(np.maximum(share @ values**2 - mean**2, 1.0))


def carve(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Carve a class-balanced validation part out of training data; the same one for every seed.

    Args:
        labels: ``(N,)`` class indices.
        share: part of each class that goes to validation.

    Returns:
        Index arrays (train, validation); train is in a fixed shuffled order, so that a prefix of
        it is a fair sample.
    """
    order = fixed_order(len(labels))
    validation = np.concatenate(
        [
            order[labels[order] == label][: round(share * int((labels == label).sum()))]
            for label in np.unique(labels)
        ]
    )
    held = np.isin(order, validation)
    return order[~held], np.sort(validation)
