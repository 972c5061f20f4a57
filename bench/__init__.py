"""Distillation Bench: which knowledge-distillation method should I use, and what does it cost?

The public surface for people who add parts::

    from bench import Config, Method, Output, Stage, register_method

Listing what is registered does not import torch; classes that need it are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bench.config import Config
from bench.errors import BenchError
from bench.registry import Registry

if TYPE_CHECKING:
    from bench.baseline import Baseline
    from bench.card import Card
    from bench.method import Method, Progress, Setup, Stage
    from bench.tasks.base import Task
    from bench.types import Batch, Output

__version__ = "0.1.0"

METHODS: Registry[Method] = Registry("method", "methods", "distillation_bench.methods")
BASELINES: Registry[Method | Baseline] = Registry(
    "baseline", "baselines", "distillation_bench.baselines"
)
TASKS: Registry[Task] = Registry("task", "bench.tasks", "distillation_bench.tasks")
REGISTRIES: dict[str, Registry[Any]] = {"methods": METHODS, "baselines": BASELINES, "tasks": TASKS}


def registry_of(kind: str) -> Registry[Method] | Registry[Method | Baseline]:
    """Return the registry of ``kind``, ``"method"`` or ``"baseline"``."""
    return METHODS if kind == "method" else BASELINES


register_method = METHODS.register
register_baseline = BASELINES.register
register_task = TASKS.register

_LAZY = {
    "Baseline": "bench.baseline",
    "Batch": "bench.types",
    "Card": "bench.card",
    "Method": "bench.method",
    "Output": "bench.types",
    "Progress": "bench.method",
    "Setup": "bench.method",
    "Stage": "bench.method",
    "Task": "bench.tasks.base",
}

__all__ = [
    "BASELINES",
    "METHODS",
    "REGISTRIES",
    "TASKS",
    "Baseline",
    "Batch",
    "BenchError",
    "Card",
    "Config",
    "Method",
    "Output",
    "Progress",
    "Setup",
    "Stage",
    "Task",
    "register_baseline",
    "register_method",
    "register_task",
    "registry_of",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'bench' has no attribute '{name}'")
