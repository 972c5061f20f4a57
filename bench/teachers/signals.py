"""What the teacher says of training samples: live, or from memory-mapped float16 files.

Only splits whose samples look the same in every view are cached here; augmented views are served
live.  Rows are stored in the split's own order and looked up by a batch's sample index, so a
cached output can never be paired with another sample.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from bench.config import content_hash
from bench.data.cache import cache_dir
from bench.data.fingerprint import file_sha256
from bench.data.splits import Split, View
from bench.models.base import Model
from bench.store import write_atomically
from bench.training.evaluate import autocast, evaluating
from bench.types import Batch, Output

CACHE_LIMIT_BYTES = 8 * 2**30


class TeacherSource(Protocol):
    """Gives the teacher's float32 output for a training batch, without gradient."""

    served: str

    def __call__(self, batch: Batch, hidden: Sequence[int], view: View | None = None) -> Output: ...


class LiveTeacher:
    """Runs the teacher on every batch.

    Args:
        model: frozen; put in evaluation mode here and never changed.
        precision: the autocast type of the student's recipe.
    """

    served = "live"

    def __init__(self, model: Model, precision: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.precision = precision

    def __call__(self, batch: Batch, hidden: Sequence[int], view: View | None = None) -> Output:
        device = next(self.model.parameters()).device
        with torch.no_grad(), autocast(device, self.precision):
            return self.model(batch.inputs, hidden=hidden).float()  # type: ignore[no-any-return]


class CachedTeacher:
    """Looks a batch's outputs up by sample index.

    Args:
        folder: as written by :func:`fill`.
        device: where batches live.
    """

    served = "cached"

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.device = device
        self.logits = torch.from_numpy(np.load(folder / "logits.npy", allow_pickle=False))
        self.embedding = torch.from_numpy(np.load(folder / "embedding.npy", allow_pickle=False))
        self.offsets = np.load(folder / "offsets.npy", allow_pickle=False)
        self.hidden = {
            int(path.stem.removeprefix("hidden-")): np.load(path, mmap_mode="r", allow_pickle=False)
            for path in sorted(folder.glob("hidden-*.npy"))
        }

    def __call__(self, batch: Batch, hidden: Sequence[int], view: View | None = None) -> Output:
        index = batch.index.cpu()
        return Output(
            logits=self.logits[index].float().to(self.device),
            embedding=self.embedding[index].float().to(self.device),
            hidden={layer: self._tokens(self.hidden[layer], index.numpy()) for layer in hidden},
        )

    def _tokens(self, rows: np.ndarray, index: np.ndarray) -> Tensor:
        lengths = self.offsets[index + 1] - self.offsets[index]
        filled = np.zeros((len(index), int(lengths.max()), rows.shape[1]), dtype=np.float32)
        for at, (position, length) in enumerate(zip(index, lengths, strict=True)):
            start = self.offsets[position]
            filled[at, :length] = rows[start : start + length]
        return torch.from_numpy(filled).to(self.device)


def signal_folder(teacher_key: str, layers: Sequence[int], rows: int) -> Path:
    """Return the folder of a teacher's signals with these hidden layers."""
    name = content_hash([teacher_key, sorted(layers), rows])[:16]
    return cache_dir() / "signals" / name


def fill(
    model: Model,
    split: Split,
    *,
    teacher_key: str,
    layers: Sequence[int],
    batch_size: int,
    precision: str,
) -> Path | None:
    """Run the teacher once over ``split`` and keep its outputs; returns the folder.

    Nothing is run when an intact folder is there.  ``None`` when the hidden states would not fit
    the limit: the caller then serves the teacher live.

    Raises:
        ValueError: when ``split`` has augmented views.
    """
    if not split.static:
        raise ValueError("only a split without augmentation can be cached by sample")
    if layers and _hidden_bytes(split, model.width, len(set(layers))) > CACHE_LIMIT_BYTES:
        return None
    folder = signal_folder(teacher_key, layers, len(split))
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if _intact(folder):
            return folder
        (folder / "manifest.json").unlink(missing_ok=True)
        arrays = _run(model, split, sorted(set(layers)), batch_size, precision)
        sums = {}
        for name, array in arrays.items():
            path = folder / f"{name}.npy"
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as stream:
                np.save(stream, array, allow_pickle=False)
            temporary.replace(path)
            sums[path.name] = file_sha256(path)
        manifest = {"teacher": teacher_key, "layers": sorted(set(layers)), "sha256": sums}
        write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
    return folder


def _run(
    model: Model, split: Split, layers: list[int], batch_size: int, precision: str
) -> dict[str, np.ndarray]:
    device = next(model.parameters()).device
    lengths = getattr(split, "lengths", np.ones(len(split), dtype=np.int64))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    arrays: dict[str, np.ndarray] = {"offsets": offsets}
    with evaluating(model), autocast(device, precision):
        for index in split.evaluation_order(batch_size):
            batch = split.batch(index)
            output = model(batch.inputs, hidden=layers).float()
            _put(arrays, "logits", output.logits, index, len(split))
            _put(arrays, "embedding", output.embedding, index, len(split))
            for layer in layers:
                states = output.hidden[layer].cpu().numpy()
                rows = arrays.setdefault(
                    f"hidden-{layer}", np.zeros((offsets[-1], states.shape[-1]), np.float16)
                )
                for at, position in enumerate(index):
                    length = lengths[position]
                    rows[offsets[position] : offsets[position] + length] = states[at, :length]
    return arrays


def _put(
    arrays: dict[str, np.ndarray], name: str, value: Tensor | None, index: np.ndarray, rows: int
) -> None:
    assert value is not None
    array = arrays.setdefault(name, np.zeros((rows, value.shape[1]), np.float16))
    array[index] = value.cpu().numpy()


def _hidden_bytes(split: Split, width: int, layers: int) -> int:
    lengths = getattr(split, "lengths", None)
    if lengths is None:
        return CACHE_LIMIT_BYTES + 1
    return int(lengths.sum()) * width * 2 * layers


def _intact(folder: Path) -> bool:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
        return all(file_sha256(folder / name) == sum_ for name, sum_ in manifest["sha256"].items())
    except (OSError, ValueError, KeyError):
        return False
