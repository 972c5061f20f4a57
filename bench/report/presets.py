"""Names of presets with changed settings: joined, taken apart again, and in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_SETTING = re.compile(r"\+(?=[\w.]+=)")  # a value may have a plus sign of its own
_RATE = "recipe.learning_rate="


def joined(preset: str, overrides: Mapping[str, Any]) -> str:
    """Return the preset with its changed settings in it, such as ``quick+epochs=2``."""
    return "+".join([preset, *changed(overrides)])


def changed(overrides: Mapping[str, Any]) -> list[str]:
    """Return the changed settings, such as ``["epochs=2"]``, by name."""
    return [f"{name}={_written(overrides[name])}" for name in sorted(overrides)]


def taken_apart(name: str) -> tuple[str, list[str]]:
    """Return the preset and its changed settings, such as ``("quick", ["epochs=2"])``."""
    preset, *settings = _SETTING.split(name)
    return preset, settings


def told(preset: str, settings: Sequence[str]) -> str:
    """Return a preset with its changed settings in words, such as ``quick with epochs=2``.

    The learning rate comes first: titles are cut where room ends, and tables differ by it.
    """
    if not settings:
        return preset
    rate_first = sorted(settings, key=lambda setting: not setting.startswith(_RATE))
    return f"{preset} with {', '.join(rate_first)}"


def _written(value: Any) -> str:
    """Return a value as the command line takes it; a list's with commas."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
