"""Repeated timing of a call, after warm-up, with the device synchronised."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

FEWEST = 5
FEWEST_SLOW = 3  # where a single call takes longer than all of them should


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition of one piece of work.

    Attributes:
        seconds: one entry per repetition, in order.
        samples: samples per repetition.
    """

    seconds: tuple[float, ...]
    samples: int

    @property
    def median(self) -> float:
        """Return the median seconds of a repetition."""
        return float(np.median(self.seconds))

    @property
    def rate(self) -> float:
        """Return samples per second at the median."""
        return self.samples / self.median

    def summary(self) -> dict[str, float | int]:
        """Return what a record keeps: median, spread and percentiles in seconds."""
        p5, p50, p95 = np.percentile(self.seconds, (5, 50, 95))
        return {
            "samples_per_s": self.rate,
            "p5_s": float(p5),
            "p50_s": float(p50),
            "p95_s": float(p95),
            "repetitions": len(self.seconds),
            "samples": self.samples,
        }


def time_calls(
    call: Callable[[int], object],
    *,
    samples: int,
    device: torch.device | str,
    repetitions: int,
    warmup: int,
    limit_s: float = float("inf"),
) -> Timing:
    """Time ``call(i)`` repeatedly; the first ``warmup`` calls do not count.

    Slow work is repeated less often: after ``limit_s`` seconds, but never fewer than
    :data:`FEWEST` times, or :data:`FEWEST_SLOW` where one call takes longer than that.  The
    device is synchronised before each clock reading, so that queued work is not left out.
    """
    device = torch.device(device)
    seconds = []
    for at in range(warmup + repetitions):
        _wait(device)
        started = time.perf_counter()
        call(at)
        _wait(device)
        if at >= warmup:
            seconds.append(time.perf_counter() - started)
        fewest = FEWEST if min(seconds, default=0.0) <= limit_s else FEWEST_SLOW
        if len(seconds) >= fewest and sum(seconds) > limit_s:
            break
    return Timing(tuple(seconds), samples)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
