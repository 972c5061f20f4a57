"""Generated texts, made once before training: decoding word by word is too slow for a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bench.cells import Cell
from bench.config import content_hash
from bench.data.cache import cache_dir
from bench.data.splits import Split, TextSplit
from bench.errors import BenchError
from bench.generators.base import GeneratorModule
from bench.locks import locked
from bench.method import Generation, Method, Progress
from bench.source_code import code_hash
from bench.store import DAMAGED, read_predictions, write_predictions
from bench.tasks.base import Data, Task
from bench.teachers.fill import fill
from bench.teachers.signals import CachedTeacher, LiveTeacher, TeacherSource
from bench.teachers.store import identity_of
from bench.training.evaluate import autocast
from bench.training.generation import Variant
from bench.training.streams import stream_seed


def open_variants(
    cell: Cell,
    task: Task,
    data: Data,
    method: Method,
    generator: GeneratorModule,
    live: LiveTeacher,
    size: int,
) -> list[Variant]:
    """Return the cached generated inputs of ``cell``, making those that are missing.

    They are the same for all seeds.  The teacher runs on ``size`` of them at once, and its outputs
    are cached too.
    """
    split = data.train
    texts = split.texts()
    if texts is None:
        raise BenchError(f"generator '{generator.name}' is too slow to make images in a step")
    assert cell.generator is not None
    key = variants_key(cell, task, method, generator, split.part)
    folder = cache_dir() / "variants" / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(task.preset.variants):
        path = folder / f"{number}.npz"
        with locked(folder / ".lock"):
            tokens = _kept(path, len(split))
            if tokens is None:
                tokens = _make(method, generator, texts, number, task, live)
                _keep(path, tokens)
        made = split.rewritten(tokens)
        found.append(Variant(made, _teacher(cell, made, live, f"{key}-{number}", size)))
    return found


def variants_key(
    cell: Cell, task: Task, method: Method, generator: GeneratorModule, part: str = ""
) -> str:
    """Return the content hash of all that shapes the cached inputs, except their number.

    Args:
        cell: names task and data.
        task: with the preset.
        method: with its options.
        generator: trained.
        part: the part of the training data that they are made from; empty for all of it.
    """
    preset = task.preset
    return content_hash(
        [
            generator.fingerprint,
            dict(method.generation_options()),
            code_hash(type(method)),
            [cell.task, cell.source, cell.origin["fingerprint"], preset.train_limit],
            [task.text_length, preset.evaluation_batch, preset.recipe.precision],
            *([part] if part else []),
            *([cell.teacher.key] if cell.teacher else []),
            *([{"task_code": cell.task_code}] if cell.task_code else []),
        ]
    )


def _make(
    method: Method,
    generator: GeneratorModule,
    split: TextSplit,
    number: int,
    task: Task,
    live: LiveTeacher,
) -> list[np.ndarray]:
    """Return the token ids generated from each sample of ``split``."""
    preset = task.preset
    tokens: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(split)
    for at, index in enumerate(split.evaluation_order(preset.evaluation_batch)):
        random = torch.Generator().manual_seed(stream_seed(0, "variants", number, at))
        with torch.no_grad(), autocast(split.labels.device, preset.recipe.precision):
            made = method.generate(
                batch=split.batch(index),
                context=Generation(generator, live.respond, None, split.batch, random),
                progress=Progress("variants", number, preset.variants),
            )
        lengths = made["attention_mask"].sum(dim=1).tolist()
        ids = made["input_ids"].cpu().numpy()
        for row, position in enumerate(index):
            tokens[position] = ids[row, : lengths[row]]
    return tokens


def _kept(path: Path, count: int) -> list[np.ndarray] | None:
    try:
        arrays = read_predictions(path)  # the archive checks each member's CRC
        ids, lengths = arrays["ids"], arrays["lengths"]
    except DAMAGED:
        return None
    if len(lengths) != count or lengths.sum() != len(ids):
        return None
    return np.split(ids.astype(np.int64), np.cumsum(lengths)[:-1])


def _keep(path: Path, tokens: list[np.ndarray]) -> None:
    lengths = np.array([len(row) for row in tokens], dtype=np.int64)
    write_predictions(path, {"ids": np.concatenate(tokens).astype(np.int32), "lengths": lengths})


def _teacher(cell: Cell, made: Split, live: LiveTeacher, key: str, size: int) -> TeacherSource:
    """Return the teacher for ``made``, cached like its signals on training samples."""
    assert cell.teacher is not None
    if cell.signals == "live":
        return live
    folder = fill(
        live.model,
        made,
        teacher=content_hash([identity_of(cell.teacher.task, cell.teacher.key), key]),
        batch_size=size,
        precision=live.precision,
        limit=cell.cache_bytes,
    )
    return (
        live
        if folder is None
        else CachedTeacher(folder, made.labels.device, live=live, part=made.part)
    )
