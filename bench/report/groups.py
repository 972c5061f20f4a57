"""Sections that share preset, source and device: what can be said across their tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import pandas as pd

from bench.across import Friedman, friedman, mean_ranks
from bench.report.sections import Line, Section
from bench.stats import improvement

# A teacher closer than this to the plain student leaves distillation nothing to transfer: one
# point of a metric shown in percent.
WORTHWHILE_GAP = 0.01


@dataclass(frozen=True)
class Group:
    """All sections of one origin, preset, source and device, one a task.

    Attributes:
        sections: ordered by task.
    """

    sections: Sequence[Section]

    @property
    def where(self) -> str:
        """Return preset, source, device (and whose results these are) in words."""
        return self.sections[0].where

    @property
    def slug(self) -> str:
        """Return a name for files."""
        return self.sections[0].place_slug

    @cached_property
    def labels(self) -> list[str]:
        """Return the trained students that finished every seed of every task, by name."""
        found = [{line.label for line in section.lines if line.ranked} for section in self.sections]
        return sorted(set.intersection(*found)) if found else []

    @cached_property
    def left_out(self) -> list[str]:
        """Return the trained students that lack a seed or a task, by name."""
        return sorted(self._students - set(self.labels) - set(self.set_apart))

    @cached_property
    def set_apart(self) -> list[str]:
        """Return the trained students that are not ranked as they had more than the others."""
        apart = {x.label for s in self.sections for x in s.lines if not x.on_same_terms}
        return sorted(self._students & apart)

    @property
    def _students(self) -> set[str]:
        return {line.label for s in self.sections for line in s.lines if line.trained_student}

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Return mean scores, a row a task and a column a method; larger is better."""
        return pd.DataFrame(
            {
                label: [improvement(self._mean(label, s), 0.0, s.direction) for s in self.sections]
                for label in self.labels
            },
            index=[section.task for section in self.sections],
        )

    @cached_property
    def ranks(self) -> pd.Series:
        """Return mean ranks, best first."""
        ranks = mean_ranks(self.scores)
        return ranks.iloc[np.lexsort((ranks.index.to_numpy(dtype=str), ranks.to_numpy()))]

    @cached_property
    def friedman(self) -> Friedman | None:
        """Return the test of no difference between methods; None with too little to test."""
        return friedman(self.scores)

    @cached_property
    def with_gap(self) -> list[Section]:
        """Return the sections whose teacher leads the plain student by a point or more."""
        return [s for s in self.sections if _gap(s) >= WORTHWHILE_GAP]

    def runs(self, label: str) -> list[np.ndarray]:
        """Return the scores of every run, one array a task; larger is better."""
        return [
            np.array([improvement(v, 0.0, s.direction) for _, v in sorted(found.scores.items())])
            for s, found in ((s, self._line(label, s)) for s in self.sections)
        ]

    def closed(self, label: str) -> list[np.ndarray]:
        """Return the share of the teacher gap of every run, one array for each task with a gap.

        0 is the mean of the plain student, 1 the teacher.
        """
        made = []
        for section in self.with_gap:
            base, gap = _base(section), _gap(section)
            line = self._line(label, section)
            shares = [
                improvement(score, base, section.direction) / gap
                for _, score in sorted(line.scores.items())
            ]
            made.append(np.array(shares))
        return made

    def _line(self, label: str, section: Section) -> Line:
        return next(line for line in section.lines if line.label == label)

    def _mean(self, label: str, section: Section) -> float:
        best = self._line(label, section).best
        assert best is not None
        return best.mean


def _base(section: Section) -> float:
    reference = section.reference
    assert reference is not None and reference.best is not None
    return reference.best.mean


def _gap(section: Section) -> float:
    reference = section.reference
    if reference is None or reference.best is None or section.teacher is None:
        return 0.0
    return improvement(section.teacher, reference.best.mean, section.direction)


def groups(sections: Sequence[Section]) -> list[Group]:
    """Return the sections in groups, in their order; a task stands once in each."""
    return [
        Group(list(found))
        for _, found in groupby(sections, lambda s: (s.origin, s.preset, s.source, s.device))
    ]
