"""Run one cell and build its record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import stopping
from bench.baseline import Baseline
from bench.cells import Cell
from bench.environment import environment, peak_memory, revision
from bench.failures import failure, out_of_memory, storage_problem
from bench.generators.samples import write_samples
from bench.generators.train import generator_summary, held_out
from bench.method import Method
from bench.metrics.groups import group_accuracy
from bench.models.base import parameter_count
from bench.models.hub import commits
from bench.opening import make_contender, open_task
from bench.prepare import Prepared, prepare
from bench.store import (
    EACH,
    SCHEMA,
    Record,
    each_path,
    read_predictions,
    record_path,
    write_predictions,
    write_record,
)
from bench.tasks.base import Data, Task
from bench.teachers.store import TeacherFiles
from bench.training.checkpoint import checkpoint_path, discard_checkpoints
from bench.training.evaluate import predict_all
from bench.training.loop import Trained, train
from bench.training.streams import stream_seed

Report = Callable[[dict[str, Any]], None]
Predictions = dict[str, np.ndarray]


def run_cell(
    cell: Cell,
    results: Path,
    report: Report = lambda event: None,
    *,
    micro_batches: int = 1,
    lost: Sequence[str] = (),
) -> Record:
    """Run ``cell``, write its predictions and its record below ``results``, return the record.

    An error is written into the record.  Three leave no record and are raised: memory ran out (the
    cell may be run again in smaller parts), nothing can be written any more, a request to stop.

    Args:
        cell: what to run.
        results: folder of the records.
        report: called after each epoch with its entry.
        micro_batches: number of parts each batch is cut into; noted in the record.
        lost: how earlier attempts were lost with their worker or node; noted in the record.
    """
    started = datetime.now(UTC)
    clock = time.perf_counter()
    record = skeleton(cell, started, lost)
    try:
        record.update(_run(cell, results, record, report, micro_batches))
        record["status"] = "ok"
    except stopping.Stopped:
        raise
    except Exception as error:
        if out_of_memory(error) or storage_problem(error):
            raise
        record.update(failure(error))
    seconds = time.perf_counter() - clock
    record["timings"] = {**record.get("timings", {}), "total_s": seconds}
    record["memory"] = peak_memory(cell.device)
    # not read off the clock again: it may have been set back meanwhile
    record["finished"] = (started + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    try:
        write_record(results, record)
    except ValueError as error:  # a number that JSON cannot hold, say a metric that is NaN
        ended = {**failure(error), "finished": record["finished"]}
        record = {**skeleton(cell, started, lost), **ended}
        write_record(results, record)
    if record["status"] == "ok":  # until here the checkpoint is all there is
        forget(cell)
    return record


def forget(cell: Cell) -> None:
    """Remove the checkpoints that a run of ``cell`` would resume from."""
    discard_checkpoints(_running(cell))


def unfinished(
    cell: Cell,
    status: str,
    error: Mapping[str, Any],
    seconds: float = 0.0,
    lost: Sequence[str] = (),
) -> Record:
    """Return the record of a cell whose own process could not write it."""
    now = datetime.now(UTC)
    record = skeleton(cell, now - timedelta(seconds=seconds), lost)
    record |= {"status": status, "error": dict(error), "timings": {"total_s": seconds}}
    return record | {"finished": now.isoformat(timespec="seconds")}


def skeleton(cell: Cell, started: datetime, lost: Sequence[str] = ()) -> Record:
    """Return the parts of a record that are known before the cell is run."""
    return {
        "schema": SCHEMA,
        "key": cell.key,
        "status": "failed",
        "cell": cell.described(),
        "task": dict(cell.task_info),
        "error": None,
        "metrics": None,
        "data": dict(cell.origin),
        "teacher": None,
        "environment": environment(cell.device, torch.get_num_threads()),
        "revision": revision(),
        "started": started.isoformat(timespec="seconds"),
        "finished": started.isoformat(timespec="seconds"),
        **({"lost_attempts": list(lost)} if lost else {}),
    }


def counted(task: Task, data: Data) -> dict[str, Any]:
    """Return the record's counts of samples, for a variant also by class."""
    counts: dict[str, Any] = data.described()
    if task.variant:
        classes = np.bincount(data.train.labels.cpu().numpy(), minlength=task.num_classes)
        counts["class_rows"] = classes.tolist()
        counts["groups"] = {name: list(classes) for name, classes in data.groups.items()}
    return counts


def _run(
    cell: Cell, results: Path, record: Record, report: Report, micro_batches: int
) -> dict[str, Any]:
    task = open_task(cell)
    contender = make_contender(cell)
    if isinstance(contender, Baseline):
        return _run_baseline(cell, task, contender, results, record)
    return _run_method(cell, task, contender, results, record, report, micro_batches)


