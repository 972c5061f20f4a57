"""The frame cut into like-with-like sections, each with one summary line per method.

Tables and figures both read these, so the two never disagree about a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from bench.report.frame import teacher_mark
from bench.report.lines import Line, Row, by_seed, corrected, hold, line_of, present
from bench.report.names import file_name
from bench.report.presets import taken_apart, told
from bench.report.record_row import FURTHER
from bench.report.roles import CEILING, REFERENCE
from bench.stats import LEVEL, SEEDS_FOR_TEST, holm, improvement, mean_and_sd
from bench.tasks.preset import full_path

# What must agree before two numbers may stand in one table.
SECTION = ["task", "preset", "source", "device", "metric", "direction", "origin"]


@dataclass(frozen=True)
class Section:
    """All cells of one task, preset, source and device.

    Attributes:
        origin: whose results these are; empty for our own.
        lines: best mean first; methods without any finished seed come last, by name.
        teacher: the teacher's mean test score: of its own row, else as the methods recorded it.
        cells: the rows of the frame it is made from.
        rows: the same by label.
    """

    task: str
    title: str
    preset: str
    source: str
    device: str
    origin: str
    metric: str
    direction: str
    lines: list[Line]
    teacher: float | None
    cells: pd.DataFrame
    rows: Mapping[str, Sequence[Row]]

    def line(self, label: str) -> Line | None:
        """Return the finished line called ``label``, or None."""
        line = self.any_line(label)
        return line if line and line.best else None

    def any_line(self, label: str) -> Line | None:
        """Return the line called ``label``, finished or not, or None."""
        return next((line for line in self.lines if line.label == label), None)

    @property
    def leader(self) -> Line | None:
        """Return the best of those that may be called best, whether it has every seed or not."""
        return next((line for line in self.lines if line.eligible), None)

    @property
    def reference(self) -> Line | None:
        """The line every gain is measured against."""
        return self.line(REFERENCE)

    @property
    def contenders(self) -> list[Line]:
        """Finished distillation methods (no baselines) on the terms of all, best mean first."""
        return [
            line
            for line in self.lines
            if line.kind == "method" and line.best and line.like_for_like
        ]

    @property
    def further(self) -> list[str]:
        """Return the names of the held-out splits beside the official test."""
        return sorted({name for line in self.lines for name in line.further})

    def scored_on(self, split: str) -> Section:
        """Return this section with a further held-out split in place of the test.

        Runs without a score on it are left out.
        """
        cells = self.cells[self.cells[FURTHER + split].notna()]
        return section_of(cells.assign(test_best=cells[FURTHER + split]))

    @property
    def where(self) -> str:
        """Return preset, source and device (and whose results they are) in words."""
        return self.where_with(self.told_preset)

    def where_with(self, preset: str) -> str:
        """Return the same with ``preset`` as the preset's name."""
        words = f"preset {preset}, source {self.source}, {self.device}"
        return f"{words}, external: {self.origin}" if self.origin else words

    @property
    def base_preset(self) -> str:
        """Return the preset's name without the settings that were changed."""
        return taken_apart(self.preset)[0]

    @property
    def told_preset(self) -> str:
        """Return the preset in words, such as ``small with batch_size=64, epochs=10``."""
        return told(self.base_preset, self.settings)

    @property
    def learning_rate(self) -> float | None:
        """Return the rate of all its cells, ``None`` where they have none or several."""
        found = {float(rate) for rate in self.cells.learning_rate if not pd.isna(rate)}
        return found.pop() if len(found) == 1 else None

    @property
    def settings(self) -> list[str]:
        """Return the settings that were changed, such as ``["batch_size=64", "epochs=10"]``."""
        return taken_apart(self.preset)[1]

    def spelt_out(self, names: Iterable[str]) -> list[str]:
        """Return the changed settings, and those of ``names`` as the preset has them, sorted."""
        changed = {setting.partition("=")[0]: setting for setting in self.settings}
        values: Mapping[str, str] = next((each for each in self.cells.settings if each), {})
        own = {
            name: f"{name}={values[path]}" for name in names if (path := full_path(name)) in values
        }
        return [setting for _, setting in sorted((own | changed).items())]

    @property
    def place(self) -> tuple[str, ...]:
        """Return task, preset, source, device and origin."""
        return (self.task, self.preset, self.source, self.device, self.origin)

    @property
    def slug(self) -> str:
        """Return a name for files."""
        return file_name(*self.place)

    @cached_property
    def winners(self) -> frozenset[str]:
        """Return the labels to set bold: the best trained student and all tied with it.

        Tied are all that are not significantly worse (paired t-test, Holm's correction).  Nothing
        is bold where the best has too few seeds for a test, or one that others have is missing.
        """
        best = self.leader
        if best is None or not best.complete or best.ok < SEEDS_FOR_TEST:
            return frozenset()
        ranked = [line for line in self.lines if line.ranked]
        p = {
            line.label: held.p
            for line in ranked[1:]
            if (held := hold(best.scores, line.scores, self.direction)) and held.p is not None
        }
        tied = {label for label, adjusted in holm(p).items() if adjusted >= LEVEL}
        return frozenset({best.label} | tied)


