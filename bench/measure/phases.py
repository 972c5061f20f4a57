"""Wall time by phase: data, teacher, generated inputs, step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Phases:
    """Adds up the seconds spent in named phases.

    On a CUDA device work is only queued when a call returns, so a phase is true only where the
    device is synchronised around it; that costs speed, and is done when measuring, not when
    training.

    Args:
        device: where the work runs.
        synchronise: wait for the device at the edges of each phase.
    """

    def __init__(self, device: torch.device | str = "cpu", *, synchronise: bool = False) -> None:
        self.device = torch.device(device)
        self.synchronise = synchronise and self.device.type == "cuda"
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Count the time of the ``with`` body as phase ``name``."""
        self._wait()
        started = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            spent = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def _wait(self) -> None:
        if self.synchronise:
            torch.cuda.synchronize(self.device)
