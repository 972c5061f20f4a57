"""Training a teacher: through the same loop as every student, or only a head on frozen features."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch

from bench import METHODS
from bench.cells import TeacherSpec
from bench.config import Config, build
from bench.data.fingerprint import file_sha256
from bench.errors import BenchError
from bench.locks import locked
from bench.method import PROBE_SIZE, Method, Setup
from bench.models.base import Model, parameter_count
from bench.models.hub import commits
from bench.opening import load_data, open_task, unchanged
from bench.source_code import code_hash
from bench.stats import improvement
from bench.supervised import Supervised
from bench.tasks.base import Data, Task
from bench.teachers.features import embed
from bench.teachers.store import TeacherFiles
from bench.training.checkpoint import checkpoint_path, discard_checkpoints
from bench.training.evaluate import predict_all
from bench.training.loop import train
from bench.training.setting import Setting, part_size
from bench.training.streams import stream_seed

Report = Callable[[dict[str, Any]], None]


def ensure_teacher(
    spec: TeacherSpec, report: Report = lambda event: None, *, micro_batches: int = 1
) -> dict[str, Any]:
    """Train the teacher if needed and return its manifest.

    Two processes that ask at once train it once: the second waits for the first.

    Args:
        spec: what shapes the teacher.
        report: called after each epoch with its entry.
        micro_batches: number of parts each batch is cut into; noted in the manifest.
    """
    files = TeacherFiles.of(spec.task, spec.key)
    files.folder.mkdir(parents=True, exist_ok=True)
    with locked(files.folder / ".lock"):
        manifest = files.read()
        if manifest is None:
            manifest = _train(spec, files, report, micro_batches)
            discard_checkpoints(_running(spec))
    return manifest


def load_teacher(spec: TeacherSpec, task: Task, data: Data) -> tuple[Model, dict[str, Any]]:
    """Return the finished teacher, frozen, on the task's device, with its manifest.

    Raises:
        BenchError: when it has not been trained.
    """
    files = TeacherFiles.of(spec.task, spec.key)
    manifest = files.require()
    model = task.build_model(task.preset.teacher, data=data)
    outputs = manifest.get("outputs")  # one method's own teacher may have more of them
    if model.classifies and outputs not in (None, model.head.out_features):
        model.replace_head(torch.nn.Linear(model.head.in_features, outputs))
    model = files.load_into(model)
    return model.to(data.train.labels.device), manifest


def _train(
    spec: TeacherSpec, files: TeacherFiles, report: Report, micro_batches: int
) -> dict[str, Any]:
    started = time.perf_counter()
    task = open_task(spec)
    data = load_data(spec, task)
    model = _fresh(spec, task, data)
    taught = Taught(model, 0, 0)
    given = task.preset.teacher_checkpoint is not None
    if spec.objective or not (given or task.preset.frozen_teacher):
        taught = _train_whole(spec, task, data, model, report, micro_batches)
    elif not given:
        if model.classifies:
            fit_head(model, data, task, micro_batches)
        model.fix()
    precision = task.preset.teacher_recipe.precision
    size = part_size(task.preset.evaluation_batch, micro_batches)
    splits = data.held_out()
    predictions = predict_all(taught.deployed, splits, batch_size=size, precision=precision)
    scores = {
        name: task.evaluate(predictions[name], split.labels.cpu().numpy())
        for name, split in splits.items()
    }
    manifest = {
        "key": spec.key,
        "name": task.preset.teacher,
        "task": spec.task,
        "seed": spec.seed,
        "frozen": task.preset.frozen_teacher,
        "epochs": taught.epochs,
        "best_epoch": taught.best_epoch,
        "parameters": parameter_count(model),
        "depth": model.depth,
        "width": model.width,
        "outputs": model.head.out_features if model.classifies else None,
        "objective": asdict(spec.objective) if spec.objective else None,
        "seconds": time.perf_counter() - started,
        **scores,
        "model_revisions": commits(task.preset.teacher),
        **({"micro_batches": micro_batches} if micro_batches > 1 else {}),
    }
    files.write(model, predictions, manifest)
    return manifest


class Taught(NamedTuple):
    """The outcome of training a teacher.

    Attributes:
        deployed: the model that is scored: the teacher, or one that sums its outputs by class.
        best_epoch: 1-based, by validation; 0 where no epoch was trained.
        epochs: number of epochs trained.
    """

    deployed: Model
    best_epoch: int
    epochs: int


def _fresh(spec: TeacherSpec, task: Task, data: Data) -> Model:
    torch.manual_seed(stream_seed(spec.seed, "teacher-init"))
    model = task.build_model(task.preset.teacher, data=data).to(spec.device)
    if task.preset.teacher_checkpoint is not None:
        path = Path(task.preset.teacher_checkpoint)
        if spec.checkpoint:
            unchanged(f"teacher checkpoint '{path}'", spec.checkpoint, file_sha256(path))
        load_checkpoint(model, path)
    return model


def _objective(spec: TeacherSpec, task: Task, data: Data, model: Model, size: int) -> Method:
    """Return the method that trains the teacher, set up: supervision, or one method's own way."""
    if spec.objective is None:
        return Supervised(Config())
    own = METHODS.get(spec.objective.method).own_teacher
    if own is None:
        raise BenchError(f"method '{spec.objective.method}' has no teacher of its own")
    what = f"the code of the teacher of '{spec.objective.method}'"
    unchanged(what, spec.objective.code, code_hash(own))
    method = own(build(own.Config, spec.objective.config, f"teacher of '{spec.objective.method}'"))
    method.setup(
        Setup(
            student=model,
            num_classes=task.num_classes,
            family=task.family,
            pairs=(),
            probe=data.train.batch(np.arange(min(PROBE_SIZE, len(data.train)))),
            teacher=None,
            head=None,
            training_batches=lambda: (
                data.train.batch(index) for index in data.train.evaluation_order(size)
            ),
            generator=torch.Generator().manual_seed(stream_seed(spec.seed, "teacher-method")),
        )
    )
    return method.to(spec.device)


