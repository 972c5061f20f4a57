"""Peak memory of a piece of work, each figure labelled for what it is."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bench.measure.nvml import ask_nvml

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@contextmanager
def peak_memory_growth(device: torch.device | str) -> Iterator[dict[str, int]]:
    """Measure the peak memory of the ``with`` body; the yielded dictionary is filled at its end.

    CUDA: ``cuda_allocated_bytes`` and ``cuda_reserved_bytes`` are PyTorch's maxima during the body
    (parameters included), ``cuda_process_bytes`` is what NVML reports for this process at its end.
    CPU, on Linux: ``rss_growth_bytes`` is the peak resident size during the body less the resident
    size before it.  A figure that cannot be read is absent.
    """
    device = torch.device(device)
    found: dict[str, int] = {}
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        torch.cuda.synchronize(device)
        found["cuda_allocated_bytes"] = torch.cuda.max_memory_allocated(device)
        found["cuda_reserved_bytes"] = torch.cuda.max_memory_reserved(device)
        process = _nvml_process_bytes(device)
        if process is not None:
            found["cuda_process_bytes"] = process
        return
    before = _resident("VmRSS")
    resettable = _reset_peak()
    yield found
    peak = _resident("VmHWM")
    if resettable and before is not None and peak is not None:
        found["rss_growth_bytes"] = max(peak - before, 0)


def _resident(field: str) -> int | None:
    """Return a field of this process's status in bytes; ``None`` where there is none."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _reset_peak() -> bool:
    """Reset the kernel's peak of this process to its present size; return whether it worked."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _nvml_process_bytes(device: torch.device) -> int | None:
    def of_this_process(nvml: Any, handle: Any) -> int | None:
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == os.getpid() and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return None

    return ask_nvml(device, of_this_process)
