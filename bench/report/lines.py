"""One method of a section over its seeds, compared with others."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.failures import BROKEN
from bench.report.record_row import FURTHER
from bench.report.roles import CEILING, REFERENCE, SECOND
from bench.stats import (
    LEVEL,
    Gain,
    Interval,
    Spread,
    bootstrap_interval,
    difference_interval,
    gap_closed,
    holm,
    improvement,
    mean_and_sd,
    paired_differences,
    paired_gain,
    paired_p,
)

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Versus:
    """A line compared with another one, seed by seed; positive is better.

    Attributes:
        gain: mean and standard deviation of the paired differences, in the metric's unit.
        interval: of the mean difference; None for a single pair.
        p: of the paired t-test, not adjusted; None with too few pairs.
        adjusted: after Holm's correction over all lines compared with the same one.
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
        teacher: mean score of the teacher that the gap is measured to; None where it is not known.
        versus: comparison with the plain student and with plain distillation, by their names.
        agreement: share of test samples on which student and teacher predict the same.
        further: spread on further held-out splits, by split name.
        failed: seeds that ended without a result, in whatever way.
        planned: seeds this method should have; ``ok + failed + skipped`` may be fewer.
        like_for_like: whether it may be compared with the others as it stands.
    """

    label: str
    method: str
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
    teacher: float | None
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
        """Whether this is a neural student: neither a teacher nor a model without parameters."""
        if self.method in (REFERENCE, CEILING):
            return self.method == REFERENCE
        return self.kind != "baseline" or self.deployed is not None

    @property
    def ranked(self) -> bool:
        """Whether it may be called best: a trained student, on the seeds and the terms of all."""
        return self.eligible and self.complete

    @property
    def eligible(self) -> bool:
        """Whether it could be called best if it had every seed."""
        run = self.trained_student and self.paired and self.best is not None
        return self.on_same_terms and run

    @property
    def on_same_terms(self) -> bool:
        """Whether it was given what all others were: no oracle, and like for like."""
        return self.like_for_like and self.kind != "oracle"


def hold(scores: Mapping[int, float], other: Mapping[int, float], direction: str) -> Versus | None:
    """Return the comparison of ``scores`` with ``other`` on common seeds; None without any."""
    gain = paired_gain(scores, other, direction)
    if gain is None:
        return None
    differences = paired_differences(scores, other, direction)
    return Versus(gain, difference_interval(differences), paired_p(differences))


def corrected(lines: Sequence[Line]) -> list[Line]:
    """Return ``lines`` with Holm's correction: one family per line they are compared with."""
    made = {line.label: dict(line.versus) for line in lines}
    for reference in (REFERENCE, SECOND):
        found = {label: versus[reference] for label, versus in made.items() if reference in versus}
        raw = {label: held.p for label, held in found.items() if held.p is not None}
        for label, adjusted in holm(raw).items():
            made[label][reference] = replace(found[label], adjusted=adjusted)
    return [replace(line, versus=made[line.label]) for line in lines]


def line_of(
    part: list[Row],
    seeds: set[int],
    scores_of: Mapping[str, Mapping[int, float]],
    teacher: float | None,
    direction: str,
) -> Line:
    """Return the line of one method.

    Args:
        part: its rows of the frame, one per seed.
        seeds: those that every trained row of the section should have.
        scores_of: score of each finished seed of every row of the section, by label.
        teacher: the teacher's mean score; None where it is not known.
        direction: ``"max"`` or ``"min"``.
    """
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
        and label != other
        and part[0]["method"] != CEILING
        and (held := hold(scores, scores_of.get(other, {}), direction))
    }
    return Line(
        label=label,
        method=str(part[0]["method"]),
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
        teacher=teacher,
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


def by_seed(rows: Sequence[Row]) -> dict[int, float]:
    """Return the test score of each finished seed."""
    return {int(row["seed"]): float(row["test_best"]) for row in rows if row["status"] == "ok"}


def present(numbers: Iterable[Any]) -> list[float]:
    """Return ``numbers`` without those that are missing (None or NaN)."""
    return [float(number) for number in numbers if number is not None and not math.isnan(number)]


def _spread(rows: Sequence[Row], column: str) -> Spread | None:
    numbers = present(row.get(column) for row in rows)
    return mean_and_sd(numbers) if numbers else None


def _median(rows: Sequence[Row], column: str) -> float | None:
    numbers = present(row.get(column) for row in rows)
    return statistics.median(numbers) if numbers else None
