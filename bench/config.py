"""Validated configuration: frozen models that refuse unknown keys, naming the nearest match."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from bench.errors import BenchError, nearest


class Config(BaseModel):
    """Base class of every configuration: immutable, without unknown keys or non-finite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _none_is_a_value(cls, values: Any) -> Any:
        """Read the word ``none`` as ``None`` where that may be given."""
        if not isinstance(values, dict):
            return values
        optional = {
            name
            for name, field in cls.model_fields.items()
            if type(None) in get_args(field.annotation)
        }
        return {
            name: None if name in optional and value == "none" else value
            for name, value in values.items()
        }


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
        # a validator's own words stand as they are, pydantic's begin a sentence
        own = (first.get("ctx") or {}).get("error")
        says = str(own) if own else first["msg"][:1].lower() + first["msg"][1:]
        raise BenchError(f"{what}: {path}{given}: {says}") from None


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

    Raises:
        BenchError: for anything else, or an option given twice.
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


def changed(config: Config, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the ``options`` that differ from the defaults of ``config``, values as written.

    One setting has one name in every table: ``temperature=2.0`` is ``temperature=2``, and a
    default that is written out does not make another method.
    """
    values, fields = config.model_dump(mode="json"), type(config).model_fields
    return {
        name: written(values[name])
        for name in options
        if getattr(config, name) != fields[name].get_default(call_default_factory=True)
    }


def written(value: Any) -> str:
    """Return a value as the command line takes it: ``2``, ``0.5``, ``true``, ``none``."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return f"{value:.0f}" if whole else str(value)


def label(name: str, options: Mapping[str, Any], *, oracle: bool = False) -> str:
    """Return the name of a method with ``options`` in tables: ``kd (temperature=2)``.

    An oracle is marked with that word wherever its name is shown.
    """
    given = f" ({', '.join(f'{key}={options[key]}' for key in sorted(options))})" if options else ""
    return f"{name}{given}{' [oracle]' if oracle else ''}"
