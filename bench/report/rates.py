"""One task at several learning rates: every method at the rate that suits it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import pandas as pd

from bench.report.lines import Line, Row
from bench.report.roles import REFERENCE
from bench.report.sections import Section, section_of
from bench.stats import DIGITS, improvement

SETTING = "recipe.learning_rate="


@dataclass(frozen=True)
class Rates:
    """Sections that differ in nothing but the learning rate.

    Attributes:
        sections: by rate, lowest first; no rate twice.
    """

    sections: tuple[Section, ...]

    @property
    def settings(self) -> list[str]:
        """Return the changed settings, except the rate."""
        return _but_the_rate(self.sections[0])

    @cached_property
    def labels(self) -> list[str]:
        """Return the trained students, by name, those that failed among them."""
        return sorted({x.label for s in self.sections for x in s.lines if x.trained_student})

    @property
    def further(self) -> list[str]:
        """Return the held-out splits beside the official test that were scored at every rate."""
        first, *others = (section.further for section in self.sections)
        return [split for split in first if all(split in other for other in others)]

    @cached_property
    def chosen(self) -> dict[str, tuple[Section, Line]]:
        """Return the section and line where each label's mean validation score is best.

        A label that lacks a rate, or a seed at one of them, is left out: a choice from fewer is not
        the same choice; so is one that finished at a rate without a validation score.  A rate at
        which a run of it failed is not chosen.
        """
        found = {label: self._choose(label) for label in self.labels}
        return {label: best for label, best in found.items() if best is not None}

    @property
    def without(self) -> list[str]:
        """Return the labels that have no choice, by name."""
        return [label for label in self.labels if label not in self.chosen]

    def _choose(self, label: str) -> tuple[Section, Line] | None:
        rows = [section.rows.get(label, ()) for section in self.sections]
        if len({frozenset(int(row["seed"]) for row in each) for each in rows}) > 1:
            return None
        found = []
        for section, each in zip(self.sections, rows, strict=True):
            line, score = section.line(label), _validation(each)
            if line is None or any(row["status"] != "ok" for row in each):
                continue
            if score is None:  # imported without one: a choice from fewer rates
                return None
            better = round(improvement(score, 0.0, section.direction), DIGITS)
            found.append((better, section, line))
        if not found:
            return None
        _, best, line = max(found, key=lambda each: each[0])  # the lowest rate of equals
        return best, line

    @cached_property
    def own(self) -> Section | None:
        """Return a section in which each method stands at its own rate.

        Labels without a choice are not in it, but for those that finished nowhere: they failed at
        every rate.  What trains no student is the same at every rate and comes from the first
        section where it finished.  ``None`` where the plain student, or
        every other one, has no choice: there would be nothing to compare.
        """
        if REFERENCE not in self.chosen or len(self.chosen) < 2:
            return None
        source = {label: section for label, (section, _) in self.chosen.items()}
        for section in self.sections:
            for line in section.lines:
                if line.label not in self.labels and line.best:
                    source.setdefault(line.label, section)
        finished = {x.label for section in self.sections for x in section.lines if x.best}
        for section in self.sections:
            for label in sorted(section.rows.keys() - finished):
                source.setdefault(label, section)
        parts = [section.cells[section.cells.label == name] for name, section in source.items()]
        changed = [*self.settings, f"{SETTING}own"]
        preset = "+".join([self.sections[0].base_preset, *changed])
        return section_of(pd.concat(parts, ignore_index=True).assign(preset=preset))


def rate_families(sections: Sequence[Section]) -> list[Rates]:
    """Return the tasks that were run at two learning rates or more, all else alike.

    Where one rate occurs twice (``0.4`` and ``4e-1``, or the preset's own spelt out) it is unclear
    which is meant, and there is no family.
    """
    alike: dict[tuple[str, ...], list[tuple[float, Section]]] = {}
    for section in sections:
        if section.learning_rate is not None:
            where = (section.origin, section.base_preset, section.source, section.device)
            place = (*where, section.task, section.metric, *_but_the_rate(section))
            alike.setdefault(place, []).append((section.learning_rate, section))
    families = [sorted(found, key=lambda each: each[0]) for found in alike.values()]
    return [
        Rates(tuple(section for _, section in found))
        for found in families
        if len(found) > 1 and len({rate for rate, _ in found}) == len(found)
    ]


def _but_the_rate(section: Section) -> list[str]:
    return [each for each in section.settings if not each.startswith(SETTING)]


def at_own_rates(sections: Sequence[Section], families: Sequence[Rates]) -> list[Section]:
    """Return ``sections`` with one in the place of those that differ in the rate alone.

    In that one each method stands at its own rate (:meth:`Rates.own`).
    """
    instead: dict[int, Section | None] = {}
    for rates in families:
        own = rates.own
        if own is not None:
            instead |= {id(section): None for section in rates.sections}
            instead[id(rates.sections[0])] = own
    found = (instead.get(id(section), section) for section in sections)
    return [section for section in found if section is not None]


def _validation(rows: Sequence[Row]) -> float | None:
    """Return the mean validation score of finished runs, ``None`` where one of them has none."""
    scores = [row["validation_best"] for row in rows]
    known = [float(score) for score in scores if score is not None and not math.isnan(score)]
    return fmean(known) if known and len(known) == len(scores) else None