def _train_whole(
    spec: TeacherSpec, task: Task, data: Data, model: Model, report: Report, micro_batches: int
) -> Taught:
    setting = Setting(
        train=data.train,
        validation=data.validation,
        recipe=task.preset.teacher_recipe,
        seed=stream_seed(spec.seed, "teacher"),
        score=task.evaluate,
        metric=task.metric,
        direction=task.direction,
        evaluation_batch=task.preset.evaluation_batch,
        micro_batches=micro_batches,
    )
    method = _objective(spec, task, data, model, setting.evaluation_size)
    trained = train(
        student=model,
        method=method,
        teacher=None,
        setting=setting,
        report=report,
        checkpoint=checkpoint_path(_running(spec), micro_batches),
    )
    trained.model.load_state_dict(trained.best_state)
    return Taught(trained.model, trained.best_epoch, len(trained.epochs))


def _running(spec: TeacherSpec) -> str:
    return f"teacher-{spec.key[:16]}"


def load_checkpoint(model: Model, path: Path) -> None:
    """Load a user's safetensors file into ``model``.

    Its names are those of the suite's model, or of the bare timm network in it.

    Raises:
        BenchError: when they do not fit.
    """
    try:
        state = safetensors.torch.load_file(path)
        own = set(model.state_dict())
        if not own & set(state):
            state = {f"network.{name}": value for name, value in state.items()}
        model.load_state_dict(state)
    except Exception as error:
        raise BenchError(
            f"teacher checkpoint '{path}' does not fit: {' '.join(str(error).split())[:300]}",
            "set teacher to the model it belongs to",
        ) from error


def fit_head(model: Model, data: Data, task: Task, micro_batches: int = 1) -> None:
    """Fit the last linear layer on frozen embeddings by logistic regression (scikit-learn).

    The inverse regularisation strength is selected on validation from 0.1, 1, 10 and 100.

    Raises:
        BenchError: when a class has no training sample.
    """
    from sklearn.linear_model import LogisticRegression

    recipe = task.preset.teacher_recipe
    size = part_size(task.preset.evaluation_batch, micro_batches)
    features = {
        name: embed(model, split, batch_size=size, precision=recipe.precision)
        for name, split in (("train", data.train), ("validation", data.validation))
    }
    labels = {
        "train": data.train.labels.cpu().numpy(),
        "validation": data.validation.labels.cpu().numpy(),
    }
    absent = sorted(set(range(model.head.out_features)) - set(labels["train"].tolist()))
    if absent:
        raise BenchError(
            f"no training sample of class {absent[0]} for the head of a frozen teacher",
            "raise train_limit or n",
        )
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for strength in (0.1, 1.0, 10.0, 100.0):
        regression = LogisticRegression(C=strength, max_iter=2000)
        regression.fit(features["train"], labels["train"])
        weight, bias = _per_class(regression.coef_, regression.intercept_)
        logits = features["validation"] @ weight.T + bias
        score = task.evaluate(logits, labels["validation"])[task.metric]
        if best is None or improvement(score, best[0], task.direction) > 0:
            best = (score, weight, bias)
    assert best is not None
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(best[1]))
        model.head.bias.copy_(torch.from_numpy(best[2]))


def _per_class(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a regression as a softmax head in float32; a binary one's single row becomes two."""
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight.astype(np.float32), bias.astype(np.float32)
