"""Where a run happened: versions, device, revision."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch",
    "timm",
    "transformers",
    "datasets",
    "numpy",
    "pandas",
    "scikit-learn",
    "distillation-bench",
)
# x86: AVX-512 or AMX instructions; Arm: one flag for both its forms
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
PROJECT = Path(__file__).resolve().parent.parent
# What a record comes from; a plug-in's code is part of its key, whatever folder it lies in.
CODE = ("bench", "methods", "baselines", "pyproject.toml", "constraints.txt")


def versions() -> dict[str, str]:
    """Return the versions of Python and the libraries that shape results."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: str) -> str:
    """Return the name of the accelerator, or of the processor."""
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():  # asked where a run is driven from, not where it runs
            return "unknown"
        return torch.cuda.get_device_name(torch.device(device))
    return processor()


@functools.cache
def processor() -> str:
    """Return the processor's name and the number of cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {cores()} cores"


@functools.cache
def bfloat16_support(device: str, info: Path = Path("/proc/cpuinfo")) -> str:
    """Return how ``device`` computes in bfloat16: "in hardware", "emulated" or "unknown".

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        info: file with the processor's flags; without it (macOS) the answer is "unknown".
    """
    if device.startswith("cuda"):
        import torch

        # from Ampere on
        return "in hardware" if torch.cuda.get_device_capability(device) >= (8, 0) else "emulated"
    words = set(info.read_text(errors="replace").split()) if info.is_file() else set()
    if not words:
        return "unknown"
    return "in hardware" if words & BFLOAT16_FLAGS else "emulated"


def cores() -> int:
    """Return the number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment(device: str, threads: int) -> dict[str, Any]:
    """Return the record's ``environment`` part."""
    return {
        **versions(),
        "device": device,
        "device_name": device_name(device),
        "threads": threads,
        "platform": f"{platform.system()} {platform.machine()}",
    }


@functools.cache
def revision() -> dict[str, Any]:
    """Return the project's git revision and whether its code is unchanged; None for unknown.

    Outputs, documentation, tests and the user's own files are none: they do not make it unclean.
    """
    try:
        sha = _git("rev-parse", "HEAD")
        status = _git("status", "--porcelain", "--", *CODE)
    except (OSError, subprocess.SubprocessError):
        return {"git": None, "clean": None}
    return {"git": sha, "clean": not status}


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(PROJECT), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    ).stdout.strip()


def peak_memory(device: str) -> dict[str, int]:
    """Return the peak memory of this process in bytes, by kind."""
    factor = 1 if sys.platform == "darwin" else 1024
    found = {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor}
    if device.startswith("cuda"):
        import torch

        found["peak_cuda_allocated_bytes"] = torch.cuda.max_memory_allocated(device)
        found["peak_cuda_reserved_bytes"] = torch.cuda.max_memory_reserved(device)
    return found


def choose_device(device: str) -> str:
    """Return ``device``, with "auto" resolved to what is available.

    Raises:
        BenchError: when the named device is unknown or not available.
    """
    from bench.errors import BenchError

    if device == "cpu":
        return "cpu"
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise BenchError(f"no device '{device}'", "auto, cpu, cuda or cuda:N") from None
    count = torch.cuda.device_count()
    if kind.type == "cuda" and (kind.index or 0) >= count:
        raise BenchError(f"device '{device}' is not available", f"torch sees {count} CUDA devices")
    if kind.type not in ("cpu", "cuda"):
        raise BenchError(f"device '{device}' is not supported", "auto, cpu, cuda or cuda:N")
    return device
