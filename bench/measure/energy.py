"""Energy of a piece of work, where the machine counts it; absent otherwise, never zero."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bench.measure.nvml import ask_nvml

RAPL = Path("/sys/class/powercap/intel-rapl:0")


@contextmanager
def energy(device: torch.device | str) -> Iterator[dict[str, float]]:
    """Measure the energy of the ``with`` body in joules.

    CUDA: ``gpu_joules`` from NVML's counter of the whole device.  CPU: ``package_joules`` from
    RAPL, for the whole processor package, whatever else runs on it.
    """
    device = torch.device(device)
    found: dict[str, float] = {}
    gpu, package = _gpu_millijoules(device), _package_microjoules()
    yield found
    if gpu is not None and (after := _gpu_millijoules(device)) is not None:
        found["gpu_joules"] = (after - gpu) / 1e3
    if package is not None and (end := _package_microjoules()) is not None:
        # the counter wraps around
        wrap = _number(RAPL / "max_energy_range_uj") or 0
        found["package_joules"] = ((end - package) % wrap if wrap else end - package) / 1e6


def counts_energy(device: torch.device | str) -> bool:
    """Return whether any counter for ``device`` can be read here."""
    return _package_microjoules() is not None or _gpu_millijoules(torch.device(device)) is not None


def _package_microjoules() -> int | None:
    return _number(RAPL / "energy_uj")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _gpu_millijoules(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    return ask_nvml(
        device, lambda nvml, handle: int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    )
