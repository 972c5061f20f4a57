"""The frame cut into like-with-like sections, each with one summary line a method.

Tables and figures both read these, so the two can never disagree about a number.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.failures import BROKEN
from bench.report.frame import CEILING, FURTHER, REFERENCE
from bench.stats import Gain, Spread, gap_closed, improvement, mean_and_sd, paired_gain

# What must agree before two numbers may stand in one table.
SECTION = ["task", "preset", "source", "device", "metric"]


@dataclass(frozen=True)
class Line:
    """One method of a section over its seeds; scores in the metric's unit.

    Attributes:
        scores: test score of each finished seed, at the epoch that validation chose.
        gain: over the reference, positive is better; None without a reference.
        paired: whether the gain was taken seed by seed, or between two means.
        closed: share of the teacher gap, None where there is no gap.
        further: spread on further held-out splits, by split name.
        failed: seeds that ended without a result, in whatever way.
        planned: seeds this method should have; ``ok + failed + skipped`` may be fewer.
    """

    label: str
    kind: str
    scores: dict[int, float]
    best: Spread | None
    last: Spread | None
    macro_f1: Spread | None
    further: dict[str, Spread]
    gain: Gain | None
    paired: bool
    closed: float | None
    deployed: float | None
    train_only: float | None
    train_seconds: float | None
    failed: int
    skipped: int
    planned: int

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


@dataclass(frozen=True)
class Section:
    """All cells of one task, preset, source and device.

    Attributes:
        lines: best mean first; methods without any finished seed come last, by name.
        teacher: the teacher's mean test score: of its own row, else as the methods recorded it.
        cells: the rows of the frame this was made from.
    """

    task: str
    title: str
    preset: str
    source: str
    device: str
    metric: str
    direction: str
    lines: list[Line]
    teacher: float | None
    cells: pd.DataFrame

    def line(self, label: str) -> Line | None:
        """Return the finished line called ``label``, or None."""
        return next((line for line in self.lines if line.label == label and line.best), None)

    @property
    def reference(self) -> Line | None:
        """The line every gain is measured against."""
        return self.line(REFERENCE)

    @property
    def contenders(self) -> list[Line]:
        """Finished distillation methods (no baselines), best mean first."""
        return [line for line in self.lines if line.kind == "method" and line.best]


def sections(frame: pd.DataFrame) -> list[Section]:
    """Cut ``frame`` into sections, ordered by preset, source, device and task."""
    if frame.empty:
        return []
    made = [_section(part) for _, part in frame.groupby(SECTION, sort=True, dropna=False)]
    return sorted(made, key=lambda s: (s.preset, s.source, s.device, s.task, s.metric))


def distinct(values: Iterable[Any]) -> list[str]:
    """Return the different non-empty values as sorted strings."""
    return sorted({str(value) for value in values if not pd.isna(value) and str(value)})


def _section(cells: pd.DataFrame) -> Section:
    newest = cells.sort_values(["finished", "key"]).iloc[-1]
    finished = cells[cells.status == "ok"]
    direction = str(newest.direction)
    scores = {label: _by_seed(part, "test_best") for label, part in finished.groupby("label")}
    teacher = list(scores.get(CEILING, {}).values())
    if not teacher:
        teacher = _values(finished.drop_duplicates(["teacher_name", "teacher_score"]).teacher_score)
    ceiling = mean_and_sd(teacher).mean if teacher else None
    # Which seeds were meant to run is read off the methods; only a baseline may have just one.
    compared = cells[(cells.kind == "method") | (cells.label == REFERENCE)]
    seeds = set(compared.seed)
    lines = [
        _line(part, seeds, scores.get(REFERENCE, {}), ceiling, direction)
        for _, part in cells.groupby("label", sort=True)
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
        metric=str(newest.metric),
        direction=direction,
        lines=sorted(lines, key=place),
        teacher=ceiling,
        cells=cells,
    )


def _line(
    part: pd.DataFrame,
    seeds: set[int],
    reference: dict[int, float],
    teacher: float | None,
    direction: str,
) -> Line:
    ok = part[part.status == "ok"]
    label, kind = str(part.label.iloc[0]), str(part.kind.iloc[0])
    scores = _by_seed(ok, "test_best")
    # A baseline run once (the teacher, a model without seeds) shares no seed's luck with the
    # reference, so it is held against the reference's mean rather than one seed of it.
    once = kind == "baseline" and label != REFERENCE and len(part) == 1
    paired = not (once and len(reference) > 1)
    gain, closed = _against(scores, reference, teacher, direction, paired=paired)
    if label == REFERENCE:
        gain, closed = None, None  # a difference of zero to itself is no finding
    own_seeds = set(part.seed)
    return Line(
        label=label,
        kind=kind,
        scores=scores,
        best=_spread(ok.test_best),
        last=_spread(ok.test_last),
        macro_f1=_spread(ok.test_macro_f1) if "test_macro_f1" in ok else None,
        further={
            column.removeprefix(FURTHER): spread
            for column in map(str, ok.columns)
            if column.startswith(FURTHER) and (spread := _spread(ok[column]))
        },
        gain=gain,
        paired=paired,
        closed=closed,
        deployed=_median(ok.deployed),
        train_only=_median(ok.train_only),
        # seconds of different machines have no common median
        train_seconds=_median(ok.train_seconds) if ok.device_name.nunique() == 1 else None,
        failed=int(part.status.isin(BROKEN).sum()),
        skipped=int((part.status == "skipped").sum()),
        planned=len(own_seeds if once else own_seeds | seeds),
    )


def _against(
    scores: dict[int, float],
    reference: dict[int, float],
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


def _by_seed(cells: pd.DataFrame, column: str) -> dict[int, float]:
    return {int(seed): float(value) for seed, value in zip(cells.seed, cells[column], strict=True)}


def _values(column: pd.Series) -> list[float]:
    return [float(value) for value in column if not pd.isna(value)]


def _spread(column: pd.Series) -> Spread | None:
    numbers = _values(column)
    return mean_and_sd(numbers) if numbers else None


def _median(column: pd.Series) -> float | None:
    numbers = _values(column)
    return statistics.median(numbers) if numbers else None
