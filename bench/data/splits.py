"""Splits held in memory, serving batches as tensors on the training device.

A batch's content is a function of (split, index, view): augmentation is drawn per sample from
(seed, epoch, index), so every method of a seed sees the same views, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.training.streams import permutation, uniform
from bench.types import Batch, Output

if TYPE_CHECKING:
    from bench.models.base import Model


@dataclass(frozen=True)
class View:
    """Which augmented view of the samples is meant."""

    seed: int
    epoch: int


@dataclass(frozen=True)
class Augment:
    """Random translation by up to ``pad`` pixels (zero-padded) and horizontal flip."""

    pad: int = 0
    flip: bool = False

    def __bool__(self) -> bool:
        return self.pad > 0 or self.flip


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """Return ``values`` on ``device``; a copy to a GPU is asynchronous."""
    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        # from pinned memory the copy is asynchronous; PyTorch keeps the pages until it is done
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def as_labels(labels: np.ndarray, device: torch.device | str) -> Tensor:
    """Return class indices as an int64 tensor of its own on ``device``."""
    return torch.from_numpy(labels.astype(np.int64)).to(device)


class Split:
    """Samples with labels; ``batch`` builds one batch of them.

    A split decides how models run over it (``outputs``, ``predict``, ``serving``): a classifier
    sample by sample, a retriever over a collection.

    Attributes:
        labels: ``(N,)`` int64 on the device; where several answers are right, ``(N, P)`` filled
            up with −1.
        static: whether every view of a sample is the same (no augmentation).
        part: name of the samples where they are a part of the training data, so that the caches of
            two parts are never mixed up.
    """

    labels: Tensor
    static: bool = True
    part: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: np.ndarray, view: View | None = None) -> Batch:
        """Return the samples at ``index`` ``(n,)``, augmented as ``view`` says."""
        raise NotImplementedError

    def training_order(self, seed: int, epoch: int, size: int) -> list[np.ndarray]:
        """Return the batches of an epoch as index arrays, all of length ``size``.

        The incomplete last batch is dropped (batch statistics of a few samples are noise), unless
        it is the only one.
        """
        order = permutation(seed, "order", epoch, length=len(self))
        if len(order) < size:
            return [order]
        return [order[at : at + size] for at in range(0, len(order) - size + 1, size)]

    def evaluation_order(self, size: int) -> list[np.ndarray]:
        """Return every sample once, as index arrays of at most ``size``."""
        return [np.arange(at, min(at + size, len(self))) for at in range(0, len(self), size)]

    def steps(self, size: int) -> int:
        """Return the number of training batches in an epoch."""
        return max(len(self) // size, 1)

    def texts(self) -> TextSplit | None:
        """Return the texts that a generator reads, one per sample; ``None`` for images."""
        return None

    def with_texts(
        self, inputs: Mapping[str, Tensor], texts: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return a batch's ``inputs`` with other texts (the inputs of :meth:`texts`) in them."""
        return texts

    def rewritten(self, tokens: Sequence[np.ndarray]) -> Split:
        """Return the split with other texts, one per sample, and no labels.

        Raises:
            TypeError: where there are no texts.
        """
        raise TypeError(f"{type(self).__name__} has no texts")

    def outputs(
        self, model: Model, view: View | None, hidden: Sequence[int], size: int
    ) -> Iterator[tuple[np.ndarray, Output]]:
        """Run ``model`` over every sample once and yield (sample indices, output)."""
        for index in self.evaluation_order(size):
            yield index, model(self.batch(index, view).inputs, hidden=hidden)

    def predict(self, model: Model, size: int, shared: dict[str, Any]) -> np.ndarray:
        """Return what is saved and scored: logits ``(N, C)`` float32, in the split's order.

        Args:
            model: in evaluation mode, without gradients.
            size: samples per forward pass.
            shared: values that splits predicted by the same model in one go may share.
        """
        order = self.evaluation_order(size)
        rows = [model(self.batch(index).inputs).scores.float() for index in order]
        stacked = torch.cat(rows).cpu().numpy()
        logits = np.empty_like(stacked)
        logits[np.concatenate(order)] = stacked
        return logits

    def absent(self, index: np.ndarray) -> np.ndarray | None:
        """Return which logits ``(n, C)`` of the samples are empty places; ``None`` for none.

        A model gives −∞ there: a list of candidates may be shorter than the longest one.
        """
        return None

    def signal_shape(self, model: Model) -> tuple[int, int]:
        """Return the sizes of a sample's logits and embedding."""
        return model.head.out_features, model.width

    def serving(self, model: Model) -> Callable[[Batch], object]:
        """Return the function that serves a batch, whose latency and throughput are measured."""
        return lambda batch: model(batch.inputs)

    def serving_costs(self, model: Model, size: int) -> dict[str, Any]:
        """Return costs of serving beside latency and throughput; none for a classifier."""
        return {}


