"""Filling the signal cache: one teacher pass per view, shared by all methods and processes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bench.config import content_hash
from bench.data.cache import MANIFEST, cache_dir
from bench.data.fingerprint import damage, file_sha256
from bench.data.splits import Split, View
from bench.locks import locked
from bench.models.base import Model
from bench.store import write_atomically
from bench.teachers.signals import array_names, view_prefix
from bench.training.evaluate import autocast, evaluating

log = logging.getLogger(__name__)
GIBIBYTE = 2**30
DEFAULT_LIMIT = 8 * GIBIBYTE
Views = Sequence[View | None]


def signal_folder(teacher: str, rows: int, precision: str, part: str = "") -> Path:
    """Return the folder of a teacher's signals on a training split, or on a part of one."""
    name = content_hash([teacher, rows, precision, *([part] if part else [])])[:16]
    return cache_dir() / "signals" / name


def needed_bytes(
    split: Split, *, views: int, classes: int, width: int, layers: Sequence[int]
) -> int | None:
    """Return the bytes the cache would take; ``None`` when ``layers`` cannot be cached.

    Token states of un-augmented text can be; feature maps of images are far too large.
    """
    total = views * len(split) * (classes + width) * 2
    if not layers:
        return total
    lengths = getattr(split, "lengths", None)
    if lengths is None or not split.static:
        return None
    return total + int(lengths.sum()) * width * 2 * len(set(layers))


def find(
    split: Split,
    *,
    teacher: str,
    layers: Sequence[int],
    views: Views,
    precision: str,
) -> Path | None:
    """Return the folder of signals if all that is asked for is cached and intact, else ``None``.

    Damage is reported by :func:`fill`, which makes the signals again.
    """
    folder = signal_folder(teacher, len(split), precision, split.part)
    manifest = _Manifest(folder, teacher, quiet=True)
    names = ["offsets"]
    for view in (None,) if split.static else views:
        names += array_names(view_prefix(split.static, view), layers)
    return folder if manifest.intact(names) else None


