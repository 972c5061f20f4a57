"""What NVIDIA's library answers, where it is there; its hardware is not needed to ask wrongly."""

from __future__ import annotations

import itertools
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.measure.energy import counts_energy, energy
from bench.measure.memory import _nvml_process_bytes

GPU = torch.device("cuda", 1)


class Refused(Exception):
    """What the library raises for a card that does not count."""


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put a library in place whose card counts 2 J between two questions."""
    counter = itertools.count(5_000, 2_000)
    processes = [
        SimpleNamespace(pid=1, usedGpuMemory=7),
        SimpleNamespace(pid=os.getpid(), usedGpuMemory=1_234),
    ]
    made = SimpleNamespace(
        NVMLError=Refused,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(counter),
        nvmlDeviceGetComputeRunningProcesses=lambda handle: processes,
    )
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=f"card{device}")
    )
    return made


def test_joules_are_what_the_card_counted_meanwhile(library: SimpleNamespace) -> None:
    with energy(GPU) as found:
        pass
    assert found["gpu_joules"] == 2.0


def test_the_card_is_asked_by_its_own_name(library: SimpleNamespace) -> None:
    asked: list[Any] = []
    library.nvmlDeviceGetHandleByUUID = asked.append
    assert counts_energy(GPU) and asked == [b"GPU-cardcuda:1"]


def test_memory_is_that_of_this_process(library: SimpleNamespace) -> None:
    assert _nvml_process_bytes(GPU) == 1_234
    library.nvmlDeviceGetComputeRunningProcesses = lambda handle: []
    assert _nvml_process_bytes(GPU) is None


def test_a_card_that_does_not_count_has_no_figure(library: SimpleNamespace) -> None:
    def refuse(handle: Any) -> int:
        raise Refused

    library.nvmlDeviceGetTotalEnergyConsumption = refuse
    with energy(GPU) as found:
        pass
    assert "gpu_joules" not in found
