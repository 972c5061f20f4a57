"""Plain sentences on what the numbers of a section do not show."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.report.groups import WORTHWHILE_GAP
from bench.report.lines import Line
from bench.report.record_row import shown
from bench.report.roles import CEILING, MARK, REFERENCE
from bench.report.sections import Section, distinct
from bench.report.text import gain, metric_name, number, scale
from bench.stats import SEEDS_FOR_TEST, improvement


def remarks(section: Section) -> list[str]:
    """Return what a reader must know before believing the section's order, one sentence each."""
    return [
        *_gap(section),
        *_settings(section),
        *_versions(section),
        *_shared(section),
        *_copies(section),
        *_without_parameters(section),
        *_noise(section),
        *_leader(section),
        *terms(section),
        *_cut(section),
    ]


def terms(section: Section) -> list[str]:
    """Return why rows are not on the terms of all, one sentence each."""
    return [*_oracles(section), *_set_apart(section)]


def _set_apart(section: Section) -> list[str]:
    """Return why methods are not like for like, with the score and cost of their own teachers."""
    cells = section.cells
    percent = " %" if scale(section.metric) == 100.0 else ""
    told = []
    for reason, same in cells[cells.not_like_for_like != ""].groupby("not_like_for_like"):
        labels = ", ".join(name.removesuffix(f" {MARK}") for name in distinct(same.label))
        sentence = f"{MARK} {labels}: not like for like and never bold, as it {reason}"
        own = same.dropna(subset=["own_teacher_score", "own_teacher_seconds"])
        found = sorted(set(zip(own.own_teacher_score, own.own_teacher_seconds, strict=True)))
        if found:
            listed = "; ".join(
                f"{number(score, section.metric)}{percent} in {seconds:,.0f} s"
                for score, seconds in found
            )
            sentence += f" (teacher's test {metric_name(section.metric)} and training: {listed})"
        told.append(f"{sentence}.")
    return told


def _cut(section: Section) -> list[str]:
    """Return sentences on results whose batches were cut into parts as memory ran out."""
    finished = section.cells[section.cells.status == "ok"]
    cut = finished[finished.micro_batches > 1]
    taught = finished[finished.taught_in_parts.astype(bool)]
    who = {
        "": sorted(f"{row.label} (seed {row.seed})" for row in cut.itertuples()),
        "the teacher or generator of ": distinct(taught.label),
    }
    return [
        f"Memory ran out for {what}{', '.join(names)}: trained with each batch cut into parts, "
        "the same effective batch, but batch statistics of the parts."
        for what, names in who.items()
        if names
    ]


def _gap(section: Section) -> list[str]:
    reference = section.reference
    if reference is None or reference.best is None:
        return [
            f"No finished {REFERENCE} run here, so neither gains nor the gap closed can be given."
        ]
    if section.teacher is None:
        return ["No teacher score is recorded here, so the gap closed cannot be given."]
    lead = improvement(section.teacher, reference.best.mean, section.direction)
    if lead >= WORTHWHILE_GAP:
        return []
    if lead < 0:
        how = "does not beat the plain student here"
    else:
        how = "hardly beats the plain student here"
    by = number(lead, section.metric, signed=True)
    points = " points" if scale(section.metric) == 100.0 else ""
    return [f"The teacher {how} ({by}{points}), so this table says little about distillation."]


def _shared(section: Section) -> list[str]:
    """Return a sentence on the rows that were run with settings which do not concern them."""
    borrowed = section.cells[section.cells.shared_from != ""]
    return [
        f"{', '.join(distinct(same.label))}: the runs of preset {preset}, as nothing that differs "
        "concerns them."
        for preset, same in borrowed.groupby("shared_from")
    ]


def _copies(section: Section) -> list[str]:
    """Return a sentence on the rows of each copy of a teacher that was trained more than once.

    Another kind of processor gives other weights, so the rows differ by more than the method.
    """
    cells = section.cells
    taught = cells[
        (cells.status == "ok") & (cells.teacher_copy != "") & cells.teacher_score.notna()
    ]
    percent = " %" if scale(section.metric) == 100.0 else ""
    told = []
    for _, same in taught.groupby(["teacher_name", "teacher_seed"], dropna=False):
        copies = same.teacher_copy.value_counts()
        if len(copies) == 1:
            continue
        groups = []
        for copy in sorted(copies.index, key=lambda copy: (-copies[copy], copy)):
            theirs = same[same.teacher_copy == copy]
            score = number(float(theirs.teacher_score.iloc[0]), section.metric)
            rows = "most rows" if 2 * len(theirs) > len(same) else _with_seeds(theirs, same)
            groups.append(f"{rows} had one that scores {score}{percent}")
        told.append(
            f"The teacher was trained {len(groups)} times: {'; '.join(groups)}. A difference "
            "between rows of two copies is not the methods' alone."
        )
    return told


