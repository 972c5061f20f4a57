"""Comparison of two result sets: what changed beyond noise.

Cells are paired by task, preset, source, origin, method and seed, on each device that both sets
have.  Where they share none they are paired across devices, since comparing machines is one use of
this; both are named.  What a device has in one set only is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from bench.report import text
from bench.report.content import Context, Table, Value
from bench.report.lines import Line, Versus, hold
from bench.report.sections import Section, distinct
from bench.stats import SEEDS_FOR_TEST, holm

Verdict = Literal[
    "same",
    "within noise",
    "better",
    "worse",
    "too few seeds",
    "failing",
    "fixed",
    "only A",
    "only B",
    "no common seeds",
    "seeds gone",
]
BAD = frozenset({"worse", "failing", "only A", "no common seeds", "seeds gone"})


@dataclass(frozen=True)
class Change:
    """The change of one method on one task from A to B.

    Attributes:
        where: task, preset, source and device (and whose results they are) in words.
        label: the method.
        metric: of the scores.
        a: the line in A; None when it is only in B.
        b: the line in B; None when it is only in A.
        held: B against A on the common seeds, positive is better.
        verdict: in one or two words.
    """

    where: str
    label: str
    metric: str
    a: Line | None
    b: Line | None
    held: Versus | None
    verdict: Verdict = "same"


@dataclass(frozen=True)
class Comparison:
    """All changes, and how the two sets differ in where they come from.

    Attributes:
        changes: in the order of A's tables, then what is only in B.
        settings: name, values in A, values in B, where these differ.
    """

    changes: tuple[Change, ...]
    settings: tuple[tuple[str, str, str], ...]

    @property
    def worse(self) -> tuple[Change, ...]:
        """Return the changes that should stop a release."""
        return tuple(change for change in self.changes if change.verdict in BAD)


def compare(a: Context, b: Context, tolerance: float | None = None) -> Comparison:
    """Compare ``b`` with ``a``.

    Args:
        a: the older set, or the standard.
        b: the newer one.
        tolerance: in points (in the metric's own unit where it is not a share): a mean that fell by
            more counts as worse however few the seeds are, and one that fell by less as noise
            where there are too few to test.
    """
    changes = list(_pairs(a, b))
    raw = {
        str(at): change.held.p
        for at, change in enumerate(changes)
        if change.held is not None and change.held.p is not None
    }
    adjusted = holm(raw)
    judged = []
    for at, change in enumerate(changes):
        if change.held is not None and str(at) in adjusted:
            change = replace(change, held=replace(change.held, adjusted=adjusted[str(at)]))
        judged.append(replace(change, verdict=_verdict(change, tolerance)))
    return Comparison(tuple(judged), tuple(_settings(a, b)))


Found = tuple[Section, Line]


def _lines(context: Context) -> dict[tuple[str, ...], dict[str, Found]]:
    """Return lines by their pairing key, each by device in the order of the tables."""
    found: dict[tuple[str, ...], dict[str, Found]] = {}
    for section in context.sections:
        what = (section.task, section.metric, section.direction)
        key = (*what, section.preset, section.source, section.origin)
        for line in section.lines:
            found.setdefault((*key, line.label), {})[section.device] = (section, line)
    return found


def _pairs(a: Context, b: Context) -> Iterator[Change]:
    ours, theirs = _lines(a), _lines(b)
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        for one, other in _on_devices(ours.get(key, {}), theirs.get(key, {})):
            yield _change(one, other)


def _on_devices(
    ours: Mapping[str, Found], theirs: Mapping[str, Found]
) -> Iterator[tuple[Found | None, Found | None]]:
    """Yield one pair per device that both have; where there is none, the first of each is a pair.

    The rest, on other devices, has no partner.
    """
    pairs = [(device, device) for device in ours if device in theirs]
    if not pairs:
        pairs = list(zip(list(ours)[:1], list(theirs)[:1], strict=False))
    for one, other in pairs:
        yield ours[one], theirs[other]
    for device in ours:
        if device not in {one for one, _ in pairs}:
            yield ours[device], None
    for device in theirs:
        if device not in {other for _, other in pairs}:
            yield None, theirs[device]


def _change(one: Found | None, other: Found | None) -> Change:
    found = [each for each in (one, other) if each is not None]
    section, line = found[0]
    a, b = (each[1] if each else None for each in (one, other))
    devices = " and ".join(dict.fromkeys(each.device for each, _ in found))
    whose = f", external: {section.origin}" if section.origin else ""
    where = f"{section.task}, preset {section.told_preset}, {section.source} data, {devices}{whose}"
    held = hold(b.scores, a.scores, section.direction) if a and b else None
    return Change(where, line.label, section.metric, a, b, held)


def _verdict(change: Change, tolerance: float | None) -> Verdict:
    a, b, held = change.a, change.b, change.held
    if a is None:
        return "only B"
    if b is None:
        return "only A"
    if b.ok < a.ok and b.failed > a.failed:
        return "failing"
    if held is None:
        return _unpaired(a, b)
    if a.scores == b.scores:
        return "same"
    judged = _judged(held, change.metric, tolerance)
    if judged not in BAD and a.scores.keys() - b.scores.keys():
        return "seeds gone"
    fixed = a.failed > b.failed and b.ok > a.ok
    return "fixed" if fixed and judged not in BAD else judged


def _unpaired(a: Line, b: Line) -> Verdict:
    """Return the verdict on a line whose sets have no finished seed in common."""
    if a.ok and b.ok:
        return "no common seeds"
    return "fixed" if b.ok else "only A" if a.ok else "same"


def _judged(held: Versus, metric: str, tolerance: float | None) -> Verdict:
    """Return the verdict of the common seeds' scores."""
    points = held.gain.mean * text.scale(metric)
    if tolerance is not None and points < -tolerance - 1e-9:  # a fall of just so much is allowed
        return "worse"
    if held.adjusted is None:
        return "too few seeds" if tolerance is None else "within noise"
    if not held.significant:
        return "within noise"
    return "better" if held.gain.mean > 0 else "worse"


def _settings(a: Context, b: Context) -> Iterator[tuple[str, str, str]]:
    columns = ("revision", "device", "device_name", "torch", "fingerprint", "teacher_name")
    for column in columns:
        one, other = (", ".join(distinct(context.frame[column])) for context in (a, b))
        if one != other:
            yield column.replace("_", " "), one or "unknown", other or "unknown"
    one_versions, other_versions = _versions(a), _versions(b)
    for name in sorted(one_versions.keys() | other_versions.keys()):
        pair = one_versions.get(name, "none"), other_versions.get(name, "none")
        if pair[0] != pair[1]:
            yield name, *pair


def _versions(context: Context) -> dict[str, str]:
    """Return the versions of libraries and the threads used, all values of a set joined."""
    told = {"revision", "device", "device_name", "torch"}
    found: dict[str, set[str]] = {}
    for record in context.records:
        environment: Mapping[str, Any] = record.get("environment") or {}
        for name, value in environment.items():
            if name not in told:
                found.setdefault(str(name), set()).add(str(value))
    return {name: ", ".join(sorted(values)) for name, values in found.items()}


def change_table(comparison: Comparison) -> Table:
    """Return all changes as a table."""
    head = ["task", "method", "A", "B", "B over A", "95 % interval", "p (Holm)", "verdict"]
    rows = [
        [
            Value(change.where),
            Value(change.label),
            Value(_score(change.a, change.metric)),
            Value(_score(change.b, change.metric)),
            Value(text.gain(change.held.gain, change.metric) if change.held else text.NOTHING),
            Value(
                text.interval(change.held.interval, change.metric, signed=True)
                if change.held
                else text.NOTHING
            ),
            Value(_p(change.held)),
            Value(change.verdict, bold=change.verdict in BAD),
        ]
        for change in comparison.changes
    ]
    return Table("compare", head, rows, left=2)


def _score(line: Line | None, metric: str) -> str:
    if line is None:
        return "not there"
    return text.spread(line.best, metric) if line.best else "failed" if line.failed else "skipped"


def _p(held: Versus | None) -> str:
    if held is None:
        return text.NOTHING
    if held.adjusted is None:
        return f"{held.gain.pairs} of {SEEDS_FOR_TEST} seeds"
    return text.p_value(held.adjusted)
