"""Validated configuration: frozen models, unknown keys refused with the nearest match."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import BenchError, nearest


class Config(BaseModel):
    """Base of every configuration: immutable, strict about names and finite about numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


C = TypeVar("C", bound=Config)
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlevel = 2
_short.maxlist = _short.maxtuple = _short.maxdict = 4


def build(cls: type[C], options: Mapping[str, Any], what: str) -> C:
    """Build ``cls`` from ``options``.

    Args:
        cls: the configuration class.
        options: values by field name; strings are converted where the type is unambiguous.
        what: whose options these are, for the message ("method 'kd'").

    Raises:
        BenchError: naming the first wrong option, its value and what is allowed.
    """
    try:
        return cls.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"]) or "value"
        if first["type"] == "extra_forbidden":
            hint = nearest(str(first["loc"][-1]), _fields(cls, first["loc"][:-1]))
            raise BenchError(f"{what} has no option '{path}'", hint) from None
        # shortened: a few lines of YAML aliases can stand for gigabytes
        given = "" if first["type"] == "missing" else f" = {_short.repr(first['input'])}"
        raise BenchError(f"{what}: {path}{given}: {first['msg'].lower()}") from None


def _fields(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        field = cls.model_fields.get(str(part))
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            cls = inner
    return list(cls.model_fields)


def content_hash(value: Any) -> str:
    """Return the sha256 of ``value`` as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by dotted path: ``recipe.epochs``."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """Split ``name:key=value:key=value`` into the name and its options.

    >>> parse_spec("kd:temperature=2:w_kd=0.5")
    ('kd', {'temperature': '2', 'w_kd': '0.5'})
    """
    name, *pairs = text.strip().split(":")
    options: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise BenchError(f"cannot read '{pair}' in '{text}'", "write NAME:KEY=VALUE:KEY=VALUE")
        if key.strip() in options:
            raise BenchError(f"'{key.strip()}' is given twice in '{text}'")
        options[key.strip()] = value.strip()
    if not name:
        raise BenchError(f"no name in '{text}'", "write NAME or NAME:KEY=VALUE")
    return name, options


def label(name: str, options: Mapping[str, Any], *, oracle: bool = False) -> str:
    """Return how a method with ``options`` is called in tables: ``kd (temperature=2)``.

    An oracle carries that word wherever its name is shown.
    """
    given = f" ({', '.join(f'{key}={options[key]}' for key in sorted(options))})" if options else ""
    return f"{name}{given}{' [oracle]' if oracle else ''}"