def _with_seeds(cells: pd.DataFrame, among: pd.DataFrame) -> str:
    """Return the labels of ``cells``, each with its seeds unless it has all it has ``among``."""
    named = []
    for label, part in cells.groupby("label"):
        if len(part) == int((among.label == label).sum()):
            named.append(str(label))
        else:
            seeds = ", ".join(str(seed) for seed in sorted(part.seed))
            named.append(
                f"{label} (seed {seeds})" if len(part) == 1 else f"{label} (seeds {seeds})"
            )
    return ", ".join(named)


def _settings(section: Section) -> list[str]:
    """Return a sentence on settings and data that differ although the preset's name is the same.

    That happens when a preset or a mirror is changed and only some methods are run again.
    """
    ok = section.cells[section.cells.status == "ok"]
    names = sorted({name for settings in ok.settings for name in settings})
    columns = {
        shown(name): ok.settings.map(lambda each, name=name: each.get(name)) for name in names
    }
    columns["the data's fingerprint"] = ok.fingerprint.replace("", None).str[:12]
    told = []
    for name, values in columns.items():
        known = values.dropna()  # a record from before a setting says nothing of it
        if known.nunique() > 1:
            rows = [
                f"{shown(str(value))} ({_with_seeds(ok.loc[same.index], ok)})"
                for value, same in known.groupby(known)
            ]
            told.append(f"{name} is {' and '.join(rows)}")
    if not told:
        return []
    return [
        f"Not all rows were run alike: {'; '.join(told)}. A difference between them is not the "
        "methods' alone."
    ]


def _versions(section: Section) -> list[str]:
    """Return a sentence on rows whose seeds ran different code or options of a method."""
    ok = section.cells[section.cells.status == "ok"]
    mixed = []
    for label, row in ok.groupby("label"):
        if row.version.nunique() > 1:
            runs = [
                ", ".join(str(seed) for seed in sorted(same.seed))
                for _, same in sorted(row.groupby("version"), key=lambda each: min(each[1].seed))
            ]
            mixed.append(f"{label} (seeds {' and '.join(runs)})")
    if not mixed:
        return []
    return [
        f"Not one method: the code or the default options changed between seeds of "
        f"{'; '.join(mixed)}. Run the older ones again."
    ]


def _without_parameters(section: Section) -> list[str]:
    if section.origin:  # of others' baselines it is not known what they are
        return []
    students = [
        line for line in section.lines if line.best and line.trained_student and line.on_same_terms
    ]
    simple = [
        line
        for line in section.lines
        if line.best and line.method != CEILING and not line.trained_student
    ]
    if not students or not simple:
        return []
    ours, theirs = students[0], simple[0]
    assert ours.best is not None
    assert theirs.best is not None
    if improvement(theirs.best.mean, ours.best.mean, section.direction) <= 0:
        return []
    metric = section.metric
    return [
        f"{theirs.label}, which is no neural network, scores "
        f"{number(theirs.best.mean, metric)} and beats the best trained student, "
        f"{ours.label} with {number(ours.best.mean, metric)}."
    ]


def _noise(section: Section) -> list[str]:
    gains = [line for line in section.contenders if line.gain is not None]
    if not gains:
        return []
    if all(line.gain is None or line.gain.sd is None for line in gains):
        return ["One common seed only: no spread is known, so small differences mean nothing."]
    tested = [line.versus[REFERENCE] for line in gains if REFERENCE in line.versus]
    if any(held.adjusted is not None for held in tested):
        if any(held.significant and held.gain.mean > 0 for held in tested):
            return []
        return [
            f"No distillation method beats {REFERENCE} significantly (paired t-test, Holm, 5 %)."
        ]
    few = f"{_seeds(gains)}: too few for tests ({SEEDS_FOR_TEST} are needed)"
    few += "." if section.winners or _leader(section) else ", so nothing is set in bold."
    for line in gains:
        assert line.gain is not None
        if line.gain.sd is not None and line.gain.mean > line.gain.sd:
            return [few]
    best = max(gains, key=lambda line: line.gain.mean if line.gain else 0.0)
    return [
        few,
        f"No distillation method beats {REFERENCE} by more than the standard deviation of its "
        f"paired differences (the highest, {best.label}: {gain(best.gain, section.metric)}).",
    ]


def _leader(section: Section) -> list[str]:
    """Return a sentence where the best mean is one of fewer seeds than others have."""
    leading = section.leader
    tested = any(line.ranked and line.ok >= SEEDS_FOR_TEST for line in section.lines)
    if leading is None or leading.complete or not tested:
        return []
    return [
        f"{leading.label} leads on {leading.ok} of {leading.planned} seeds, so nothing is set in "
        "bold."
    ]


def _oracles(section: Section) -> list[str]:
    return [
        f"{line.label} is given finer true labels that no other method has: a bound, not "
        "a contender."
        for line in section.lines
        if line.kind == "oracle"
    ]


def _seeds(gains: Sequence[Line]) -> str:
    """Return in words how many seeds the rows have in common with the reference."""
    most = max(line.gain.pairs for line in gains if line.gain)
    return f"{most} seeds" if most != 1 else "One seed"