def sections(frame: pd.DataFrame) -> list[Section]:
    """Return the sections of ``frame``, ordered by preset, source, device, task and settings."""
    if frame.empty:
        return []
    made = [section_of(part) for _, part in frame.groupby(SECTION, sort=True, dropna=False)]
    return sorted(made, key=_place)


def _place(section: Section) -> tuple[str, ...]:
    """Return a section's sort key: variants of a task beneath it, settings beneath a variant."""
    name, _, variant = section.task.partition(":")
    where = (section.origin, section.base_preset, section.source, section.device)
    return (*where, name, variant, section.preset, section.metric)


def distinct(values: Iterable[Any]) -> list[str]:
    """Return the different non-empty values as sorted strings."""
    return sorted({str(value) for value in set(values) if not pd.isna(value) and str(value)})


def section_of(cells: pd.DataFrame) -> Section:
    """Return the section of ``cells``, rows of the frame that all belong to it."""
    newest = cells.sort_values(["finished", "key"]).iloc[-1]
    rows: dict[str, list[Row]] = {}
    names = list(map(str, cells))
    for values in zip(*(cells[name].tolist() for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        rows.setdefault(str(row["label"]), []).append(row)
    direction = str(newest.direction)
    scores = {label: by_seed(part) for label, part in rows.items()}
    teacher = list(scores.get(CEILING, {}).values())
    if not teacher:
        finished = cells[cells.status == "ok"]
        teacher = present(finished.drop_duplicates(["teacher_name", "teacher_score"]).teacher_score)
    ceiling = mean_and_sd(teacher).mean if teacher else None
    # Which seeds were meant to run is read off the methods; only a baseline may have just one.
    compared = cells[(cells.kind == "method") | (cells.label == REFERENCE)]
    seeds = {int(seed) for seed in compared.seed}
    lines = [
        line_of(part, seeds, scores, _teacher_of(part, scores, ceiling), direction)
        for _, part in sorted(rows.items())
    ]

    def place(line: Line) -> tuple[bool, float, str]:
        score = improvement(line.best.mean, 0.0, direction) if line.best else 0.0
        return line.best is None, -score, line.label

    return Section(
        task=str(newest.task),
        title=str(newest.title),
        preset=str(newest.preset),
        source=str(newest.source),
        device=str(newest.device),
        origin=str(newest.origin),
        metric=str(newest.metric),
        direction=direction,
        lines=sorted(corrected(lines), key=place),
        teacher=ceiling,
        cells=cells,
        rows=rows,
    )


def _teacher_of(
    part: Sequence[Row], scores: Mapping[str, Mapping[int, float]], own: float | None
) -> float | None:
    """Return the mean score of the teacher of ``part``: ``own``, or that of its mark."""
    label, seed = str(part[0]["label"]), part[0]["teacher_seed"]
    if seed is None or not label.endswith(mark := teacher_mark(seed)):
        return own
    found = scores.get(CEILING + mark)
    return mean_and_sd(found.values()).mean if found else None