def _run_baseline(
    cell: Cell, task: Task, baseline: Baseline, results: Path, record: Record
) -> dict[str, Any]:
    clock = time.perf_counter()
    logits: Mapping[str, np.ndarray] = {}
    teacher = None
    if cell.teacher is not None:
        files = TeacherFiles.of(cell.task, cell.teacher.key)
        teacher = files.require()
        logits = files.load_predictions()
    prediction = baseline.predict(task=task, seed=cell.seed, teacher=logits)
    data = task.load()
    saved = {f"best_{name}": value for name, value in prediction.logits.items()}
    parameters = teacher["parameters"] if teacher else prediction.parameters
    return {
        **_scored(task, data, saved, results, record, best_epoch=None),
        "epochs": [],
        "timings": {"train_s": teacher["seconds"] if teacher else time.perf_counter() - clock},
        "parameters": {
            "deployed": parameters,
            "student": None,
            "train_only": 0,
            "teacher": teacher["parameters"] if teacher else None,
        },
        "data": {**record["data"], **counted(task, data)},
        "teacher": teacher_summary(teacher, "none"),
        **revisions(teacher),
    }


def _run_method(
    cell: Cell,
    task: Task,
    method: Method,
    results: Path,
    record: Record,
    report: Report,
    micro_batches: int,
) -> dict[str, Any]:
    clock = time.perf_counter()
    data = task.load(cell.device)
    setup_seconds = time.perf_counter() - clock
    prepared = prepare(cell, task, data, method, micro_batches)
    setup_seconds += prepared.seconds
    trained = _train(prepared, checkpoint_path(_running(cell), micro_batches), report)
    clock = time.perf_counter()
    predictions = _predictions(trained, task, data, prepared.setting.evaluation_size)
    student, source, manifest = prepared.student, prepared.source, prepared.manifest
    fields = {
        **_scored(task, data, predictions, results, record, best_epoch=trained.best_epoch),
        "epochs": trained.epochs,
        "parameters": {
            "deployed": parameter_count(trained.model),
            "student": parameter_count(student),
            "train_only": parameter_count(prepared.method),
            "teacher": manifest["parameters"] if manifest else None,
        },
        "seeds": {
            name: stream_seed(cell.seed, name)
            for name in ("init", "order", "augment", "dropout", "method")
        },
        "data": {**record["data"], **counted(task, data)},
        "teacher": teacher_summary(manifest, source.served if source else "none"),
        **revisions(manifest, task.preset.student, task.vocabulary()),
        **batching(prepared),
    }
    if prepared.generator is not None:
        fields["generator"] = generator_summary(prepared.generator)
        _write_samples(prepared, cell, task, data, results, {**record, **fields})
    fields["timings"] = {
        "setup_s": setup_seconds,
        "train_s": trained.seconds["train"],
        **{f"{name}_s": trained.seconds.get(name, 0.0) for name in ("data", "teacher", "step")},
        **({"generate_s": trained.seconds["generate"]} if "generate" in trained.seconds else {}),
        "evaluate_s": trained.seconds["evaluate"] + time.perf_counter() - clock,
    }
    return fields


def _running(cell: Cell) -> str:
    return f"cell-{cell.key[:24]}"


def _write_samples(
    prepared: Prepared, cell: Cell, task: Task, data: Data, results: Path, record: Record
) -> None:
    """Write a few generated inputs beside the record, for the reports."""
    generated = prepared.setting.generated
    if generated is None or generated.generator is None:
        return
    write_samples(
        results,
        record,
        cell=cell,
        task=task,
        split=held_out(task, data),
        method=prepared.method,
        student=prepared.student,
        live=generated.live,
        generator=generated.generator,
    )


def _train(prepared: Prepared, checkpoint: Path, report: Report) -> Trained:
    return train(
        student=prepared.student,
        method=prepared.method,
        teacher=prepared.source,
        setting=prepared.setting,
        report=report,
        checkpoint=checkpoint,
    )


def _predictions(trained: Trained, task: Task, data: Data, batch_size: int) -> Predictions:
    """Return the predictions of the last and the best epoch on all held-out splits."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for when in ("last", "best"):
        if when == "best":
            trained.model.load_state_dict(trained.best_state)
            if trained.best_epoch == trained.epochs[-1]["epoch"]:  # the same state: nothing to run
                found[when] = found["last"]
                continue
        found[when] = predict_all(
            trained.model,
            data.held_out(),
            batch_size=batch_size,
            precision=task.preset.recipe.precision,
        )
    return {f"{when}_{name}": value for when, each in found.items() for name, value in each.items()}


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


def _scored(
    task: Task,
    data: Data,
    predictions: Predictions,
    results: Path,
    record: Record,
    *,
    best_epoch: int | None,
) -> dict[str, Any]:
    """Save predictions beside the record, read them back and return their scores."""
    path = record_path(results, record).with_suffix(".npz")
    each = task.each(predictions["best_test"], data.test.labels.cpu().numpy())
    if each is not None:
        predictions = {**predictions, EACH: each}
        write_predictions(each_path(results, record), {EACH: each})
    digest = write_predictions(path, predictions)
    kept = read_predictions(path)
    metrics: dict[str, Any] = {}
    for when in ("best", "last"):
        if f"{when}_test" in kept:
            metrics[when] = {
                name: _metrics(task, data, kept[f"{when}_{name}"], split.labels.cpu().numpy())
                for name, split in data.held_out().items()
            }
    metrics.setdefault("last", metrics["best"])
    metrics["best"] = {**metrics["best"], "epoch": best_epoch}
    return {"metrics": metrics, "predictions": {"file": path.name, "sha256": digest}}


def _metrics(task: Task, data: Data, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {**task.evaluate(logits, labels), **group_accuracy(logits, labels, data.groups)}


def revisions(teacher: Mapping[str, Any] | None, *names: str) -> dict[str, Any]:
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
