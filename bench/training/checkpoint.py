"""Checkpoints of a running cell: written whole, read without pickled code."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench import stopping
from bench.data.cache import cache_dir
from bench.environment import versions
from bench.errors import BenchError, first_line
from bench.store import write_atomically

log = logging.getLogger(__name__)
SHAPING = frozenset({"torch", "timm", "transformers", "numpy"})  # libraries that change results
FORMAT = 2  # of the file's content; raised when its parts change


def checkpoint_path(name: str, micro_batches: int = 1) -> Path:
    """Return the checkpoint file of the work called ``name``.

    Work with batches cut into parts has its own file: it never resumes from one of whole batches.
    """
    cut = f"-in-{micro_batches}" if micro_batches > 1 else ""
    return cache_dir() / "running" / f"{name}{cut}.pt"


def discard_checkpoints(name: str) -> None:
    """Remove the checkpoints of finished work, and of its attempts that ran out of memory."""
    for path in checkpoint_path(name).parent.glob(f"{name}*.pt"):
        path.unlink(missing_ok=True)


def chosen_interval() -> float:
    """Return the seconds between checkpoints: ``$BENCH_CHECKPOINT_SECONDS``, else 15.

    Raises:
        BenchError: when that is not a number from 0.
    """
    given = os.environ.get("BENCH_CHECKPOINT_SECONDS", "15")
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise BenchError(f"BENCH_CHECKPOINT_SECONDS is '{given}'", "must be seconds, 0 or more")
    return seconds


@dataclass(frozen=True)
class Restored:
    """What a checkpoint held besides the parameters that were restored."""

    progress: dict[str, Any]
    optimizer: dict[str, Any]


def made_by(device: str = "cpu") -> dict[str, str]:
    """Return what changes results' bits: library versions and, on a processor, its threads."""
    made = {name: version for name, version in versions().items() if name in SHAPING}
    return made | ({"threads": str(torch.get_num_threads())} if device == "cpu" else {})


class Checkpoint:
    """One file that a killed cell resumes from, bit for bit.

    Random state need not be saved: every draw is a function of the seed and the position.  Work
    begun with other library versions, another number of threads or another copy of its teacher
    starts over.

    Args:
        path: the file, or ``None`` to keep no checkpoint.
        taught_by: tells the copies of teacher and generator.
        interval: seconds between two writes; short cells never write one, unless they are asked
            to stop.  ``$BENCH_CHECKPOINT_SECONDS``, else 15, when not given.
    """

    def __init__(
        self, path: Path | None, *, taught_by: str = "", interval: float | None = None
    ) -> None:
        self.path, self.taught_by = path, taught_by
        self.interval = chosen_interval() if interval is None else interval
        self._last = time.monotonic()

    def load(self, *, student: nn.Module, method: nn.Module) -> Restored | None:
        """Restore parameters and buffers, and return the rest; ``None`` with nothing to resume.

        A file that does not match its checksum or the model is removed and nothing is restored: the
        work starts over.

        Raises:
            OSError: when the file cannot be read now; it is kept, as is one that memory is too
                short for (``MemoryError``, ``torch.OutOfMemoryError``).
        """
        if self.path is None or not self.path.is_file():
            return None
        try:
            checksum, _, data = self.path.read_bytes().partition(b"\n")
            if hashlib.sha256(data).hexdigest().encode() != checksum:
                raise ValueError("the checksum does not match")
            saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            if saved["format"] != FORMAT:
                raise ValueError("another format")
            if saved["made_by"] != made_by(_device(student)):
                self._start_over("of other versions or threads")
                return None
            restored = Restored(saved["progress"], saved["optimizer"])
            _check_fits(student, saved["student"])
            _check_fits(method, saved["method"])
            if saved.get("taught_by", "") != self.taught_by:
                self._start_over("of another copy of the teacher or generator")
                return None
        except (OSError, MemoryError, torch.OutOfMemoryError):
            raise  # says nothing against the file
        except Exception as error:  # a damaged checkpoint costs a restart, not the cell
            log.debug("%s: %s", self.path.name, first_line(error))
            self._start_over("damaged")
            return None
        student.load_state_dict(saved["student"])
        method.load_state_dict(saved["method"])
        return restored

    def _start_over(self, why: str) -> None:
        """Say why the file is of no use, and remove it."""
        assert self.path is not None
        log.warning("checkpoint %s is %s: starting over", self.path.name, why)
        self.path.unlink(missing_ok=True)

    def save(
        self,
        *,
        student: nn.Module,
        method: nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Mapping[str, Any],
    ) -> None:
        """Write a checkpoint when the last one is old enough or the work is about to stop."""
        recent = time.monotonic() - self._last < self.interval
        if self.path is None or (recent and not stopping.asked()):
            return
        buffer = io.BytesIO()
        torch.save(
            {
                "format": FORMAT,
                "made_by": made_by(_device(student)),
                "taught_by": self.taught_by,
                "student": student.state_dict(),
                "method": method.state_dict(),
                "optimizer": optimizer.state_dict(),
                "progress": dict(progress),
            },
            buffer,
        )
        data = buffer.getvalue()
        checksum = hashlib.sha256(data).hexdigest().encode()
        write_atomically(self.path, checksum + b"\n" + data)
        self._last = time.monotonic()


def _device(model: nn.Module) -> str:
    return next(model.parameters()).device.type


def _check_fits(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless ``saved`` fits ``model``, so that it is never loaded in part."""
    own, given = (
        {name: value.shape for name, value in state.items()}
        for state in (model.state_dict(), saved)
    )
    if own != given:
        raise ValueError("another model")
