"""A few generated inputs beside a record, so that a reader can look at them.

The report never trains: what it shows is written here, when the cell ends.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.cells import Cell
from bench.data.splits import ImageSplit, Split
from bench.generators.base import Generator
from bench.method import Generation, Method, Progress
from bench.models.base import Model
from bench.store import SAMPLES_SCHEMA, Record, as_json, samples_path, write_atomically
from bench.tasks.base import Task
from bench.teachers.signals import LiveTeacher
from bench.training.evaluate import autocast
from bench.training.generation import frozen
from bench.training.streams import stream_seed

SHOWN = 8
READABLE = (6, 26)  # tokens of a sentence that is shown


def write_samples(
    results: Path,
    record: Record,
    *,
    cell: Cell,
    task: Task,
    split: Split,
    method: Method,
    student: Model,
    live: LiveTeacher,
    generator: Generator,
) -> Path:
    """Write a few samples of ``split`` as they are, reconstructed and perturbed; return the path.

    Each has the teacher's verdict.

    Args:
        results: the root of all records.
        record: the cell's own, beside which the file is written.
        cell: what was run.
        task: its task.
        split: the validation split: neither generator nor teacher was trained on it.
        method: perturbs as in training.
        student: trained; a gradient perturbation needs it.
        live: the teacher.
        generator: frozen.
    """
    chosen, texts = _chosen(split), split.texts()
    batch = split.batch(chosen)
    shown = batch if texts is None else texts.batch(chosen)
    device = split.labels.device
    with frozen(student), autocast(device, task.preset.recipe.precision):
        with torch.no_grad():
            again = generator.decode(generator.encode(shown.inputs))
        perturbed = method.generate(
            batch=shown,
            context=_context(generator, live, student, split),
            progress=Progress("samples", 0, 1),
        )
    rows = {"real": shown.inputs, "reconstructed": again, "perturbed": perturbed}
    values = {
        "schema": SAMPLES_SCHEMA,
        "key": cell.key,
        "cell": cell.described(),
        "task": dict(cell.task_info),
        "generator": record.get("generator"),
        "class_names": list(task.class_names()),
        "labels": batch.labels.tolist(),
        "rows": [
            {
                "kind": kind,
                "shown": _shown(inputs, split, task),
                "verdicts": _verdicts(live, split.with_texts(batch.inputs, inputs)),
            }
            for kind, inputs in rows.items()
        ],
    }
    path = samples_path(results, record)
    write_atomically(path, as_json(values))
    return path


def _chosen(split: Split) -> np.ndarray:
    """Return the places of a few samples, the classes in turn; short texts come first."""
    random = np.random.Generator(np.random.PCG64(stream_seed(0, "shown")))
    order = random.permutation(len(split))
    texts = split.texts()
    if texts is not None:
        lengths = texts.lengths[order]
        readable = (lengths >= READABLE[0]) & (lengths <= READABLE[1])
        order = np.concatenate([order[readable], order[~readable]])
    labels = split.labels.cpu().numpy()[order]
    turn = np.empty(len(order), dtype=np.int64)  # a sample's place among those of its class
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return order[np.lexsort((labels, turn))][:SHOWN]


def _context(generator: Generator, live: LiveTeacher, student: Model, split: Split) -> Generation:
    random = torch.Generator().manual_seed(stream_seed(0, "shown"))
    return Generation(
        generator=generator,
        teacher=live.respond,
        student=lambda inputs: student(inputs).float(),
        another_view=split.batch,
        random=random,
    )


def _verdicts(live: LiveTeacher, inputs: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    with torch.no_grad():
        probability = live.respond(inputs).scores.softmax(dim=1)
    best = probability.max(dim=1)
    return [
        {"class": int(label), "probability": round(float(share), 4)}
        for share, label in zip(best.values, best.indices, strict=True)
    ]


def _shown(inputs: Mapping[str, Tensor], split: Split, task: Task) -> list[str]:
    """Return images as base64 of PNG files, texts as strings."""
    if isinstance(split, ImageSplit):
        return [_png(pixels) for pixels in split.pixels(inputs["image"])]
    from bench.models.text import load_tokenizer

    tokenizer = load_tokenizer(task.vocabulary())
    texts = tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True)
    return [str(text) for text in texts]


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
