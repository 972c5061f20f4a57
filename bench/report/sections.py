"""The frame cut into like-with-like sections, each with one summary line a method.

Tables and figures both read these, so the two can never disagree about a number.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from bench.failures import BROKEN
from bench.report.frame import CEILING, FURTHER, REFERENCE, SECOND
from bench.report.names import file_name
from bench.report.presets import taken_apart, told
from bench.stats import (
    LEVEL,
    SEEDS_FOR_TEST,
    Gain,
    Interval,
    Spread,
    bootstrap_interval,
    difference_interval,
    gap_closed,
    holm,
    improvement,
    mean_and_sd,
    paired_gain,
    paired_p,
)

# What must agree before two numbers may stand in one table.
SECTION = ["task", "preset", "source", "device", "metric", "origin"]
Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Versus:
    """A line held against another one, seed by seed; positive is better.

    Attributes:
        gain: mean and standard deviation of the paired differences, in the metric's unit.
        interval: of the mean difference; None for a single pair.
        p: of the paired t-test, not adjusted; None with too few pairs.
        adjusted: after Holm's correction over all lines held against the same one.
    """

    gain: Gain
    interval: Interval | None
    p: float | None
    adjusted: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the difference is beyond noise at 5 % after Holm's correction."""
        return self.adjusted is not None and self.adjusted < LEVEL


@dataclass(frozen=True)
class Line:
    """One method of a section over its seeds; scores in the metric's unit.

    Attributes:
        scores: test score of each finished seed, at the epoch that validation chose.
        interval: of the mean test score over seeds; None with too few seeds.
        gain: over the reference, positive is better; None without a reference.
        paired: whether the gain was taken seed by seed, or between two means.
        closed: share of the teacher gap, None where there is no gap.
        versus: held against the plain student and against plain distillation, by their names.
        agreement: share of test samples on which student and teacher predict the same.
        further: spread on further held-out splits, by split name.
        failed: seeds that ended without a result, in whatever way.
        planned: seeds this method should have; ``ok + failed + skipped`` may be fewer.
        like_for_like: whether it may be read beside the others as it stands.
    """

    label: str
    kind: str
    scores: dict[int, float]
    best: Spread | None
    interval: Interval | None
    last: Spread | None
    macro_f1: Spread | None
    further: dict[str, Spread]
    gain: Gain | None
    paired: bool
    closed: float | None
    versus: Mapping[str, Versus]
    agreement: Spread | None
    deployed: float | None
    train_only: float | None
    train_seconds: float | None
    failed: int
    skipped: int
    planned: int
    like_for_like: bool = True

    @property
    def ok(self) -> int:
        """Number of finished seeds."""
        return len(self.scores)

    @property
    def complete(self) -> bool:
        """Whether every planned seed finished."""
        return self.ok == self.planned

    @property
    def trained_student(self) -> bool:
        """Whether this is a neural student: neither the teacher nor a model without parameters."""
        return self.label != CEILING and (self.kind != "baseline" or self.deployed is not None)

    @property
    def ranked(self) -> bool:
        """Whether it may be called best: a trained student, on the seeds and the terms of all."""
        run = self.trained_student and self.paired and self.complete and self.best is not None
        return self.on_same_terms and run

    @property
    def on_same_terms(self) -> bool:
        """Whether it was given what all others were: no oracle, and like for like."""
        return self.like_for_like and self.kind != "oracle"


