"""Opens what a plan names: tasks, methods and baselines."""

from __future__ import annotations

from bench import TASKS, registry_of
from bench.baseline import Baseline
from bench.cells import Cell, GeneratorSpec, TeacherSpec
from bench.config import build
from bench.errors import BenchError
from bench.method import Method
from bench.source_code import code_hash, task_code
from bench.tasks.base import Data, Task

Spec = Cell | TeacherSpec | GeneratorSpec


def open_task(spec: Spec) -> Task:
    """Return the task of a cell, or the one that its teacher or generator is trained on.

    Raises:
        BenchError: where its code is no longer what the run was planned with.
    """
    cls = TASKS.get(spec.task)
    if spec.task_code:
        unchanged(f"the code of task '{spec.task}'", spec.task_code, task_code(cls))
    return cls(spec.preset, source=spec.source, overrides=spec.overrides)


def make_contender(cell: Cell) -> Method | Baseline:
    """Return the cell's method or baseline, configured.

    Raises:
        BenchError: where its code is no longer what the cell was planned with.
    """
    cls = registry_of(cell.kind).get(cell.method)
    if cell.code:
        unchanged(f"the code of '{cell.method}'", cell.code, code_hash(cls))
    contender: Method | Baseline = cls(build(cls.Config, cell.config, cell.method))
    return contender


def load_data(spec: Spec, task: Task) -> Data:
    """Return the data of ``task``, on the device of ``spec``.

    Raises:
        BenchError: where it cannot be read, or is no longer what the run was planned with.
    """
    data = task.load(spec.device)
    check_data(spec, task)
    return data


def check_data(spec: Spec, task: Task) -> None:
    """Refuse data that is no longer what the key of ``spec`` says: a record would lie about it.

    Raises:
        BenchError: where its fingerprint differs.
    """
    planned = spec.origin["fingerprint"] if isinstance(spec, Cell) else spec.fingerprint
    unchanged(f"the data of task '{task.name}'", planned, task.origin().fingerprint)


def unchanged(what: str, planned: str, now: str) -> None:
    """Refuse what is not what its key says: somebody edits files while a run goes on.

    Raises:
        BenchError: where the hashes ``planned`` and ``now`` differ.
    """
    if planned != now:
        raise BenchError(
            f"{what} was changed after this run was planned", "run the same command again"
        )