def fill(
    model: Model,
    split: Split,
    *,
    teacher: str,
    layers: Sequence[int] = (),
    views: Views = (None,),
    batch_size: int,
    precision: str,
    limit: int = DEFAULT_LIMIT,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path | None:
    """Run the teacher over ``split`` once for each view and cache its outputs.

    What is cached and intact is not run again.

    Args:
        model: the teacher, on the split's device.
        split: the training split.
        teacher: names its weights (:func:`bench.data.cache.teacher_identity`) and, with generated
            inputs, those.
        layers: hidden layers to cache too; text only.
        views: the views; ``None`` is the un-augmented sample.
        batch_size: samples per forward pass.
        precision: autocast type.
        limit: bytes the outputs may take.
        report: called with (views done, views).

    Returns:
        The folder; ``None`` when the outputs would exceed the limit or ``layers`` cannot be cached:
        then the teacher is served live.
    """
    static = split.static
    views = (None,) if static else views
    classes, width = split.signal_shape(model)
    size = needed_bytes(split, views=len(views), classes=classes, width=width, layers=layers)
    if size is None or size > limit:
        return None
    folder = signal_folder(teacher, len(split), precision, split.part)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        manifest = _Manifest(folder, teacher)
        for done, view in enumerate(views):
            prefix = view_prefix(static, view)
            if not manifest.intact([*array_names(prefix, layers), "offsets"]):
                arrays = run(model, split, view, sorted(set(layers)), batch_size, precision, prefix)
                manifest.keep(arrays)
            report(done + 1, len(views))
    return folder


def forget(folder: Path) -> None:
    """Remove what is cached in ``folder``; files that are open stay readable."""
    with locked(folder / ".lock"):
        (folder / MANIFEST).unlink(missing_ok=True)
        for path in folder.glob("*.npy"):
            path.unlink(missing_ok=True)


class _Manifest:
    """The checksums of a folder's arrays; an array counts once its checksum is written."""

    def __init__(self, folder: Path, teacher: str, *, quiet: bool = False) -> None:
        self.folder, self.quiet = folder, quiet
        self.path = folder / MANIFEST
        self.values: dict[str, Any] = {"teacher": teacher, "sha256": {}}
        try:
            read = json.loads(self.path.read_text(encoding="utf-8"))
            if read["teacher"] == teacher and isinstance(read["sha256"], dict):
                self.values = read
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            self._warn(self.path, type(error).__name__)

    def intact(self, names: Iterable[str]) -> bool:
        """Return whether all these arrays exist and are unaltered."""
        return all(self._intact(name) for name in names)

    def _intact(self, name: str) -> bool:
        path, noted = self.folder / f"{name}.npy", self.values["sha256"].get(name)
        if noted is None:
            return False
        if not (why := damage(path, noted)):
            return True
        self._warn(path, why)
        del self.values["sha256"][name]  # told once
        return False

    def _warn(self, path: Path, why: str) -> None:
        where = f"{self.folder.name}/{path.name}"
        level = logging.DEBUG if self.quiet else logging.WARNING
        log.log(level, "cached signals %s are damaged (%s) and are made again", where, why)

    def keep(self, arrays: dict[str, np.ndarray]) -> None:
        """Write the arrays, then their checksums."""
        for name, array in arrays.items():
            path = self.folder / f"{name}.npy"
            temporary = path.with_suffix(".tmp")
            try:
                with temporary.open("wb") as stream:
                    np.save(stream, array, allow_pickle=False)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            self.values["sha256"][name] = file_sha256(path)
        write_atomically(self.path, json.dumps(self.values, indent=1, sort_keys=True).encode())


def run(
    model: Model,
    split: Split,
    view: View | None,
    layers: list[int],
    batch_size: int,
    precision: str,
    prefix: str = "",
) -> dict[str, np.ndarray]:
    """Run the teacher once over ``split`` and return its outputs in float16, by file name."""
    device = next(model.parameters()).device
    lengths = getattr(split, "lengths", np.ones(len(split), dtype=np.int64))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    arrays: dict[str, np.ndarray] = {"offsets": offsets}
    with evaluating(model), autocast(device, precision):
        for index, raw in split.outputs(model, view, layers, batch_size):
            output = raw.float()
            absent = split.absent(index)
            _put(arrays, f"{prefix}logits", output.logits, index, len(split), absent)
            _put(arrays, f"{prefix}embedding", output.embedding, index, len(split))
            for layer in layers:
                states = output.hidden[layer].cpu().numpy()
                rows = arrays.setdefault(
                    f"{prefix}hidden-{layer}",
                    np.zeros((int(offsets[-1]), states.shape[-1]), np.float16),
                )
                for at, position in enumerate(index):
                    length = lengths[position]
                    rows[offsets[position] : offsets[position] + length] = states[at, :length]
                if not np.abs(states).max() <= np.finfo(np.float16).max:
                    raise ValueError(f"the teacher's hidden layer {layer} overflows float16")
    return arrays


def _put(
    arrays: dict[str, np.ndarray],
    name: str,
    value: Tensor | None,
    index: np.ndarray,
    rows: int,
    absent: np.ndarray | None = None,
) -> None:
    """Store the rows of a batch in float16.

    −∞ is allowed only at the split's empty places: an overflow, a NaN or a score for an empty place
    is a ``ValueError``.
    """
    if value is None:
        raise ValueError("the teacher gives no logits or embedding")
    array = arrays.setdefault(name, np.zeros((rows, *value.shape[1:]), np.float16))
    rows_of_batch = value.cpu().numpy()
    present = rows_of_batch
    if absent is not None:
        if not np.isneginf(rows_of_batch[absent]).all():
            raise ValueError(f"the teacher's {name} has scores for empty places")
        present = rows_of_batch[~absent]
    if not np.abs(present).max(initial=0.0) <= np.finfo(np.float16).max:
        raise ValueError(f"the teacher's {name} is not finite in float16")
    array[index] = rows_of_batch
