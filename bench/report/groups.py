"""Sections that share preset, source and device: what can be said across their tasks.

There are two ways to group.  :func:`groups` joins sections that share every setting of the preset,
so that figures compare like with like; :func:`overall` also joins tables of one preset whose
settings were changed for a task (``small+epochs=4``), for gains side by side and for ranks, which
are taken within a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bench.across import Friedman, friedman, mean_ranks
from bench.report.lines import Line
from bench.report.names import file_name
from bench.report.rates import Rates, at_own_rates
from bench.report.sections import Section
from bench.report.text import metric_name, scale
from bench.stats import improvement, mean_and_sd

# A teacher closer than this to the plain student leaves distillation nothing to transfer: one
# point of a metric shown in percent.
WORTHWHILE_GAP = 0.01


@dataclass(frozen=True)
class Group:
    """Sections of one origin, preset, source and device.

    Attributes:
        sections: in the order of their columns.
        metric: their metric, where that sets this group apart; else empty.
        chosen: whether some of them stand for others of the same task.
    """

    sections: Sequence[Section]
    metric: str = ""
    chosen: bool = False

    @property
    def mixed(self) -> bool:
        """Whether settings of the preset were changed for some of the sections."""
        return len({section.preset for section in self.sections}) > 1

    @property
    def preset(self) -> str:
        """Return the preset; where settings are mixed, the one they all began with."""
        first = self.sections[0]
        return first.base_preset if self.mixed else first.preset

    @property
    def where(self) -> str:
        """Return preset, source, device (and whose results these are) in words."""
        first = self.sections[0]
        words = first.where_with(
            f"{self.preset}, settings by table" if self.mixed else first.told_preset
        )
        return f"{words}, {metric_name(self.metric)}" if self.metric else words

    @property
    def slug(self) -> str:
        """Return a name for files."""
        first = self.sections[0]
        return file_name(self.preset, first.source, first.device, first.origin, self.metric)

    def column(self, section: Section) -> str:
        """Return the column heading of ``section``: its task, and what tells it from others.

        Where a changed setting tells it from others, so does one that only they have changed.
        """
        same = [each for each in self.sections if each.task == section.task]
        shared = set.intersection(*(set(each.settings) for each in same))
        if shared.issuperset(section.settings):
            return told_apart(section, same, lambda each: [metric_name(each.metric)])
        names = {setting.partition("=")[0] for each in same for setting in each.settings}
        return told_apart(
            section, same, lambda each: [*each.spelt_out(names), metric_name(each.metric)]
        )

    @property
    def heading(self) -> str:
        """Return where it ran, as a heading."""
        return self.where[0].upper() + self.where[1:]

    @cached_property
    def gains(self) -> dict[str, dict[str, float]]:
        """Return gains over the plain student in points, by method and column.

        Rows that lack a seed are left out, and tasks whose metric is not a share: their gains have
        no common scale.
        """
        found: dict[str, dict[str, float]] = {}
        for section in self.sections:
            if scale(section.metric) != 100.0:
                continue
            for line in section.lines:
                if line.label in self.aside:
                    continue
                if line.gain is not None and line.trained_student and line.complete and line.paired:
                    found.setdefault(line.label, {})[self.column(section)] = 100 * line.gain.mean
        return found

    @cached_property
    def aside(self) -> list[str]:
        """Return the labels with options that are in only one of several tables, sorted.

        Where settings differ by table an overview cannot compare them, and there are many that
        tuning chose for one task.
        """
        if not self.mixed:
            return []
        found: dict[str, list[str]] = {}
        for section in self.sections:
            for label, rows in section.rows.items():
                found.setdefault(label, []).append(str(rows[0]["method"]))
        return sorted(
            label
            for label, methods in found.items()
            if len(methods) == 1 and label.startswith(f"{methods[0]} (")
        )

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
        """Return the trained students that are not ranked, as they had more than the others."""
        apart = {x.label for s in self.sections for x in s.lines if not x.on_same_terms}
        return sorted(self._students & apart)

    @property
    def _students(self) -> set[str]:
        return {line.label for s in self.sections for line in s.lines if line.trained_student}

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Return mean scores, one row per task and one column per method; larger is better."""
        return pd.DataFrame(
            {
                label: [improvement(self._mean(label, s), 0.0, s.direction) for s in self.sections]
                for label in self.labels
            },
            index=[self.column(section) for section in self.sections],
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
        return [s for s in self.sections if _gap(s, s.teacher) >= WORTHWHILE_GAP]

    def runs(self, label: str) -> list[np.ndarray]:
        """Return the scores of every run, one array per task; larger is better."""
        return [
            np.array([improvement(v, 0.0, s.direction) for _, v in sorted(found.scores.items())])
            for s, found in ((s, self._line(label, s)) for s in self.sections)
        ]

    def closed(self, label: str) -> list[np.ndarray]:
        """Return the share of the teacher gap of every run, one array for each task with a gap.

        0 is the mean of the plain student over the seeds that both have, 1 the table's teacher (the
        one of the row's teacher seed, where it names one).
        """
        made = []
        for section in self.with_gap:
            line, reference = self._line(label, section), section.reference
            assert reference is not None
            common = sorted(line.scores.keys() & reference.scores.keys())
            if not common or line.teacher is None:
                continue
            base = mean_and_sd([reference.scores[seed] for seed in common]).mean
            gap = improvement(line.teacher, base, section.direction)
            if gap < WORTHWHILE_GAP:  # of a second teacher, say
                continue
            shares = [
                improvement(line.scores[seed], base, section.direction) / gap for seed in common
            ]
            made.append(np.array(shares))
        return made

    def _line(self, label: str, section: Section) -> Line:
        line = section.any_line(label)
        assert line is not None
        return line

    def _mean(self, label: str, section: Section) -> float:
        best = self._line(label, section).best
        assert best is not None
        return best.mean


def _gap(section: Section, teacher: float | None) -> float:
    reference = section.reference
    if reference is None or reference.best is None or teacher is None:
        return 0.0
    return improvement(teacher, reference.best.mean, section.direction)


def told_apart(
    section: Section, sections: Sequence[Section], parts: Callable[[Section], Sequence[str]]
) -> str:
    """Return the task of ``section``, with those of its parts that not all of the task share.

    Args:
        section: one of ``sections``.
        sections: those it must be told from.
        parts: returns the names that can tell a section from others.
    """
    alike = [set(parts(each)) for each in sections if each.task == section.task]
    own = [part for part in parts(section) if part and part not in set.intersection(*alike)]
    return f"{section.task} ({', '.join(own)})" if own else section.task


def groups(sections: Sequence[Section]) -> list[Group]:
    """Return the sections in groups that share every setting; a task stands once in each."""
    return _by(sections, lambda s: (s.origin, s.preset, s.source, s.device))


def overall(sections: Sequence[Section], families: Sequence[Rates]) -> list[Group]:
    """Return the sections in groups of one preset, whatever was changed of it for a task.

    Tables that differ in the learning rate alone are one, with each method at its own rate.
    """
    shown = at_own_rates(sections, families)
    return _by(shown, lambda s: (s.origin, s.base_preset, s.source, s.device))


def comparable(group: Group) -> list[Group]:
    """Return ``group`` cut into groups over which ranks can be taken.

    Tasks with different metrics have different methods (retrieval is not classification), so each
    metric is a group of its own.  A task may have several tables (variants, settings), which are
    made from the same data: the one with the most ranked methods stands for it, the first of
    equals; scores play no part in that choice.
    """
    metrics = sorted({section.metric for section in group.sections})
    made = []
    for metric in metrics:
        there = [section for section in group.sections if section.metric == metric]
        found = _one_a_task(there)
        apart = metric if len(metrics) > 1 else ""
        made.append(Group(found, apart, chosen=len(found) < len(there)))
    return made


def _one_a_task(sections: Sequence[Section]) -> list[Section]:
    chosen: dict[str, Section] = {}
    for section in sections:
        name = section.task.partition(":")[0]
        there = chosen.get(name)
        if there is None or _ranked(section) > _ranked(there):
            chosen[name] = section
    return list(chosen.values())


def _ranked(section: Section) -> int:
    return sum(line.ranked for line in section.lines)


def _by(sections: Sequence[Section], place: Callable[[Section], tuple[str, ...]]) -> list[Group]:
    found: dict[tuple[str, ...], list[Section]] = {}
    for section in sections:
        found.setdefault(place(section), []).append(section)
    return [Group(each) for each in found.values()]
