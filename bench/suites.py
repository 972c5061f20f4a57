"""Suites: which methods on which tasks, with which preset and seeds.

A suite comes from the command line or from a small YAML or TOML file::

    methods: [scratch, kd, "kd:temperature=2"]
    tasks: [amazon, sentiment140]
    preset: quick
    seeds: [0, 1, 2]
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from bench.config import Config, build
from bench.errors import BenchError, first_line
from bench.store import read_text
from bench.tasks.preset import SourceKind

LARGEST = 2**20  # bytes of a suite file


class Suite(Config):
    """A validated suite.

    Attributes:
        methods: ``NAME`` or ``NAME:OPTION=VALUE``, baselines among them; "all" for every one.
        tasks: ``NAME`` or ``NAME:FIELD=VALUE`` (a preset's field, for that task alone: a variant
            such as ``cifar10:n=250`` or ``cifar10:imbalance=100``); "all" for every one.
        preset: "quick", "small", "standard" or "paper".
        seeds: each method is run once with each.
        teacher_seed: the teacher is trained once, with this seed, for all of them.
        source: where the data comes from, in place of the preset's source.
        overrides: preset fields by path (``recipe.epochs``), for smoke tests and studies; shown in
            the preset's name in every table.
    """

    methods: tuple[str, ...] = Field(default=("all",), min_length=1)
    tasks: tuple[str, ...] = Field(default=("all",), min_length=1)
    preset: str = "quick"
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    teacher_seed: int = Field(default=0, ge=0)
    source: SourceKind | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("seeds must be different whole numbers from 0")
        return seeds


def read_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises:
        BenchError: when it cannot be read, or for the first wrong entry.
    """
    try:
        if path.suffix == ".toml":
            values = tomllib.loads(read_text(path, LARGEST))
        elif path.suffix in (".yaml", ".yml"):
            values = _read_yaml(read_text(path, LARGEST))
        else:
            raise BenchError(f"suite file '{path}' is neither YAML nor TOML", ".yaml, .yml, .toml")
    except OSError as error:
        raise BenchError(f"suite file '{path}' cannot be read: {error.strerror}") from error
    except BenchError:
        raise
    except RecursionError as error:
        raise BenchError(f"suite file '{path}' cannot be read: nested too deeply") from error
    except Exception as error:
        raise BenchError(f"suite file '{path}' cannot be read: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise BenchError(f"suite file '{path}' is not a mapping", "see bench/suites.py")
    return build(Suite, values, f"suite '{path.name}'")


def _read_yaml(text: str) -> Any:
    """Read YAML, refusing a key given twice, of which the library would take the last."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"'{twice}' is given twice")
            return super().construct_mapping(node, deep)

    return yaml.load(text, Loader)
