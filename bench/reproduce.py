"""Runs a recorded cell again from its record alone and compares it number by number.

The record says what was run: method and options, task, preset values, data, seeds, device and
threads.  On the same kind of machine with the same versions every number is the same to the last
bit; differences between then and now are listed before the run.  Where memory ran out then,
batches are cut into the same number of parts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cells import Cell, device_kind
from bench.config import build, leaves, parse_spec
from bench.environment import choose_device, environment, revision
from bench.errors import EXIT_FAILED_CELLS, EXIT_INTERRUPTED, EXIT_OK, BenchError
from bench.models.hub import commits
from bench.plan import Plan, kind_of, make_plan, open_tasks
from bench.privacy import HIDDEN
from bench.store import Record, read_record, read_records
from bench.suites import Suite

if TYPE_CHECKING:
    from bench.progress import Progress

UNCHECKED = ("seconds",)  # of an epoch: a time, not a result


@dataclass(frozen=True)
class Difference:
    """A number in the record and in the new run; ``None`` where it is missing."""

    name: str
    then: float | None
    now: float | None

    @property
    def same(self) -> bool:
        """Return whether both are there and equal, bit by bit."""
        return self.then is not None and self.then == self.now


def suite_of(record: Mapping[str, Any]) -> Suite:
    """Return the one-cell suite of ``record``, with its preset values.

    Raises:
        BenchError: when the record is not a finished run of this suite, or hides a user's path.
    """
    cell = record["cell"]
    if record.get("kind") == "cost":
        raise BenchError("this is a record of costs", "name a record of scores")
    if record["status"] != "ok":
        raise BenchError(f"the record's cell ended as '{record['status']}'", "must be 'ok'")
    lacking = [
        name for name in ("method", "options", "source", "preset_values") if name not in cell
    ]
    if lacking or "external" in record:
        raise BenchError("the record is not from this suite", "must be written by 'bench run'")
    _check_shape(record)
    hidden = [name for name, value in cell["options"].items() if _hides(value)]
    hidden += [name for name, value in leaves(cell["preset_values"]) if _hides(value)]
    if hidden:
        raise BenchError(
            f"the record hides the path in '{hidden[0]}'", "run it again with --set and --plugin"
        )
    options = "".join(f":{name}={value}" for name, value in cell["options"].items())
    overrides = dict(cell.get("overrides") or {})
    if "teacher_checkpoint" in overrides:  # there it is told with its checksum
        overrides["teacher_checkpoint"] = cell["preset_values"].get("teacher_checkpoint")
    asked = {
        "methods": (f"{cell['method']}{options}",),
        "tasks": (cell["task"],),
        "preset": cell["preset"],
        "seeds": (cell["seed"],),
        "teacher_seed": cell.get("teacher_seed") or 0,
        "source": cell["source"],
        "overrides": overrides,
    }
    suite = build(Suite, asked, "the record's cell")
    changed = {name: then for name, (then, _) in changed_values(record, suite).items()}
    return suite.model_copy(update={"overrides": {**suite.overrides, **changed}})


def _check_shape(record: Mapping[str, Any]) -> None:
    """Raise :class:`BenchError` for malformed parts that would show only when the cell is run."""
    if not isinstance(record["cell"].get("overrides") or {}, dict):
        raise BenchError("the record's cell.overrides is not an object", "names with values")
    epochs = record.get("epochs") or []
    if not isinstance(epochs, list) or not all(isinstance(epoch, dict) for epoch in epochs):
        raise BenchError("the record's epochs are not a list of objects", "one per epoch")


def changed_values(record: Mapping[str, Any], suite: Suite) -> dict[str, tuple[Any, Any]]:
    """Return the preset's values then and now, by path, where they differ and were not given."""
    task = next(iter(open_tasks(suite)))
    now = dict(leaves(task.preset.model_dump(mode="json")))
    given = parse_spec(suite.tasks[0])[1]
    return {
        name: (value, now[name])
        for name, value in leaves(record["cell"]["preset_values"])
        if name in now and name != "source" and name not in given and now[name] != value
    }


def differs_before(record: Mapping[str, Any], cell: Cell, threads: int) -> list[str]:
    """Return how ``cell`` and this machine differ from the record's, one line each."""
    notes = []
    device = str((record.get("environment") or {}).get("device") or cell.device)
    # the kind of device is part of the key, and is told below
    if cell.key != record["key"] and device_kind(device) == device_kind(cell.device):
        then = record["cell"]
        if cell.code != then.get("code"):
            notes.append("the method's code has changed since")
        if cell.task_code != then.get("task_code", ""):
            notes.append("the task's code has changed since, or was not recorded")
        if cell.origin["fingerprint"] != (record.get("data") or {}).get("fingerprint"):
            notes.append("the data differs")
        teacher = (record.get("teacher") or {}).get("key")
        if cell.teacher and teacher and cell.teacher.key != teacher:
            notes.append("the teacher's data or training differs")
        notes = notes or ["the protocol or an option's meaning has changed since"]
    then, now = record.get("environment") or {}, environment(cell.device, threads)
    notes += [
        f"{name}: {then[name]} then, {now.get(name, 'none')} now"
        for name in sorted(then)
        if then[name] != now.get(name) and name != "distillation-bench"
    ]
    git, today = (record.get("revision") or {}).get("git"), revision()["git"]
    if git and today and git != today:
        notes.append(f"revision: {str(git)[:12]} then, {today[:12]} now")
    models = record.get("model_revisions") or {}
    held = commits(*models)
    notes += [
        f"{name}: commit {models[name]} then, {held[name]} here"
        for name in sorted(models)
        if held.get(name, models[name]) != models[name]
    ]
    return notes


