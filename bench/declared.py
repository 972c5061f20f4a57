"""What the class of a method or a baseline declares, checked when it is registered."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from bench.baseline import Baseline
from bench.card import Card
from bench.config import Config
from bench.errors import BenchError, unknown
from bench.method import Method
from bench.tasks.base import Task
from bench.tasks.preset import Preset


def check_task(cls: Any, who: str) -> None:
    """Check the declarations of a task; :class:`BenchError`, beginning with ``who``, if wrong."""
    if not issubclass(cls, Task):
        raise BenchError(f"{who} is not a subclass of bench.Task")
    presets = getattr(cls, "presets", None)
    if not isinstance(presets, Mapping) or not presets:
        raise BenchError(f"{who} has no presets", "a dict of bench.tasks.preset.Preset by name")
    for name, preset in presets.items():
        if not isinstance(preset, Preset):
            raise BenchError(
                f"{who}: preset '{name}' is a {type(preset).__name__}", "bench.tasks.preset.Preset"
            )


def check_class(cls: Any, kind: str, who: str) -> None:
    """Check the declarations of ``cls``; :class:`BenchError`, beginning with ``who``, if wrong."""
    if not issubclass(cls, Method if kind == "method" else (Method, Baseline)):
        raise BenchError(f"{who} is not a subclass of bench.{kind.capitalize()}")
    if not (isinstance(cls.Config, type) and issubclass(cls.Config, Config)):
        raise BenchError(f"{who}: its Config is not a subclass of bench.Config")
    if not isinstance(cls.card, Card):
        raise BenchError(f"{who}: its card is not a bench.Card")
    for name, value in (("signals", cls.signals), ("families", cls.families)):
        if not isinstance(value, Set):
            raise BenchError(f"{who}: {name} is a {type(value).__name__}", "must be a set")
    for signal in sorted(cls.signals - Task.signals):
        raise unknown(f"{who}: signal", signal, sorted(Task.signals))
