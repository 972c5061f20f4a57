"""Records on disk that are broken, foreign, older or newer: named, left alone, never misread."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from processes import ROOT

from bench.report.content import Context
from bench.report.files import table_files
from bench.report.index import render_index
from bench.report.leaderboard import render_leaderboard
from bench.report.parts import build
from bench.report.select import load

GROUP = "Records"
FOLDER = ROOT / "tests" / "records"
GOOD = json.loads((FOLDER / "schema-1.json").read_text())
COST = json.loads((FOLDER / "schema-1.cost.json").read_text())


def with_(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes})


def cell_with(**changes: Any) -> str:
    return with_(cell={**GOOD["cell"], **changes})


def lacking(*names: str) -> str:
    return json.dumps({name: value for name, value in GOOD.items() if name not in names})


CASES: list[tuple[str, str | bytes, list[str]]] = [
    ("an empty file", "", ["not a readable record"]),
    ("half a record", with_()[:900], ["not a readable record"]),
    ("bytes that are no UTF-8", b"\xff\xfe{}", ["not a readable record", "utf-8"]),
    ("somebody else's JSON", '{"name": "left-pad", "version": "1.3.0"}', ["not a record"]),
    ("a list", "[1, 2]", ["not a record"]),
    ("100,000 open brackets", "[" * 100_000, ["nested too deeply"]),
    ("one line of 100 MB", b'"' + b"a" * 100_000_000, ["larger than 67,108,864 bytes"]),
    ("a record of schema 0", with_(schema=0), ["record schema 0", "this version reads 1"]),
    ("a record of schema 2", with_(schema=2), ["record schema 2", "update the suite"]),
    ("a record of schema '1'", with_(schema="1"), ["record schema '1'"]),
    ("a record of schema true", with_(schema=True), ["record schema True"]),
    ("a record without a key", lacking("key"), ["record lacks key"]),
    ("a record without cell and task", lacking("cell", "task"), ["record lacks cell, task"]),
    ("a key that is a path", with_(key="../../etc"), ["key '../../etc' is no sha256"]),
    ("a status of its own", with_(status="great"), ["status 'great' is none of ok, skipped"]),
    ("a seed of 1.5", cell_with(seed=1.5), ["cell.seed is no whole number"]),
    ("a method that is a list", cell_with(label=["kd"]), ["cell.label is no text"]),
    ("metrics that are a list", with_(metrics=[0.9]), ["'metrics' is no object"]),
    ("a task without a metric", with_(task={}), ["malformed (KeyError: 'metric')"]),
    (
        "a direction of its own",
        with_(task={**GOOD["task"], "direction": "up"}),
        ["malformed", "direction must be one of"],
    ),
]


NO_FILES: list[tuple[str, Callable[[Path], object], list[str]]] = [
    ("a pipe", os.mkfifo, ["no ordinary file"]),
    ("a folder called .json", os.mkdir, ["Is a directory"]),
    ("a link that leads nowhere", lambda path: path.symlink_to("nowhere"), ["No such file"]),
    ("a link to itself", lambda path: path.symlink_to(path), ["Too many levels"]),
    ("a link to /dev/zero", lambda path: path.symlink_to("/dev/zero"), ["no ordinary file"]),
]


def test_every_broken_record_is_named_and_the_good_one_is_rendered(desk: Any) -> None:
    """All of them among the results at once: one line each, and the earlier record is shown."""
    said: dict[str, tuple[str, list[str]]] = {}
    key = "0123456789abcdef" * 4
    for at, (what, content, says) in enumerate(CASES):
        path = desk.results / f"stranger-{at:02}.json"
        data = content if isinstance(content, bytes) else content.encode()
        # what is readable but of no use is named by its key
        mine = f"{at:02}{key[2:]}"
        path.write_bytes(data.replace(GOOD["key"].encode(), mine.encode()))
        said[mine[:12] if "malformed" in says[0] else path.name] = (what, says)
    for at, (what, make, says) in enumerate(NO_FILES):
        path = desk.results / f"odd-{at}.json"
        make(path)
        said[path.name] = (what, says)
    before = {path: path.read_bytes() for path in desk.results.glob("stranger-*")}
    told = desk("report")
    assert told.code == 1 and f"{len(said)} could not be used." in told.text
    lines = told.text.splitlines()
    for name, (what, says) in said.items():
        (line,) = [line for line in lines if name in line]
        assert line.startswith("warning: ") and all(part in line for part in says), line
        assert line.isprintable() and len(line) < 500
        desk.note(f"{what} among the results, report", told.code, line)
    assert "Traceback" not in told.text
    assert "kd" in (desk.base / "reports" / "leaderboard.md").read_text()
    assert {path: path.read_bytes() for path in before} == before


def test_cost_record_of_a_stranger_is_named(desk: Any) -> None:
    broken = {**COST, "training": {"step": "fast"}}
    (desk.results / "x.cost.json").write_text(json.dumps(broken))
    desk.refuses("a cost record with a text for numbers", "report", says=["cost record"], code=1)


def test_record_in_the_place_of_a_cell_is_not_taken_for_it(desk: Any) -> None:
    """A file with the cell's own name whose record is another one's: the cell is run."""
    run = ["run", "--methods", "scratch", *desk.tiny]
    assert desk(*run).code == 0
    (mine,) = desk.results.rglob("scratch/seed0-*.json")
    mine.write_text(with_(status="ok"))
    said = desk(*run)
    assert said.code == 0 and "1 cells run, 0 already there" in said.text
    assert json.loads(mine.read_text())["cell"]["method"] == "scratch"
    mine.write_text(with_(schema=2))  # of a later time: not to be lost
    said = desk(*run)
    assert said.code == 2 and "is of a newer version of the suite (record schema 2" in said.text
    assert mine.read_text() == with_(schema=2)


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))


def altered(record: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(record)
    inner = made
    for name in path[:-1]:
        inner = inner[name]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return made


ODD = st.one_of(
    st.sampled_from(
        [..., None, True, -1, 10**400, float("nan"), "", "\ud800", "<b>", [], {}, [{}]]
    ),
    st.text(max_size=5),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
WHATEVER = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def rendered(context: Context) -> str:
    """Return every text of the report; pictures are left out, as they take a second each."""
    parts = build(context)
    page = render_leaderboard(context, parts)
    tables = table_files(context, parts)
    blank = {picture.name: b"<svg/>" for part in parts for picture in part.pictures}
    return page + render_index(context, parts, blank) + str(len(tables))


@WHATEVER
@given(path=st.sampled_from(sorted(places(GOOD))), value=ODD)
@example(path=("cell", "label"), value="\ud800")
@example(path=("cell", "preset_values", "evaluation_batch"), value="\ud800")
def test_any_altered_record_is_rendered_or_named(
    tmp_path: Path, path: tuple[str, ...], value: Any
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(altered(GOOD, path, value)))
    (tmp_path / "b.json").write_text(with_(key="0" * 64, cell={**GOOD["cell"], "seed": 1}))
    context = load(tmp_path)
    assert "kd" in rendered(context)
    assert len(context.frame) + context.refused == 2


@WHATEVER
@given(path=st.sampled_from(sorted(places(COST))), value=ODD)
@example(path=("cell", "label"), value="\ud800")
def test_any_altered_cost_record_is_rendered_or_named(
    tmp_path: Path, path: tuple[str, ...], value: Any
) -> None:
    (tmp_path / "a.cost.json").write_text(json.dumps(altered(COST, path, value)))
    (tmp_path / "b.json").write_text(with_())
    context = load(tmp_path)
    rendered(context)
    assert context.refused + sum(map(len, context.costs.values())) == 1
