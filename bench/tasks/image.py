"""Image classification: the family's loading, normalisation and models."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bench.tasks.base import Data, Task

if TYPE_CHECKING:
    from bench.data.splits import Augment
    from bench.models.base import Model

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


class ImageTask(Task):
    """Images ``(N, H, W, 3)`` uint8 with class labels."""

    family: ClassVar[str] = "image"
    augmented: ClassVar[bool] = True

    @abstractmethod
    def arrays(self) -> Arrays:
        """Return ``{split: (images, labels)}`` for train, validation and test."""

    @abstractmethod
    def augmentation(self) -> Augment:
        """Return what a training view does to an image of this source."""

    def load(self, device: str = "cpu") -> Data:
        from bench.data.columns import check_labels
        from bench.data.splits import ImageSplit

        arrays = self.arrays()
        for name, (_, labels) in arrays.items():
            check_labels(labels, self.num_classes, f"task '{self.name}', split '{name}'")
        if self.preset.train_limit is not None:
            images, labels = arrays["train"]
            arrays["train"] = (images[: self.preset.train_limit], labels[: self.preset.train_limit])
        mean, std = channel_statistics(arrays["train"][0])
        splits = {
            name: ImageSplit(
                images,
                labels,
                mean=mean,
                std=std,
                augment=self.augmentation() if name == "train" else None,
                device=device,
            )
            for name, (images, labels) in arrays.items()
        }
        return Data(splits["train"], splits["validation"], splits["test"])

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
    order = np.random.Generator(np.random.PCG64(20240913)).permutation(len(labels))
    validation = np.concatenate(
        [
            order[labels[order] == label][: round(share * int((labels == label).sum()))]
            for label in np.unique(labels)
        ]
    )
    held = np.isin(order, validation)
    return order[~held], np.sort(validation)
