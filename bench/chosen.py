"""The files that tuning writes: a suite of the chosen options and a table of the studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bench import TASKS
from bench.config import parse_spec
from bench.plan import choose_source
from bench.report.names import file_name
from bench.report.presets import changed, joined, told
from bench.report.text import NOTHING, escape, metric_name, number, table, unit
from bench.store import write_atomically
from bench.suites import Suite
from bench.tuning import PUBLISHED_SEEDS, Study


def chosen_path(results: Path, suite: Suite, task: str) -> Path:
    """Return where the chosen configurations of a task are written; each setting has its own."""
    source = choose_source(parse_spec(task)[0], suite) or ""
    setting = file_name(joined(suite.preset, suite.overrides), source)
    return results / setting / f"{file_name(task)}.yaml"


def write_chosen(path: Path, suite: Suite, studies: Sequence[Study], task: str) -> bool:
    """Write the chosen configurations of a task as a suite, to be run with the published seeds.

    A Markdown table of what each study found is written beside it.  If no trial finished, only the
    table is written.

    Returns:
        Whether a suite was written.
    """
    write_atomically(path.with_suffix(".md"), _found(suite, studies, task).encode())
    chosen = [study.best[0] for study in studies if study.best]
    if not chosen:
        return False
    values: dict[str, Any] = {
        "methods": chosen,
        "tasks": [task],
        "preset": suite.preset,
        "seeds": list(PUBLISHED_SEEDS),
    }
    # BENCH_DATA may not be set when it is run
    source = choose_source(parse_spec(task)[0], suite)
    if source:
        values["source"] = source
    if suite.overrides:
        values["overrides"] = dict(suite.overrides)
    head = "# Chosen on validation data by 'bench tune'; run it with: python -m bench run FILE\n"
    write_atomically(path, (head + yaml.safe_dump(values, sort_keys=False)).encode())
    return True


def _found(suite: Suite, studies: Sequence[Study], task: str) -> str:
    """Return what the studies of a task found, as Markdown."""
    metric = TASKS.get(parse_spec(task)[0]).metric
    rows = []
    for study in studies:
        ends = [NOTHING if end is None else number(end, metric) for end in study.ends]
        failed = sum(score is None for score in study.scores.values())
        best = study.best[0] if study.best else NOTHING
        rows.append([study.title, best, f"{len(study.told)}", f"{failed}", *ends])
    preset = told(suite.preset, changed(suite.overrides))
    seeds = ", ".join(map(str, suite.seeds))
    reading = (
        f"Preset {escape(preset)}, seeds {seeds}, {metric_name(metric)} on validation; test scores "
        "play no part. The default is the first trial. The best of several noisy trials flatters "
        "itself: what the chosen options are worth is what they reach with other seeds "
        "(`python -m bench run` with the suite file beside this one)."
    )
    score = unit(metric)
    head = ["method", "chosen", "trials", "failed", f"default{score}", f"best{score}"]
    shown = table(head, [[escape(value) for value in row] for row in rows], left=2)
    return "\n".join([f"# Tuning: {escape(task)}", "", reading, "", *shown, ""])