@dataclass(frozen=True)
class Section:
    """All cells of one task, preset, source and device.

    Attributes:
        origin: whose results these are; empty for our own.
        lines: best mean first; methods without any finished seed come last, by name.
        teacher: the teacher's mean test score: of its own row, else as the methods recorded it.
        cells: the rows of the frame this was made from.
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
        return next((line for line in self.lines if line.label == label and line.best), None)

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
        """Return this section with a further held-out split in the place of the test.

        Runs without a score on it are not in it.
        """
        cells = self.cells[self.cells[FURTHER + split].notna()]
        return section_of(cells.assign(test_best=cells[FURTHER + split]))

    @property
    def where(self) -> str:
        """Return preset, source and device (and whose results they are) in words."""
        return self.where_with(self.told_preset)

    def where_with(self, preset: str) -> str:
        """Return the same with the preset called otherwise."""
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

        Tied is whoever is not significantly worse (paired t-test, Holm's correction).  Nothing is
        bold where the best has too few seeds to tell.
        """
        ranked = [line for line in self.lines if line.ranked]
        if not ranked or ranked[0].ok < SEEDS_FOR_TEST:
            return frozenset()
        best = ranked[0]
        p = {
            line.label: held.p
            for line in ranked[1:]
            if (held := hold(best.scores, line.scores, self.direction)) and held.p is not None
        }
        tied = {label for label, adjusted in holm(p).items() if adjusted >= LEVEL}
        return frozenset({best.label} | tied)

    @property
    def best_seeds(self) -> int:
        """Return the number of seeds of the best trained student, 0 without one."""
        return next((line.ok for line in self.lines if line.ranked), 0)


def sections(frame: pd.DataFrame) -> list[Section]:
    """Cut ``frame`` into sections, ordered by preset, source, device, task and settings."""
    if frame.empty:
        return []
    made = [section_of(part) for _, part in frame.groupby(SECTION, sort=True, dropna=False)]
    return sorted(made, key=_place)


def _place(section: Section) -> tuple[str, ...]:
    """Return where a section stands: variants of a task beneath it, settings beneath a variant."""
    name, _, variant = section.task.partition(":")
    where = (section.origin, section.base_preset, section.source, section.device)
    return (*where, name, variant, section.preset, section.metric)


def distinct(values: Iterable[Any]) -> list[str]:
    """Return the different non-empty values as sorted strings."""
    return sorted({str(value) for value in set(values) if not pd.isna(value) and str(value)})


def hold(scores: Mapping[int, float], other: Mapping[int, float], direction: str) -> Versus | None:
    """Hold ``scores`` against ``other`` on the seeds both have; None without a common one."""
    gain = paired_gain(scores, other, direction)
    if gain is None:
        return None
    differences = [
        improvement(scores[seed], other[seed], direction)
        for seed in sorted(scores.keys() & other.keys())
    ]
    return Versus(gain, difference_interval(differences), paired_p(differences))


