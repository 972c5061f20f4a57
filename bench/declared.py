"""What the class of a method or a baseline declares, checked when it is registered."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Set
from typing import Any

from bench.baseline import Baseline
from bench.card import Card
from bench.config import Config
from bench.errors import BenchError, first_line, nearest
from bench.method import Method
from bench.tasks.base import Task
from bench.tasks.preset import Preset

KINDS = ("linear", "log", "int", "choice")


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
        raise BenchError(f"{who}: unknown signal '{signal}'", nearest(signal, Task.signals))
    _check_options(cls.Config, who)
    _check_space(cls, who)


def _check_options(config: type[Config], who: str) -> None:
    """Check that options can be written into a record and listed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of options that have no default
            config.model_json_schema()
            config.model_construct().model_dump(mode="json")
    except Exception as error:
        raise BenchError(
            f"{who}: its options cannot be written as JSON: {first_line(error)}",
            "numbers, text, truth values and lists of these can",
        ) from None


def _check_space(cls: Any, who: str) -> None:
    """Check that what tuning may vary are options, within bounds."""
    for knob in cls.space:
        if not isinstance(knob, tuple) or len(knob) < 3 or knob[-1] not in KINDS:
            raise BenchError(f"{who}: space has {knob!r}", "(option, lowest, highest, kind)")
        name, *bounds, kind = knob
        if name not in cls.Config.model_fields:
            options = cls.Config.model_fields
            raise BenchError(f"{who}: space names no option '{name}'", nearest(str(name), options))
        if kind == "choice":
            continue
        numbers = len(bounds) == 2 and all(isinstance(each, int | float) for each in bounds)
        if not numbers or bounds[0] > bounds[1] or (kind == "log" and bounds[0] <= 0):
            raise BenchError(
                f"{who}: space of '{name}' is {bounds} ({kind})",
                "lowest and highest, above zero for log",
            )
