"""Run one cell and build its record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import stopping
from bench.baseline import TEACHER, Baseline
from bench.cells import Cell
from bench.environment import environment, peak_memory, revision
from bench.failures import failure, out_of_memory, storage_problem
from bench.generators.samples import write_samples
from bench.generators.train import generator_summary, held_out
from bench.method import Method
from bench.metrics.groups import group_accuracy
from bench.models.base import parameter_count
from bench.opening import check_data, load_data, make_contender, open_task
from bench.prepare import Prepared, prepare
from bench.record_parts import batching, counted, model_revisions, teacher_summary
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
from bench.training.evaluate import predict_last_and_best
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
        run = _Run(cell, open_task(cell), results, record, report, micro_batches)
        record.update(run.fields())
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


@dataclass(frozen=True)
class _Run:
    """A cell that is being run.

    Attributes:
        cell: what is run.
        task: its task.
        results: folder of the records.
        record: what is known of it so far.
        report: called after each epoch with its entry.
        micro_batches: number of parts each batch is cut into.
    """

    cell: Cell
    task: Task
    results: Path
    record: Record
    report: Report
    micro_batches: int

    def fields(self) -> dict[str, Any]:
        """Run the cell and return what its record says of it."""
        contender = make_contender(self.cell)
        if isinstance(contender, Baseline):
            return self._baseline(contender)
        return self._method(contender)

    def _baseline(self, baseline: Baseline) -> dict[str, Any]:
        clock = time.perf_counter()
        logits: Mapping[str, np.ndarray] = {}
        teacher = None
        if self.cell.teacher is not None:
            files = TeacherFiles.of(self.cell.task, self.cell.teacher.key)
            teacher = files.require()
            logits = files.load_predictions()
        prediction = baseline.predict(task=self.task, seed=self.cell.seed, teacher=logits)
        data = self.task.load()
        check_data(self.cell, self.task)
        saved = {f"best_{name}": value for name, value in prediction.logits.items()}
        seconds, parameters = time.perf_counter() - clock, prediction.parameters
        if teacher and self.cell.method == TEACHER:
            seconds, parameters = teacher["seconds"], teacher["parameters"]
        return {
            **self._scored(data, saved, best_epoch=None),
            "epochs": [],
            "timings": {"train_s": seconds},
            "parameters": {
                "deployed": parameters,
                "student": None,
                "train_only": 0,
                "teacher": teacher["parameters"] if teacher else None,
            },
            "data": {**self.record["data"], **counted(self.task, data)},
            "teacher": teacher_summary(teacher, "none"),
            **model_revisions(teacher),
        }

    def _method(self, method: Method) -> dict[str, Any]:
        cell, task = self.cell, self.task
        clock = time.perf_counter()
        data = load_data(cell, task)
        setup_seconds = time.perf_counter() - clock
        prepared = prepare(cell, task, data, method, self.micro_batches)
        setup_seconds += prepared.seconds
        trained = prepared.train(checkpoint_path(_running(cell), self.micro_batches), self.report)
        clock = time.perf_counter()
        predictions = predict_last_and_best(
            trained,
            data.held_out(),
            batch_size=prepared.setting.evaluation_size,
            precision=task.preset.recipe.precision,
        )
        student, source, manifest = prepared.student, prepared.source, prepared.manifest
        fields = {
            **self._scored(data, predictions, best_epoch=trained.best_epoch),
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
            "data": {**self.record["data"], **counted(task, data)},
            "teacher": teacher_summary(manifest, source.served if source else "none"),
            **model_revisions(manifest, task.preset.student, task.vocabulary()),
            **batching(prepared),
        }
        if prepared.generator is not None:
            fields["generator"] = generator_summary(prepared.generator)
            self._write_samples(prepared, data, {**self.record, **fields})
        fields["timings"] = {
            "setup_s": setup_seconds,
            "train_s": trained.seconds["train"],
            **{f"{name}_s": trained.seconds.get(name, 0.0) for name in ("data", "teacher", "step")},
            **(
                {"generate_s": trained.seconds["generate"]} if "generate" in trained.seconds else {}
            ),
            "evaluate_s": trained.seconds["evaluate"] + time.perf_counter() - clock,
        }
        return fields

    def _write_samples(self, prepared: Prepared, data: Data, record: Record) -> None:
        """Write a few generated inputs beside the record, for the reports."""
        generated = prepared.setting.generated
        if generated is None or generated.generator is None:
            return
        write_samples(
            self.results,
            record,
            cell=self.cell,
            task=self.task,
            split=held_out(self.task, data),
            method=prepared.method,
            student=prepared.student,
            live=generated.live,
            generator=generated.generator,
        )

    def _scored(
        self, data: Data, predictions: Predictions, *, best_epoch: int | None
    ) -> dict[str, Any]:
        """Save predictions beside the record, read them back and return their scores."""
        path = record_path(self.results, self.record).with_suffix(".npz")
        each = self.task.each(predictions["best_test"], data.test.labels.cpu().numpy())
        if each is not None:
            predictions = {**predictions, EACH: each}
            write_predictions(each_path(self.results, self.record), {EACH: each})
        digest = write_predictions(path, predictions)
        kept = read_predictions(path)
        metrics: dict[str, Any] = {}
        for when in ("best", "last"):
            if f"{when}_test" in kept:
                metrics[when] = {
                    name: self._metrics(data, kept[f"{when}_{name}"], split.labels.cpu().numpy())
                    for name, split in data.held_out().items()
                }
        metrics.setdefault("last", metrics["best"])
        metrics["best"] = {**metrics["best"], "epoch": best_epoch}
        return {"metrics": metrics, "predictions": {"file": path.name, "sha256": digest}}

    def _metrics(self, data: Data, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return {**self.task.evaluate(logits, labels), **group_accuracy(logits, labels, data.groups)}


def _running(cell: Cell) -> str:
    return f"cell-{cell.key[:24]}"
