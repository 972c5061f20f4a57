"""Opens what a plan names: tasks, methods and baselines."""

from __future__ import annotations

from bench import TASKS, registry_of
from bench.baseline import Baseline
from bench.cells import Cell, OnTask
from bench.config import build
from bench.method import Method
from bench.tasks.base import Task


def open_task(spec: OnTask) -> Task:
    """Return the task of a cell, or the one that its teacher or generator is trained on."""
    return TASKS.get(spec.task)(spec.preset, source=spec.source, overrides=spec.overrides)


def make_contender(cell: Cell) -> Method | Baseline:
    """Return the cell's method or baseline, configured."""
    cls = registry_of(cell.kind).get(cell.method)
    contender: Method | Baseline = cls(build(cls.Config, cell.config, cell.method))
    return contender
