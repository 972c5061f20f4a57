"""Access to NVIDIA's management library, which is an optional dependency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def ask_nvml(device: torch.device, question: Callable[[Any, Any], int | None]) -> int | None:
    """Return ``question(pynvml, handle of device)``; ``None`` where NVML cannot answer.

    Args:
        device: a CUDA device.
        question: asked with the module and the device's handle.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        return question(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode()))
    except pynvml.NVMLError:
        return None
