"""Rows that belong to several tables, as what tells these apart does not concern them.

A teacher's training changes nothing of the plain student, so its cell is run once, under whichever
setting came first, and stands in the tables of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.report.presets import taken_apart

Row = Mapping[str, Any]

GENERATORS = ("generator=", "generator_recipe.", "variants=")
TEACHERS = ("teacher=", "teacher_recipe.", "teacher_checkpoint=", "frozen_teacher=", *GENERATORS)
# that of the encoder which mines negatives is part of the data
MINING = "teacher_recipe.precision="


def with_shared(rows: Sequence[Row]) -> list[Row]:
    """Return ``rows`` with copies of finished ones for the tables in which they are missing.

    A row without a teacher is at home in all tables of its task that differ in the teacher's or
    the generator's settings alone, one without a generator in those that differ in the latter's.
    A copy names the preset that its row was run with in ``shared_from``.  Rows that would have a
    table to themselves, by settings which do not concern them, are left out where they have copies.
    """
    tables: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for row in rows:
        place = (_place(row), taken_apart(row["preset"])[0])
        tables.setdefault(place, {}).setdefault(row["preset"], []).append(row)
    made: list[Row] = []
    for alike in tables.values():
        copies: list[Row] = []
        for preset, there in alike.items():
            others = [row for name, found in alike.items() if name != preset for row in found]
            copies += _missing(preset, there, others)
        elsewhere = {row["key"] for row in copies}
        for there in alike.values():
            alone = all(_beside_the_point(row) for row in there)
            made += [row for row in there if not (alone and row["key"] in elsewhere)]
        made += copies
    return made


def _missing(preset: str, there: Sequence[Row], others: Iterable[Row]) -> list[Row]:
    """Return copies of those of ``others`` that are at home in the table of ``preset`` too."""
    if all(_beside_the_point(row) for row in there):  # no row needs a table of these settings
        return []
    settings = taken_apart(preset)[1]
    vocabularies = {row["vocabulary"] for row in there}
    own = {(row["label"], row["seed"]) for row in there}
    found: dict[tuple[Any, ...], Row] = {}
    for row in sorted(others, key=lambda row: (row["preset"], row["key"])):
        name = (row["label"], row["seed"])
        mine = taken_apart(row["preset"])[1]
        alike = _felt(row, mine) == _felt(row, settings) and {row["vocabulary"]} == vocabularies
        if row["status"] == "ok" and not row["origin"] and alike and name not in own:
            changes = {"preset": preset, "shared_from": row["preset"]}
            found.setdefault(name, {**row, **changes, "settings": _settings(row, there[0])})
    return list(found.values())


def _place(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("origin", "task", "source", "device", "metric"))


def _unfelt(row: Row) -> tuple[str, ...]:
    """Return how the settings begin that do not concern ``row``."""
    if row["origin"] or row["status"] != "ok":
        return ()
    if row["teacher_seed"] is None:
        return TEACHERS
    return () if row["generated"] else GENERATORS


def _felt(row: Row, settings: Iterable[str]) -> set[str]:
    """Return those of ``settings`` that ``row`` depends on."""
    mines = row["settings"].get("mined_negatives") not in (None, "0", "none")
    return {
        each
        for each in settings
        if not each.startswith(_unfelt(row)) or (mines and each.startswith(MINING))
    }


def _beside_the_point(row: Row) -> bool:
    """Return whether ``row`` stands in a table by a setting that does not concern it."""
    settings = taken_apart(row["preset"])[1]
    return _felt(row, settings) != set(settings)


def _settings(row: Row, other: Row) -> dict[str, Any]:
    """Return the settings of ``row``, those that do not concern it as in the row ``other``."""
    return {
        name: other["settings"].get(name, value) if f"{name}=".startswith(_unfelt(row)) else value
        for name, value in row["settings"].items()
    }
