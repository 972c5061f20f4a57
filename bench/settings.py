"""The settings of the configuration classes: name, default, allowed values, meaning."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from bench.config import written

BOUNDS = {
    "exclusiveMinimum": "> {}",
    "minimum": "≥ {}",
    "exclusiveMaximum": "< {}",
    "maximum": "≤ {}",
}
NAMES = {
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
    "null": "none",
}


@dataclass(frozen=True)
class Setting:
    """One value that a user may give.

    Attributes:
        path: as it is written, ``recipe.epochs`` inside another configuration.
        default: in words; empty where there is none.
        allowed: in words: ``number > 0``, ``kl or margin_mse``.
        meaning: what the class's docstring says about it.
    """

    path: str
    default: str
    allowed: str
    meaning: str


def settings_of(cls: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    """Yield the settings of a configuration class, including nested ones."""
    meanings = documented(cls)
    schema = cls.model_json_schema()
    for name, field in cls.model_fields.items():
        inner = _inner(field.annotation)
        if inner is not None:
            yield from settings_of(inner, f"{prefix}{name}.")
            continue
        default = "" if field.default is PydanticUndefined else written(field.default)
        allowed = _allowed(schema["properties"][name])
        yield Setting(prefix + name, default, allowed, meanings.get(name, ""))


def documented(cls: type) -> dict[str, str]:
    """Return what the docstrings of ``cls`` and its bases say about each attribute."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, attributes = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        section = re.split(r"\n(?=\S)", attributes)[0]
        for name, text in re.findall(r"^    (\w+): (.+(?:\n {8,}.+)*)", section, re.MULTILINE):
            found[name] = " ".join(text.replace("``", "").split())
    return found


def _inner(annotation: Any) -> type[BaseModel] | None:
    """Return the configuration class that a field holds, if it holds one."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _allowed(schema: dict[str, Any]) -> str:
    """Return in words the values that a JSON schema allows."""
    if "enum" in schema:
        return " or ".join(map(written, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(_allowed(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list: {_allowed(schema.get('items', {}))}"
    bounds = [words.format(schema[name]) for name, words in BOUNDS.items() if name in schema]
    return " ".join([NAMES.get(schema.get("type", ""), "text"), ", ".join(bounds)]).strip()
