"""Parts of a cell's record that are read off what was run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bench.models.hub import commits
from bench.prepare import Prepared
from bench.tasks.base import Data, Task


def counted(task: Task, data: Data) -> dict[str, Any]:
    """Return the record's counts of samples, for a variant also by class."""
    counts: dict[str, Any] = data.described()
    if task.variant:
        classes = np.bincount(data.train.labels.cpu().numpy(), minlength=task.num_classes)
        counts["class_rows"] = classes.tolist()
        counts["groups"] = {name: list(classes) for name, classes in data.groups.items()}
    return counts


def batching(prepared: Prepared) -> dict[str, Any]:
    """Return the record's ``batching`` part: empty unless memory ran out and batches were cut."""
    setting = prepared.setting
    if setting.micro_batches == 1:
        return {}
    note = (
        "after memory ran out each batch was cut: gradients are averaged over its parts, and a "
        "loss that compares the samples of a batch compares those of a part"
    )
    norms = (torch.nn.modules.batchnorm._BatchNorm,)
    if any(isinstance(module, norms) for module in prepared.student.modules()):
        note += "; BatchNorm statistics are those of the parts, not of the batch"
    size = setting.recipe.batch_size
    return {
        "batching": {
            "batch_size": size,
            "micro_batches": setting.micro_batches,
            "micro_batch_size": -(-size // setting.micro_batches),
            "note": note,
        }
    }


def model_revisions(teacher: Mapping[str, Any] | None, *names: str) -> dict[str, Any]:
    """Return the record's ``model_revisions``: the hub commits of the models ``names`` by name.

    The teacher's is that of its training; without models from the hub there is no such part.
    """
    found = {**commits(*names), **((teacher or {}).get("model_revisions") or {})}
    return {"model_revisions": found} if found else {}


def teacher_summary(manifest: dict[str, Any] | None, served: str) -> dict[str, Any] | None:
    """Return the record's ``teacher`` part."""
    if manifest is None:
        return None
    kept = ("key", "name", "seed", "frozen", "parameters", "best_epoch", "validation", "test")
    # what a teacher of the method's own cost beside the cell
    own = {name: manifest[name] for name in ("objective", "seconds") if manifest.get("objective")}
    cut = {name: manifest[name] for name in manifest.keys() & {"micro_batches"}}
    return {**{name: manifest[name] for name in kept}, **own, **cut, "served": served}
