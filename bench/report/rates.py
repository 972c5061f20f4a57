"""One task at several learning rates: every method at the rate that suits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import pandas as pd

from bench.report.sections import Line, Section, section_of
from bench.stats import improvement

SETTING = "recipe.learning_rate="


@dataclass(frozen=True)
class Rates:
    """Sections that differ in nothing but the learning rate.

    Attributes:
        sections: by rate, lowest first.
    """

    sections: tuple[Section, ...]

    @property
    def preset(self) -> str:
        """Return the preset with all settings but the rate, as sections call it."""
        return "+".join([self.sections[0].base_preset, *self.settings])

    @property
    def settings(self) -> list[str]:
        """Return the changed settings, the rate apart."""
        return [each for each in self.sections[0].settings if not each.startswith(SETTING)]

    @cached_property
    def labels(self) -> list[str]:
        """Return the trained students, by name."""
        return sorted(
            {x.label for s in self.sections for x in s.lines if x.best and x.trained_student}
        )

    def chosen(self, label: str) -> tuple[Section, Line] | None:
        """Return where the validation score of ``label`` is best, its seeds averaged.

        ``None`` where it lacks a rate or a seed: a choice from fewer is not the same choice.
        """
        found = []
        for section in self.sections:
            line, score = section.line(label), _validation(section, label)
            if line is None or not line.complete or score is None:
                return None
            found.append((improvement(score, 0.0, section.direction), section, line))
        # the lowest of equals
        _, section, line = max(found, key=lambda each: each[0])
        return section, line

    def own(self) -> Section | None:
        """Return a section in which each method stands at its own rate.

        What trains no student is the same at every rate and comes from the first section that has
        it.  ``None`` where no method has a rate of its own.
        """
        chosen = {label: self.chosen(label) for label in self.labels}
        if not any(chosen.values()):
            return None
        parts = [
            found[0].cells[found[0].cells.label == label]
            for label, found in chosen.items()
            if found
        ]
        taken = set(chosen)
        for section in self.sections:
            others = section.cells[~section.cells.label.isin(taken)]
            taken |= set(others.label)
            parts.append(others)
        cells = pd.concat(parts, ignore_index=True)
        return section_of(cells.assign(preset=f"{self.preset}+{SETTING}own"))


def rate_families(sections: Sequence[Section]) -> list[Rates]:
    """Return the tasks that were run at two learning rates or more, all else alike."""
    alike: dict[tuple[str, ...], dict[float, Section]] = {}
    for section in sections:
        rate = section.learning_rate
        if rate is None:
            continue
        others = [each for each in section.settings if not each.startswith(SETTING)]
        where = (section.origin, section.base_preset, section.source, section.device)
        place = (*where, section.task, section.metric, *others)
        alike.setdefault(place, {}).setdefault(rate, section)
    return [
        Rates(tuple(found[rate] for rate in sorted(found)))
        for found in alike.values()
        if len(found) > 1
    ]


def at_own_rates(sections: Sequence[Section]) -> list[Section]:
    """Return ``sections`` with one in the place of those that differ in the rate alone.

    In that one each method stands at its own rate (:meth:`Rates.own`).
    """
    instead: dict[int, Section | None] = {}
    for rates in rate_families(sections):
        own = rates.own()
        if own is not None:
            instead |= {id(section): None for section in rates.sections}
            instead[id(rates.sections[0])] = own
    found = (instead.get(id(section), section) for section in sections)
    return [section for section in found if section is not None]


def _validation(section: Section, label: str) -> float | None:
    """Return the mean validation score of a row's finished seeds, ``None`` where one has none."""
    rows = [row for row in section.rows.get(label, ()) if row["status"] == "ok"]
    scores = [row["validation_best"] for row in rows]
    known = [float(score) for score in scores if score is not None and score == score]
    return fmean(known) if known and len(known) == len(scores) else None