class ImageSplit(Split):
    """Images as one uint8 tensor on the device, normalised and augmented batch-wise.

    Args:
        images: ``(N, H, W, 3)`` uint8.
        labels: ``(N,)`` int64.
        mean: channel means in 0…255, ``(3,)``.
        std: channel standard deviations in 0…255, ``(3,)``.
        augment: what a view does.
        device: where the tensors live.
        part: as in :class:`Split`.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        mean: np.ndarray,
        std: np.ndarray,
        augment: Augment | None = None,
        device: torch.device | str = "cpu",
        part: str = "",
    ) -> None:
        self.part = part
        self.images = torch.from_numpy(np.array(images, order="C")).to(device)
        self.labels = as_labels(labels, device)
        self.augment = augment or Augment()
        self.static = not self.augment
        self._scale = torch.as_tensor(1.0 / std, dtype=torch.float32, device=device)
        self._shift = torch.as_tensor(-mean / std, dtype=torch.float32, device=device)

    def batch(self, index: np.ndarray, view: View | None = None) -> Batch:
        device = self.images.device
        position = to_device(index.astype(np.int64), device)
        pixels = self.images[position]
        if view is not None and self.augment:
            pixels = self._augmented(pixels, index, view)
        image = pixels.to(torch.float32).mul_(self._scale).add_(self._shift)
        # (N, H, W, C) in memory seen as (N, C, H, W) is channels-last already
        return Batch(
            {"image": image.permute(0, 3, 1, 2)}, self.labels[position], position, part=self.part
        )

    def value_range(self) -> tuple[Tensor, Tensor]:
        """Return the normalised values of a black and of a white pixel, ``(3,)`` each."""
        return self._shift.clone(), 255.0 * self._scale + self._shift

    def pixels(self, image: Tensor) -> np.ndarray:
        """Return normalised images ``(N, 3, H, W)`` as pixels, ``(N, H, W, 3)`` uint8."""
        values = (image.permute(0, 2, 3, 1).float() - self._shift) / self._scale
        rounded = values.round().clamp(0, 255).to(torch.uint8)
        return rounded.cpu().numpy()

    def _augmented(self, pixels: Tensor, index: np.ndarray, view: View) -> Tensor:
        count, height, width, _ = pixels.shape
        pad = self.augment.pad
        draws = uniform(view.seed, "augment", view.epoch, index=index, draws=3)
        top, left = ((draws[:, :2] * (2 * pad + 1)).astype(np.int64)).T
        rows = top[:, None] + np.arange(height)
        columns = left[:, None] + np.arange(width)
        if self.augment.flip:
            columns = np.where(draws[:, 2:] < 0.5, columns[:, ::-1], columns)
        padded = F.pad(pixels, (0, 0, pad, pad, pad, pad)) if pad else pixels
        device = pixels.device
        return padded[
            torch.arange(count, device=device)[:, None, None],
            to_device(rows, device)[:, :, None],
            to_device(np.ascontiguousarray(columns), device)[:, None, :],
        ]


class TextSplit(Split):
    """Token sequences, padded to the longest of a batch; batches of similar lengths.

    Args:
        tokens: one int array per sample, special tokens included.
        labels: ``(N,)`` int64.
        pad: id of the padding token.
        device: where batches are put.
        part: as in :class:`Split`.
    """

    def __init__(
        self,
        tokens: Sequence[np.ndarray],
        labels: np.ndarray,
        *,
        pad: int,
        device: torch.device | str = "cpu",
        part: str = "",
    ) -> None:
        self.part = part
        self.tokens = list(tokens)
        self.labels = as_labels(labels, device)
        self.lengths = np.array([len(row) for row in self.tokens], dtype=np.int64)
        self.pad = pad

    def batch(self, index: np.ndarray, view: View | None = None) -> Batch:
        longest = int(self.lengths[index].max())
        ids = np.full((len(index), longest), self.pad, dtype=np.int64)
        for row, position in enumerate(index):
            ids[row, : self.lengths[position]] = self.tokens[position]
        mask = np.arange(longest)[None, :] < self.lengths[index][:, None]
        device = self.labels.device
        position = to_device(index.astype(np.int64), device)
        real = to_device(mask, device)
        inputs = {"input_ids": to_device(ids, device), "attention_mask": real}
        return Batch(inputs, self.labels[position], position, mask=real, part=self.part)

    def texts(self) -> TextSplit:
        return self

    def rewritten(self, tokens: Sequence[np.ndarray]) -> TextSplit:
        none = np.full(len(tokens), -1, dtype=np.int64)
        return TextSplit(tokens, none, pad=self.pad, device=self.labels.device)

    def training_order(self, seed: int, epoch: int, size: int) -> list[np.ndarray]:
        """Do as the base class, with samples of similar length together.

        The random order is cut into pools of 16 batches, each pool sorted by length and cut into
        batches, and the batches shuffled: little padding, still a new order every epoch.
        """
        order = permutation(seed, "order", epoch, length=len(self))
        if len(order) < size:
            return [order]
        order = order[: len(order) - len(order) % size]
        batches: list[np.ndarray] = []
        for at in range(0, len(order), size * 16):
            pool = order[at : at + size * 16]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches.extend(pool.reshape(-1, size))
        shuffled = permutation(seed, "order-batches", epoch, length=len(batches))
        return [batches[position] for position in shuffled]

    def evaluation_order(self, size: int) -> list[np.ndarray]:
        order = np.argsort(self.lengths, kind="stable")
        return [order[at : at + size] for at in range(0, len(order), size)]
