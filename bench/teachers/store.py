"""A teacher on disk: safetensors, predictions and a manifest that is written last."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

from bench.data.cache import (
    MANIFEST,
    WEIGHTS,
    cache_dir,
    teacher_folder,
    teacher_identity,
)
from bench.data.fingerprint import damage, file_sha256
from bench.errors import BenchError
from bench.models.base import Model
from bench.store import read_predictions, write_atomically, write_predictions

log = logging.getLogger(__name__)


def identity_of(task: str, key: str) -> str:
    """Return the identity of the teacher with ``key`` in this cache (:func:`teacher_identity`).

    Raises:
        BenchError: when there is no teacher.
    """
    files = TeacherFiles.of(task, key)
    return teacher_identity(key, files.noted()["sha256"][files.weights.name])


@dataclass(frozen=True)
class TeacherFiles:
    """The files of one teacher."""

    folder: Path

    @classmethod
    def of(cls, task: str, key: str) -> TeacherFiles:
        """Return the files of the teacher with ``key``."""
        return cls(teacher_folder(cache_dir(), task, key))

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions.npz"

    @property
    def head(self) -> Path:
        return self.folder / "head.npz"

    @property
    def manifest(self) -> Path:
        return self.folder / MANIFEST

    def read(self) -> dict[str, Any] | None:
        """Return the manifest of a finished, unaltered teacher, else ``None``.

        A file that is damaged or was altered is named in the log.
        """
        manifest = self._noted()
        if manifest is None:
            return None
        for path in (self.weights, self.predictions, self.head):
            if why := damage(path, manifest["sha256"].get(path.name)):
                self._warn(path, why)
                return None
        return manifest

    def noted(self) -> dict[str, Any]:
        """Return the manifest without checking the files it lists.

        Raises:
            BenchError: when there is no teacher.
        """
        return self._there(self._noted())

    def _noted(self) -> dict[str, Any] | None:
        """Return the manifest; ``None`` if there is none or it cannot be read."""
        if not self.manifest.exists():
            return None
        try:
            manifest: dict[str, Any] = json.loads(self.manifest.read_text(encoding="utf-8"))
            sums = dict(manifest["sha256"])
            if self.weights.name not in sums:
                raise KeyError(self.weights.name)
            return {**manifest, "sha256": sums}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            self._warn(self.manifest, type(error).__name__)
            return None

    def _there(self, manifest: dict[str, Any] | None) -> dict[str, Any]:
        if manifest is None:
            raise BenchError(f"teacher '{self.folder.name}' does not exist", "it was not trained")
        return manifest

    def _warn(self, path: Path, why: str) -> None:
        where = f"{self.folder.name}/{path.name}"
        log.warning("%s is damaged (%s): the teacher is made again", where, why)

    def require(self) -> dict[str, Any]:
        """Return the manifest of the finished teacher.

        Raises:
            BenchError: when there is none.
        """
        return self._there(self.read())

    def write(
        self, model: Model, predictions: Mapping[str, np.ndarray], manifest: Mapping[str, Any]
    ) -> None:
        """Save a finished teacher, last its manifest, which makes it count."""
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        write_atomically(self.weights, safetensors.torch.save(state))
        write_predictions(self.predictions, predictions)
        weight = (
            model.head.weight.detach().cpu().numpy()
            if model.classifies
            else np.empty((0, model.width))
        )
        write_predictions(self.head, {"weight": weight})
        parts = (self.weights, self.predictions, self.head)
        sums = {path.name: file_sha256(path) for path in parts}
        text = json.dumps({**manifest, "sha256": sums}, indent=1, sort_keys=True)
        write_atomically(self.manifest, text.encode())

    def load_into(self, model: Model) -> Model:
        """Load the weights into ``model`` and return it, frozen and in evaluation mode.

        Raises:
            BenchError: when they do not fit.
        """
        try:
            model.load_state_dict(safetensors.torch.load_file(self.weights))
        except Exception as error:
            raise BenchError(f"teacher {self.weights} cannot be loaded: {error}") from error
        return model.fix()

    def load_head(self) -> np.ndarray:
        """Return the weight of the last linear layer, ``(C, D)``; empty where there is none."""
        return read_predictions(self.head)["weight"]

    def load_predictions(self) -> dict[str, np.ndarray]:
        """Return the teacher's predictions by split name."""
        return read_predictions(self.predictions)
