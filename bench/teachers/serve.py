"""How a cell gets its teacher: from the signal cache where that is possible, else live."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from bench import stopping
from bench.cells import Cell, SignalsSpec, TeacherSpec
from bench.data.splits import View
from bench.method import Method
from bench.models.base import Model, uniform_pairs
from bench.models.fold import for_inference
from bench.opening import load_data, make_contender, open_task
from bench.tasks.base import Data, Task
from bench.tasks.preset import Recipe
from bench.teachers.fill import Views, fill, find, forget
from bench.teachers.signals import CachedTeacher, LiveTeacher, StaleSignals, TeacherSource, check
from bench.teachers.store import TeacherFiles, identity_of
from bench.teachers.train import load_teacher
from bench.training.setting import part_size

log = logging.getLogger(__name__)


def teacher_head(spec: TeacherSpec) -> torch.Tensor:
    """Return the weight of the teacher's last linear layer, ``(C, D)``."""
    return torch.from_numpy(TeacherFiles.of(spec.task, spec.key).load_head())


def training_views(seed: int, recipe: Recipe, *, plain: bool = False) -> Views:
    """Return the views a cell of ``seed`` will see in training.

    With ``plain``, the un-augmented samples too: a method's fit-time pass looks at those.
    """
    count = min(recipe.epochs, recipe.views) if recipe.views else recipe.epochs
    views = [View(seed, epoch) for epoch in range(count)]
    return [None, *views] if plain else views


def open_signals(
    cell: Cell,
    task: Task,
    data: Data,
    layers: Sequence[int],
    *,
    signals: frozenset[str] = frozenset({"logits"}),
    micro_batches: int = 1,
) -> TeacherSource:
    """Return the cell's teacher source, filling the cache if needed.

    Args:
        cell: what is run.
        task: its task.
        data: the task's data, on the device.
        layers: hidden teacher layers the method needs in some stage.
        signals: the teacher's signals that the method learns from.
        micro_batches: number of parts that batches are cut into when filling the cache.
    """
    spec = cell.teacher
    if spec is None:
        raise ValueError(f"cell '{cell.title}' has no teacher")
    # the teacher runs as it was trained, whatever the student's own precision
    live = LiveTeacher(lambda: _load(spec, task, data), task.preset.teacher_recipe.precision)
    if cell.signals == "live":
        return live
    serve = partial(
        _cached, cell, task, data, layers, live, signals=signals, micro_batches=micro_batches
    )
    cached = serve()
    if cached is None:
        return live
    if cell.check_cache:
        view = None if data.train.static else training_views(cell.seed, task.preset.recipe)[0]
        # one of its own: what is checked is no sample that the teacher was asked to teach
        again = LiveTeacher(lambda: live.model, live.precision)
        try:
            check(cached, again, data.train, view)
        except StaleSignals as error:
            log.warning("cached signals are stale and are made again: %s", error)
            forget(cached.folder)
            cached = serve()
    return cached or live


def _wanted(
    cells: Sequence[Cell], pairs: Sequence[tuple[int, int]]
) -> tuple[set[int], frozenset[str]]:
    """Return the teacher's layers and the signals that ``cells`` read.

    One whose method cannot be made or asked is passed over, as its own run says what is wrong; the
    error is raised where that is all of them.
    """
    layers: set[int] = set()
    signals: frozenset[str] = frozenset()
    failed: list[Exception] = []
    for each in cells:
        try:
            method = make_contender(each)
            if isinstance(method, Method):
                layers |= {hint for _, hint in method.hints(pairs)}
                signals |= method.signals
        except (MemoryError, stopping.Stopped):
            raise
        except Exception as error:
            log.debug("%s is passed over: %s", each.label, error)
            failed.append(error)
    if len(failed) == len(cells):
        raise failed[0]
    return layers, signals


def fill_signals(
    spec: SignalsSpec, report: Callable[[dict[str, Any]], None], *, micro_batches: int = 1
) -> dict[str, Any]:
    """Cache the signals of the cells of ``spec``, one pass per view; return how they are served."""
    cell = spec.cells[0]
    task = open_task(cell)
    data = load_data(cell, task)
    assert cell.teacher is not None
    manifest = TeacherFiles.of(cell.teacher.task, cell.teacher.key).require()
    depth = task.build_model(task.preset.student, data=data).depth
    pairs = uniform_pairs(depth, manifest["depth"])
    layers, signals = _wanted(spec.cells, pairs)
    teacher = cell.teacher
    live = LiveTeacher(lambda: _load(teacher, task, data), task.preset.teacher_recipe.precision)

    def progress(done: int, total: int) -> None:
        report({"epoch": done, "stage": f"view {done} of {total}", "validation": None})
        if done < total:
            stopping.check()

    cached = _cached(
        cell,
        task,
        data,
        sorted(layers),
        live,
        signals=signals,
        report=progress,
        micro_batches=micro_batches,
    )
    return {"served": "live" if cached is None else "cached"}


def _cached(
    cell: Cell,
    task: Task,
    data: Data,
    layers: Sequence[int],
    live: LiveTeacher,
    *,
    signals: frozenset[str],
    report: Callable[[int, int], None] = lambda done, total: None,
    micro_batches: int = 1,
) -> CachedTeacher | None:
    """Return the cached source, filled; ``None`` where every batch would be served live.

    That is so where the outputs would exceed the limit or not be used: a method that only matches
    feature maps gets those of augmented images from the teacher itself.
    """
    assert cell.teacher is not None
    static = data.train.static
    if cell.cache_bytes == 0:
        return None
    if not static and not signals & {"logits", "embedding"}:
        return None
    kept = layers if static else ()  # feature maps of augmented views are served live
    # a method that learns from embeddings may look at un-augmented ones before training
    views = training_views(cell.seed, task.preset.recipe, plain="embedding" in signals)
    precision = task.preset.teacher_recipe.precision
    teacher = identity_of(cell.teacher.task, cell.teacher.key)
    folder = find(
        data.train, teacher=teacher, layers=kept, views=views, precision=precision
    ) or fill(
        live.model,
        data.train,
        teacher=teacher,
        layers=kept,
        views=views,
        batch_size=part_size(task.preset.evaluation_batch, micro_batches),
        precision=precision,
        limit=cell.cache_bytes,
        report=report,
    )
    if folder is None:
        return None
    device, part = data.train.labels.device, data.train.part
    return CachedTeacher(folder, device, live=live, static=static, part=part)


def _load(spec: TeacherSpec, task: Task, data: Data) -> Model:
    # building a model draws random numbers: the method's stream must not move by it
    with torch.random.fork_rng(devices=[]):
        return for_inference(load_teacher(spec, task, data)[0])
