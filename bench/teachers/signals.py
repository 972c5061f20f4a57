"""The teacher's outputs for training samples: live, or from memory-mapped float16 files.

Outputs are stored in the split's own order, one file for each view, and looked up by a batch's
sample index and view: a cached output can never be paired with another sample or another crop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bench.data.splits import Split, View, to_device
from bench.models.base import Model
from bench.training.evaluate import autocast
from bench.types import Batch, Output


class TeacherSource(Protocol):
    """Gives the teacher's float32 output for a training batch, without gradient."""

    @property
    def served(self) -> str:
        """How outputs were served, for the record: live, cached, or both."""
        ...

    @property
    def samples(self) -> int:
        """Samples the teacher itself has run on so far."""
        ...

    @property
    def live(self) -> LiveTeacher | None:
        """The teacher itself, where it can be run."""
        ...

    def __call__(self, batch: Batch, hidden: Sequence[int], view: View | None = None) -> Output:
        """Return the output for ``batch`` as seen in ``view``; ``None`` is un-augmented."""
        ...


class LiveTeacher:
    """Runs the teacher on every batch.

    Args:
        model: the teacher or a function that loads it; frozen, in evaluation mode, never changed.
        precision: the autocast type it runs under.
    """

    served: str = "live"

    def __init__(self, model: Model | Callable[[], Model], precision: str) -> None:
        self._model = model
        self.precision = precision
        self.samples = 0

    @property
    def model(self) -> Model:
        """Return the teacher, loading it when it is first needed."""
        if not isinstance(self._model, Model):
            self._model = self._model()
        if self._model.training:
            self._model.fix()
        return self._model

    @property
    def live(self) -> LiveTeacher:
        """Return itself."""
        return self

    def respond(self, inputs: Mapping[str, Tensor], hidden: Sequence[int] = ()) -> Output:
        """Return the output for any inputs; a gradient flows to them where one is kept."""
        device = next(self.model.parameters()).device
        self.samples += len(next(iter(inputs.values())))
        with autocast(device, self.precision):
            return self.model(inputs, hidden=hidden).float()  # type: ignore[no-any-return]

    def __call__(self, batch: Batch, hidden: Sequence[int], view: View | None = None) -> Output:
        with torch.no_grad():
            return self.respond(batch.inputs, hidden)


class CachedTeacher:
    """Looks up a batch's outputs by view and sample index.

    Args:
        folder: as written by :func:`bench.teachers.fill.fill`.
        device: where batches live.
        live: asked for what the files do not hold: other views, feature maps of images.
        static: whether every view of a sample is the same.
        part: the part of the training data that the files are of; other samples go to ``live``.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        *,
        live: LiveTeacher | None = None,
        static: bool = True,
        part: str = "",
    ) -> None:
        self.folder, self.device, self.static, self.part = folder, device, static, part
        self.live: LiveTeacher | None = live
        self._open: dict[str, np.ndarray] = {}

    @property
    def served(self) -> str:
        """Return "cached", or "cached and live" once the teacher itself had to run."""
        return "cached and live" if self.samples else "cached"

    @property
    def samples(self) -> int:
        """Return the number of samples the teacher itself had to run on."""
        return self.live.samples if self.live else 0

    def __call__(self, batch: Batch, hidden: Sequence[int], view: View | None = None) -> Output:
        prefix = view_prefix(self.static, view)
        if batch.part != self.part or not self._holds(array_names(prefix, hidden)):
            if self.live is None:
                raise KeyError(f"view {view} of '{batch.part}' is not in {self.folder.name}")
            return self.live(batch, hidden, view)
        index = batch.index.cpu().numpy()
        return Output(
            logits=self._rows(f"{prefix}logits", index),
            embedding=self._rows(f"{prefix}embedding", index),
            hidden={layer: self._tokens(f"{prefix}hidden-{layer}", index) for layer in hidden},
        )

    def _holds(self, names: Sequence[str]) -> bool:
        return all(name in self._open or self._path(name).is_file() for name in names)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _array(self, name: str) -> np.ndarray:
        if name not in self._open:
            self._open[name] = np.load(self._path(name), mmap_mode="r", allow_pickle=False)
        return self._open[name]

    def _rows(self, name: str, index: np.ndarray) -> Tensor:
        return to_device(self._array(name)[index], self.device).float()

    def _tokens(self, name: str, index: np.ndarray) -> Tensor:
        """Return token states, zero-padded to the batch's longest row, ``(n, L, D)``."""
        rows, offsets = self._array(name), self._array("offsets")
        lengths = offsets[index + 1] - offsets[index]
        filled = np.zeros((len(index), int(lengths.max()), rows.shape[1]), dtype=np.float32)
        for at, (position, length) in enumerate(zip(index, lengths, strict=True)):
            start = offsets[position]
            filled[at, :length] = rows[start : start + length]
        return to_device(filled, self.device)


def view_prefix(static: bool, view: View | None) -> str:
    """Return the file-name prefix of a view; ``None`` is the un-augmented samples."""
    if static:
        return ""
    return "plain-" if view is None else f"view-{view.seed}-{view.epoch}-"


def array_names(prefix: str, layers: Sequence[int]) -> list[str]:
    """Return the names of the arrays of one view."""
    hidden = [f"{prefix}hidden-{layer}" for layer in layers]
    return [f"{prefix}logits", f"{prefix}embedding", *hidden]


class StaleSignals(Exception):
    """Cached signals do not match the teacher's present outputs."""


def check(
    cached: CachedTeacher, live: LiveTeacher, split: Split, view: View | None, *, samples: int = 16
) -> None:
    """Recompute a random sample of the cache and compare.

    The tolerance covers float16 storage and the effect of the batch size under bfloat16.  Places
    that only fill up a list are −∞ in both.

    Raises:
        StaleSignals: when the logits differ by more than a tenth of their own spread, or are −∞ in
            other places.
    """
    count = min(samples, len(split))
    index = np.sort(np.random.default_rng().choice(len(split), count, replace=False))
    batch = split.batch(index, view)
    kept, fresh = cached(batch, (), view).scores, live(batch, (), view).scores
    empty = fresh.isneginf()
    if not kept.isneginf().equal(empty):
        raise StaleSignals(f"{cached.folder.name}: the empty places differ")
    kept, fresh = kept[~empty], fresh[~empty]
    off = float((kept - fresh).abs().max())
    allowed = 0.1 * float(fresh.std()) + 1e-3
    if not off <= allowed:
        raise StaleSignals(f"{cached.folder.name}: logits are off by {off:.3g} (> {allowed:.3g})")
