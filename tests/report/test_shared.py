"""Rows that stand in several tables: what tells these apart does not concern them."""

from __future__ import annotations

import pytest
from factory import context, record

from bench.report.leaderboard import footnotes
from bench.report.parts import build
from bench.report.remarks import remarks
from bench.report.sections import Section
from bench.store import Record

PLAIN = ("scratch", "label_smoothing", "tfidf")


def run(method: str, seed: int = 0, score: float = 0.7, **overrides: str) -> Record:
    made = record(
        method, seed, score, overrides={k.replace("__", "."): v for k, v in overrides.items()}
    )
    if method in PLAIN:
        made["cell"]["teacher_seed"] = made["teacher"] = None
    if method == "tgt":
        made["generator"] = {"key": "g"}
    made["cell"]["preset_values"] = {"teacher": overrides.get("teacher", "big"), "recipe": {}}
    return made


def tables(records: list[Record]) -> dict[str, Section]:
    return {section.preset: section for section in context(records).sections}


def labels(section: Section) -> set[str]:
    return {line.label for line in section.lines}


def test_a_plain_student_stands_beside_every_teacher() -> None:
    base = [run("scratch", 0, 0.70), run("scratch", 1, 0.72), run("kd", 0, 0.8), run("kd", 1, 0.8)]
    other = [run("kd", seed, 0.75, teacher="small") for seed in (0, 1)]
    found = tables([*base, *other])
    assert set(found) == {"quick", "quick+teacher=small"}
    second = found["quick+teacher=small"]
    assert labels(second) == {"scratch", "kd"}
    line = second.line("kd")
    assert line is not None and line.gain is not None
    assert line.gain.mean == pytest.approx(0.04) and line.gain.pairs == 2
    said = " ".join(remarks(second))
    assert "scratch: the runs of preset quick, as nothing that differs concerns them." in said
    assert "Not all rows were run alike" not in said  # the teacher of a row that has none
    assert "the runs of" not in " ".join(remarks(found["quick"]))
    assert "Rendered from 6 cells (6 ok" in footnotes(context([*base, *other]))[0]


def test_the_order_of_runs_does_not_matter() -> None:
    """A trial with another teacher came first: the main table has its plain student too."""
    found = tables([run("scratch", teacher="small"), run("kd", teacher="small"), run("kd")])
    assert labels(found["quick"]) == labels(found["quick+teacher=small"]) == {"scratch", "kd"}


def test_a_setting_that_concerns_no_row_makes_no_table() -> None:
    alone = [run("scratch", teacher="small")]
    assert set(tables(alone)) == {"quick+teacher=small"}  # but for one that is all there is
    found = tables([*alone, run("kd")])
    assert set(found) == {"quick"} and labels(found["quick"]) == {"scratch", "kd"}


def test_what_depends_on_a_setting_stays_in_its_table() -> None:
    found = tables([run("scratch"), run("kd"), run("kd", epochs="2"), run("tgt", variants="2")])
    assert labels(found["quick+epochs=2"]) == {"kd"}  # the plain student has fewer epochs
    assert labels(found["quick+variants=2"]) == {"scratch", "kd", "tgt"}
    assert labels(found["quick"]) == {"scratch", "kd"}


def test_another_tokeniser_or_miner_concerns_everybody() -> None:
    other = run("kd", teacher="hub:someone/model")
    other["task"]["vocabulary"] = "hub:someone/model"
    found = tables([run("scratch"), other])
    assert labels(found["quick+teacher=hub:someone/model"]) == {"kd"}
    mined = [run("scratch"), run("kd", teacher_recipe__precision="float32")]
    for made in mined:
        made["cell"]["preset_values"]["mined_negatives"] = 3
    assert labels(tables(mined)["quick+teacher_recipe.precision=float32"]) == {"kd"}


def test_a_row_of_its_own_is_not_displaced_nor_a_failure_copied() -> None:
    own = run("scratch", 0, 0.9, teacher="small")
    lost = record("scratch", 1, None, status="failed")
    lost["cell"]["teacher_seed"] = None
    found = tables([run("scratch"), lost, run("kd"), own, run("kd", teacher="small")])
    line = found["quick+teacher=small"].line("scratch")
    assert line is not None and line.scores == {0: 0.9}


def test_the_exported_cells_say_where_a_row_is_from() -> None:
    made = context([run("scratch"), run("kd"), run("kd", teacher="small")])
    shared = made.frame[made.frame.shared_from != ""]
    assert shared[["label", "preset", "shared_from"]].to_numpy().tolist() == [
        ["scratch", "quick+teacher=small", "quick"]
    ]
    assert len(build(made)) > 1