def section_of(cells: pd.DataFrame) -> Section:
    """Return the one section that ``cells``, rows of the frame, are all of."""
    newest = cells.sort_values(["finished", "key"]).iloc[-1]
    rows: dict[str, list[Row]] = {}
    names = list(map(str, cells))
    for values in zip(*(cells[name].tolist() for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        rows.setdefault(str(row["label"]), []).append(row)
    direction = str(newest.direction)
    scores = {label: _by_seed(part) for label, part in rows.items()}
    teacher = list(scores.get(CEILING, {}).values())
    if not teacher:
        finished = cells[cells.status == "ok"]
        teacher = _values(finished.drop_duplicates(["teacher_name", "teacher_score"]).teacher_score)
    ceiling = mean_and_sd(teacher).mean if teacher else None
    # Which seeds were meant to run is read off the methods; only a baseline may have just one.
    compared = cells[(cells.kind == "method") | (cells.label == REFERENCE)]
    seeds = {int(seed) for seed in compared.seed}
    lines = [_line(rows[label], seeds, scores, ceiling, direction) for label in sorted(rows)]

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
        lines=sorted(_corrected(lines), key=place),
        teacher=ceiling,
        cells=cells,
        rows=rows,
    )


def _corrected(lines: Sequence[Line]) -> list[Line]:
    """Fill in Holm's correction: one family for each line the others are held against."""
    made = {line.label: dict(line.versus) for line in lines}
    for reference in (REFERENCE, SECOND):
        found = {label: versus[reference] for label, versus in made.items() if reference in versus}
        raw = {label: held.p for label, held in found.items() if held.p is not None}
        for label, adjusted in holm(raw).items():
            made[label][reference] = replace(found[label], adjusted=adjusted)
    return [replace(line, versus=made[line.label]) for line in lines]


def _line(
    part: list[Row],
    seeds: set[int],
    scores_of: Mapping[str, Mapping[int, float]],
    teacher: float | None,
    direction: str,
) -> Line:
    ok = [row for row in part if row["status"] == "ok"]
    label, kind = str(part[0]["label"]), str(part[0]["kind"])
    scores, reference = dict(scores_of[label]), scores_of.get(REFERENCE, {})
    # A baseline run once (the teacher, a model without seeds) shares no seed's luck with the
    # reference, so it is held against the reference's mean rather than one seed of it.
    once = kind == "baseline" and label != REFERENCE and len(part) == 1
    paired = not (once and len(reference) > 1)
    gain, closed = _against(scores, reference, teacher, direction, paired=paired)
    if label == REFERENCE:
        gain, closed = None, None  # a difference of zero to itself is no finding
    own_seeds = {int(row["seed"]) for row in part}
    machines = {str(row["device_name"]) for row in ok}
    versus = {
        other: held
        for other in (REFERENCE, SECOND)
        if paired
        and label not in (other, CEILING)
        and (held := hold(scores, scores_of.get(other, {}), direction))
    }
    return Line(
        label=label,
        kind=kind,
        scores=scores,
        best=_spread(ok, "test_best"),
        interval=bootstrap_interval(scores.values()),
        last=_spread(ok, "test_last"),
        macro_f1=_spread(ok, "test_macro_f1"),
        further={
            column.removeprefix(FURTHER): spread
            for column in (map(str, ok[0]) if ok else ())
            if column.startswith(FURTHER) and (spread := _spread(ok, column))
        },
        gain=gain,
        paired=paired,
        closed=closed,
        versus=versus,
        agreement=_spread(ok, "agreement"),
        deployed=_median(ok, "deployed"),
        train_only=_median(ok, "train_only"),
        # seconds of different machines have no common median
        train_seconds=_median(ok, "train_seconds") if len(machines) == 1 else None,
        failed=sum(row["status"] in BROKEN for row in part),
        skipped=sum(row["status"] == "skipped" for row in part),
        planned=len(own_seeds if once else own_seeds | seeds),
        like_for_like=not any(row["not_like_for_like"] for row in part),
    )


def _against(
    scores: Mapping[int, float],
    reference: Mapping[int, float],
    teacher: float | None,
    direction: str,
    *,
    paired: bool,
) -> tuple[Gain | None, float | None]:
    """Return gain over the reference and share of the teacher gap, from the same runs."""
    common = scores.keys() & reference.keys()
    mine = {seed: scores[seed] for seed in common} if paired else scores
    theirs = {seed: reference[seed] for seed in common} if paired else reference
    if not mine or not theirs:
        return None, None
    own, base = mean_and_sd(mine.values()).mean, mean_and_sd(theirs.values()).mean
    if paired:
        gain = paired_gain(mine, theirs, direction)
    else:
        gain = Gain(improvement(own, base, direction), None, 0)
    return gain, None if teacher is None else gap_closed(own, base, teacher, direction)


def _by_seed(rows: Sequence[Row]) -> dict[int, float]:
    return {int(row["seed"]): float(row["test_best"]) for row in rows if row["status"] == "ok"}


def _values(numbers: Iterable[Any]) -> list[float]:
    return [float(number) for number in numbers if number is not None and not math.isnan(number)]


def _spread(rows: Sequence[Row], column: str) -> Spread | None:
    numbers = _values(row.get(column) for row in rows)
    return mean_and_sd(numbers) if numbers else None


def _median(rows: Sequence[Row], column: str) -> float | None:
    numbers = _values(row.get(column) for row in rows)
    return statistics.median(numbers) if numbers else None
