"""What the keys of cells say of their task, its teacher and its generator."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.baseline import Baseline
from bench.cells import GeneratorSpec, Objective, TeacherSpec
from bench.errors import BenchError
from bench.method import Method
from bench.source_code import code_hash, task_code
from bench.tasks.base import Origin, Task

Contended = type[Method] | type[Baseline]


def on_task(task: Task, device: str) -> dict[str, Any]:
    """Return what every spec holds of ``task``: the fields of :class:`~bench.cells.OnTask`."""
    return {
        "task": task.name,
        "preset": task.preset_name,
        "overrides": dict(task.overrides),
        "preset_values": task.preset.model_dump(mode="json"),
        "source": task.source,
        "device": device,
        "task_code": task_code(type(task)),
    }


def teacher_spec(
    task: Task,
    origin: Origin,
    cls: Contended,
    config: Mapping[str, Any],
    seed: int,
    device: str,
) -> TeacherSpec:
    """Return the task's teacher, or the method's own where it has one.

    Args:
        task: what is distilled on.
        origin: its data.
        cls: the method or baseline.
        config: its options, defaults included.
        seed: the teacher's.
        device: where it is trained.

    Raises:
        BenchError: when the preset names a checkpoint that cannot be read.
    """
    return TeacherSpec(
        fingerprint=origin.fingerprint,
        seed=seed,
        checkpoint=_checkpoint_sha256(task),
        objective=_objective(cls, config, task),
        **on_task(task.of_teacher(), device),
    )


def _objective(cls: Contended, config: Mapping[str, Any], task: Task) -> Objective | None:
    """Return what trains the method's own teacher, if it has one.

    A frozen encoder is not retrained: the method then gets the common teacher.
    """
    own = cls.own_teacher
    if own is None or task.preset.frozen_teacher:
        return None
    options = {name: config[name] for name in own.Config.model_fields}
    return Objective(cls.name, options, code_hash(own))


def generator_spec(task: Task, teacher: TeacherSpec) -> GeneratorSpec:
    """Return the generator of ``task``: one for all methods and seeds, judged by the teacher.

    Raises:
        BenchError: when the preset names none.
    """
    if task.preset.generator is None:
        raise BenchError(
            f"preset '{task.preset_name}' of task '{task.name}' names no generator",
            "--set generator=NAME --set generator_recipe.epochs=…",
        )
    return GeneratorSpec(
        fingerprint=teacher.fingerprint,
        vocabulary=task.vocabulary(),
        seed=teacher.seed,
        judge=teacher,
        **on_task(task.of_generator(), teacher.device),
    )


def task_info(task: Task, dataset: str, limits: str) -> dict[str, Any]:
    """Return what records say of ``task``.

    Args:
        task: what is distilled on.
        dataset: its data's name.
        limits: what a reader must know of the data.
    """
    return {
        "family": task.family,
        "dataset": dataset,
        "title": f"{task.full_name} · {dataset}",
        "metric": task.metric,
        "direction": task.direction,
        "classes": task.num_classes,
        "vocabulary": task.vocabulary(),
        "augmented": task.augmented,
        "limits": ". ".join(each for each in (limits.rstrip("."), _told(task)) if each),
    }


def _told(task: Task) -> str:
    """Return what a reader must know of the task's variant; nothing where there is none."""
    if not task.variant:
        return ""
    if task.preset.teacher_checkpoint is not None:
        teacher = "the teacher's weights come from a file, what they learned from is not known here"
    elif task.preset.teacher_data == "labelled":
        teacher = "the teacher learned from the same samples"
    else:
        teacher = "the teacher learned from all training labels"
    return f"{task.variant.told()}; {teacher}"


def _checkpoint_sha256(task: Task) -> str:
    path = task.preset.teacher_checkpoint
    if path is None:
        return ""
    if not path.endswith(".safetensors"):
        raise BenchError(f"teacher checkpoint '{path}' is refused", "must be a .safetensors file")
    try:
        state = Path(path).stat()
        return _sha256_of(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise BenchError(f"teacher checkpoint '{path}' cannot be read: {error.strerror}") from error


@functools.lru_cache(maxsize=8)
def _sha256_of(path: str, size: int, changed: int) -> str:
    """Return the sha256 of a file, read once for all methods unless size or mtime change."""
    from bench.data.fingerprint import file_sha256

    return file_sha256(Path(path))