def device_for(record: Mapping[str, Any], asked: str) -> str:
    """Return the device to run on: with "auto" the processor again where the record's cell was."""
    recorded = (record.get("environment") or {}).get("device")
    return choose_device("cpu" if asked == "auto" and recorded == "cpu" else asked)


def plan_of(record: Mapping[str, Any], *, device: str, plugins: Sequence[str] = ()) -> Plan:
    """Return the plan of the record's one cell.

    Raises:
        BenchError: when it cannot be run here.
    """
    suite = suite_of(record)
    try:
        kind_of(str(record["cell"]["method"]))
    except BenchError as error:
        raise BenchError(error.message, f"{error.hint}; or name its plug-in: --plugin") from None
    plan = make_plan(suite, device=device, plugins=plugins)
    if (record.get("teacher") or {}).get("served") == "live":
        # there was no room for the cache, which rounds
        plan = replace(plan, cells=[replace(cell, cache_bytes=0) for cell in plan.cells])
    for signals in ("auto", "live"):
        cells = [replace(cell, signals=signals) for cell in plan.cells]
        if cells[0].key == record["key"]:
            return replace(plan, cells=cells)
    return plan


def reproduce(
    path: Path,
    *,
    device: str,
    threads: int | None,
    plugins: Sequence[str],
    progress: Progress,
    say: Callable[[str], None],
) -> int:
    """Run the record's cell again, print the comparison and return the exit status.

    Teachers and signals in the cache are used; with an empty ``BENCH_CACHE`` they are made again
    too.  The cell itself starts from its first step.

    Raises:
        BenchError: for a record that cannot be run, or a run that did not finish.
    """
    from bench.run_cell import forget
    from bench.runner import run_plan

    record = read_record(path)
    recorded = (record.get("environment") or {}).get("threads")
    threads = threads or (recorded if isinstance(recorded, int) and recorded > 0 else 1)
    plan = plan_of(record, device=device_for(record, device), plugins=plugins)
    (cell,) = plan.cells
    parts = parts_of(record)
    for note in differs_before(record, cell, threads):
        say(f"note: {note}")
    cut = f", each batch in {parts} parts as then" if parts > 1 else ""
    forget(cell)
    say(f"running {cell.title} again ({cell.source} data, {cell.device}, threads: {threads}{cut})")
    with tempfile.TemporaryDirectory(prefix="reproduce-") as folder:
        summary = run_plan(
            plan,
            results=Path(folder),
            workers=1,
            threads=threads,
            progress=progress,
            micro_batches=parts,
        )
        if summary.interrupted:
            return EXIT_INTERRUPTED
        found, _ = read_records(Path(folder))
    again = next((each for each in found if each["key"] == cell.key), None)
    if again is None or again["status"] != "ok":
        error = (again or {}).get("error") or {"message": "no record was written"}
        raise BenchError(f"the cell did not finish: {error['message']}")
    metric = record["task"].get("metric", "")
    for note in _another_teacher(record, again, metric):
        say(f"note: {note}")
    return _told(compare_numbers(record, again), metric, say)


def _another_teacher(record: Record, again: Record, metric: str) -> list[str]:
    """Return a note if the new run's teacher scores differently from the recorded one."""
    then, now = (dict(_teacher_scores(each)) for each in (record, again))
    differing = [name for name in then if name in now and then[name] != now[name]]
    if not differing:
        return []
    name = f"test.{metric}" if f"test.{metric}" in differing else differing[0]
    return [
        f"the teacher was trained again and differs ({name} {_shown(then[name])} then, "
        f"{_shown(now[name])} now): other differences may come from it"
    ]


def _teacher_scores(record: Record) -> Iterator[tuple[str, float]]:
    teacher = record.get("teacher") or {}
    return _numbers_in({split: teacher.get(split) for split in ("validation", "test")})


def parts_of(record: Mapping[str, Any]) -> int:
    """Return the number of parts each batch was cut into because memory had run out.

    Raises:
        BenchError: when the record gives an impossible number of parts.
    """
    batching = record.get("batching") or {}
    parts = batching.get("micro_batches", 1) if isinstance(batching, dict) else None
    if type(parts) is not int or parts < 1:
        raise BenchError(f"the record says that batches were cut into {parts!r:.40} parts")
    return parts


def compare_numbers(record: Record, again: Record) -> list[Difference]:
    """Return every result of ``record`` beside that of ``again``: scores, and losses by epoch."""
    then, now = dict(_numbers(record)), dict(_numbers(again))
    return [Difference(name, then.get(name), now.get(name)) for name in {**then, **now}]


def _numbers(record: Record) -> Iterator[tuple[str, float]]:
    yield from _numbers_in(record.get("metrics") or {})
    for at, epoch in enumerate(record.get("epochs") or (), start=1):
        for name, value in _numbers_in(epoch):
            if name not in UNCHECKED:
                yield f"epoch {at}: {name}", value


def _numbers_in(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in leaves(values):
        if isinstance(value, int | float):
            yield name, value


def _told(differences: Sequence[Difference], metric: str, say: Callable[[str], None]) -> int:
    headline = [each for each in differences if each.name == f"best.test.{metric}"]
    others = [each for each in differences if not each.same and each not in headline]
    for each in [*headline, *others[:10]]:
        say(f"{each.name}: {_shown(each.then)} then, {_shown(each.now)} now")
    if len(others) > 10:
        say(f"and {len(others) - 10} more differences")
    same = sum(each.same for each in differences)
    say(f"{same} of {len(differences)} recorded numbers are the same to the last bit.")
    return EXIT_OK if same == len(differences) else EXIT_FAILED_CELLS


def _shown(value: float | None) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    return "none" if value is None else str(value)  # a whole number may be larger than any float


def _hides(value: Any) -> bool:
    return isinstance(value, str) and (HIDDEN in value or "…/" in value)
