"""A generator on disk: safetensors and a manifest that is written last."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from bench.data.cache import MANIFEST, cache_dir
from bench.data.fingerprint import damage, file_sha256
from bench.errors import BenchError
from bench.generators.base import GeneratorModule
from bench.store import read_object, slug, write_atomically

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GeneratorFiles:
    """The files of one generator, and of each teacher's judgement of its reconstructions."""

    folder: Path

    @classmethod
    def of(cls, task: str, key: str) -> GeneratorFiles:
        """Return the files of the generator with ``key``."""
        return cls(cache_dir() / "generators" / f"{slug(task)}-{key[:16]}")

    @property
    def weights(self) -> Path:
        return self.folder / "generator.safetensors"

    @property
    def manifest(self) -> Path:
        return self.folder / MANIFEST

    def read(self) -> dict[str, Any] | None:
        """Return the manifest of a finished, unaltered generator, else ``None``.

        Weights that are damaged or were altered are named in the log.
        """
        manifest = read_object(self.manifest)
        if "sha256" not in manifest:
            return None
        why = damage(self.weights, manifest["sha256"])
        if not why:
            return manifest
        where = f"{self.folder.name}/{self.weights.name}"
        log.warning("%s is damaged (%s): the generator is made again", where, why)
        return None

    def require(self) -> dict[str, Any]:
        """Return the manifest of the finished generator.

        Raises:
            BenchError: when there is none.
        """
        manifest = self.read()
        if manifest is None:
            raise BenchError(f"generator '{self.folder.name}' does not exist", "it was not trained")
        return manifest

    def write(
        self, state: Mapping[str, Any], manifest: Mapping[str, Any], fingerprint: str = ""
    ) -> dict[str, Any]:
        """Save a finished generator, last its manifest, which makes it count; return the manifest.

        Args:
            state: parameters and buffers; of a hub model only what was measured here.
            manifest: what is known about it.
            fingerprint: of weights that are kept elsewhere; of those written here by default.
        """
        # copies: a BART ties its embeddings, and safetensors keeps no memory under two names
        values = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
        write_atomically(self.weights, safetensors.torch.save(values))
        sha256 = file_sha256(self.weights)
        whole = {**manifest, "sha256": sha256, "fingerprint": fingerprint or sha256}
        write_atomically(self.manifest, json.dumps(whole, indent=1, sort_keys=True).encode())
        return whole

    def state(self) -> dict[str, Tensor]:
        """Return the generator's saved parameters and buffers.

        Raises:
            BenchError: when it cannot be read.
        """
        try:
            return safetensors.torch.load_file(self.weights)
        except Exception as error:
            raise BenchError(f"generator {self.weights} cannot be read: {error}") from error

    def load_into(
        self, generator: GeneratorModule, state: Mapping[str, Tensor], *, whole: bool
    ) -> GeneratorModule:
        """Load ``state`` into ``generator`` and return it, frozen and in evaluation mode.

        Args:
            generator: built under the same name.
            state: as :meth:`state` returns it.
            whole: whether all of its state was saved.

        Raises:
            BenchError: when the state does not fit.
        """
        try:
            generator.load_state_dict(state, strict=whole)
        except Exception as error:
            raise BenchError(f"generator {self.weights} cannot be loaded: {error}") from error
        generator.requires_grad_(False)
        return generator.eval()

    def read_judgement(self, teacher: str) -> dict[str, Any] | None:
        """Return that teacher's judgement of these weights; ``None`` if there is none."""
        found = read_object(self._judgement(teacher))
        manifest = self.read()
        if not found or manifest is None or found.get("sha256") != manifest["sha256"]:
            return None
        return found

    def write_judgement(self, teacher: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Save a judgement of the weights as they are now, and return it."""
        whole = {**values, "sha256": self.require()["sha256"]}
        text = json.dumps(whole, indent=1, sort_keys=True)
        write_atomically(self._judgement(teacher), text.encode())
        return whole

    def _judgement(self, teacher: str) -> Path:
        return self.folder / f"judged-{teacher[:16]}.json"
