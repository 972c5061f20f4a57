"""Rows that lack seeds: compared on those that both have, and never to somebody's advantage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from factory import context, failure, record, runs

from bench.report.ablation_page import ablation_parts
from bench.report.content import Context, Table, Text
from bench.report.frame import collect
from bench.report.leaderboard import overview, score_table
from bench.report.parts import build
from bench.report.queries import query_table
from bench.report.remarks import remarks
from bench.store import Record

LUCK = (0.0, 0.0, 0.10)  # of the third seed, for every method alike


def unlucky(task: str) -> list[Record]:
    """Return runs of KD, the plain student's very equal, whose lucky seed failed."""
    lost = failure("scratch", 2, "oom", task=task)
    found = runs("kd", [0.7 + luck for luck in LUCK], task=task)
    return [*found, *runs("scratch", [0.7, 0.7], task=task), lost]


def row(found: Table, label: str) -> list[str]:
    return next([value.text for value in row] for row in found.rows if row[0].text == label)


def tables(made: Context, name: str) -> list[Table]:
    return [t for part in build(made) for t in part.tables if t.name.startswith(name)]


def test_the_gap_closed_over_tasks_is_that_of_common_seeds() -> None:
    made = context([record for task in ("a", "b", "c") for record in unlucky(task)])
    for group in made.overall:
        for found in group.closed("kd"):
            assert found == pytest.approx([0.0, 0.0])
    lines = [next(x for x in section.lines if x.label == "kd") for section in made.sections]
    assert [line.closed for line in lines] == pytest.approx([0.0] * 3)


def test_gains_of_fewer_pairs_say_so_and_are_in_no_mean() -> None:
    sound = [*runs("scratch", [0.6] * 3, task="b"), *runs("kd", [0.7] * 3, task="b")]
    made = context([*unlucky("a"), *sound])
    (part,) = overview(made)
    (found,) = part.tables
    assert row(found, "kd") == ["kd", "0.00 ± 0.00 (2 pairs)", "+10.00 ± 0.00", "-"]
    assert row(tables(made, "differences")[0], "kd")[1] == "0.00 ± 0.00 (2 pairs)"
    assert any("(2 pairs)" in cell for cell in row(score_table(made.sections[0]), "kd"))


def configured(made: list[Record], **options: Any) -> list[Record]:
    for one in made:
        one["cell"]["config"] = {"t": 4, "w": 0.5, **options}
    return made


def test_an_ablations_difference_to_a_default_with_fewer_seeds_says_so() -> None:
    records = runs("scratch", [0.7] * 3)
    records += configured([*runs("kd", [0.75, 0.75]), failure("kd", 2, "oom")])
    records += configured(runs("kd", [0.74, 0.76, 0.90], label="kd (t=1)"), t=1)
    records += configured(runs("kd", [0.74, 0.76, 0.77], label="kd (w=1)"), w=1)
    found = [t for part in ablation_parts(context(records)) for t in part.tables]
    assert "0.00 (2 pairs)" in row(found[0], "t=1")


def test_a_row_with_more_seeds_than_all_others_is_not_bold_for_that() -> None:
    noise = np.random.default_rng(0).normal(0, 0.003, (4, 10))
    records = [
        *runs("scratch", 0.70 + noise[0][:5]),
        *runs("kd", 0.66 + noise[1]),
        *runs("lelp", 0.82 + noise[2][:5]),
    ]
    section = context(records).sections[0]
    assert section.lines[0].label == "lelp" and section.winners == frozenset()
    assert "lelp leads on 5 of 10 seeds, so nothing is set in bold." in remarks(section)
    whole = [*records[:5], *records[5:10], *records[15:]]
    section = context(whole).sections[0]
    assert section.winners == {"lelp"}
    assert not any("leads on" in said for said in remarks(section))


def judged(method: str, seed: int, scores: np.ndarray) -> Record:
    made = record(method, seed, float(scores.mean()), task="msmarco", metric="mrr@10")
    made["task"]["family"] = "retrieval"
    for when in ("best", "last"):
        made["metrics"][when]["test"] |= {"ndcg@10": 0.5, "recall@100": 0.6, "recall@1000": 0.7}
    return made


def test_queries_are_compared_on_the_seeds_that_both_rows_have() -> None:
    chance = np.random.default_rng(0)
    queries, each, records = chance.uniform(0.2, 0.6, 400), {}, []
    for method in ("scratch", "kd"):
        for seed, luck in enumerate((0.0, 0.0, -0.15)):  # the third is bad for all alike
            scores = queries + luck + chance.normal(0, 0.03, 400)
            if (method, seed) == ("kd", 2):
                lost = failure("kd", 2, "oom", task="msmarco", metric="mrr@10")
                lost["task"]["family"] = "retrieval"
                records.append(lost)
                continue
            records.append(judged(method, seed, scores))
            each[records[-1]["key"]] = scores
    made = Context(collect(records).frame, records=records, each=each)
    (found,) = query_table(made.sections[0], each)
    assert isinstance(found, Table)
    cell = row(found, "kd")[found.head.index("over scratch (points)")]
    assert abs(float(cell.split()[0])) < 0.5 and "p < 0.001" not in cell
    # once means run once: held against the mean of all
    records = [each for each in records if each["cell"]["method"] == "scratch"]
    kept = {one["key"]: each[one["key"]] for one in records}
    alone = Context(collect(records).frame, records=records, each=kept)
    (found,) = query_table(alone.sections[0], kept)
    assert isinstance(found, Table)
    assert found.source == "" and found.head[-1] != "over scratch (points)"  # nobody to test
    baseline = judged("bm25", 0, queries + 0.2)
    baseline["cell"]["kind"] = "baseline"
    records.append(baseline)
    kept[baseline["key"]] = queries + 0.2
    beside = Context(collect(records).frame, records=records, each=kept)
    (found,) = query_table(beside.sections[0], kept)
    assert isinstance(found, Table)
    assert float(row(found, "bm25")[-1].split()[0]) == pytest.approx(25.0, abs=0.2)


def test_what_failed_at_every_rate_is_a_row_that_says_so() -> None:
    def at(rate: float, made: list[Record]) -> list[Record]:
        for one in made:
            one["cell"]["overrides"] = {"recipe.learning_rate": str(rate)}
            one["cell"]["preset_values"] = {"recipe": {"learning_rate": rate}}
        return made

    records = []
    for task in ("a", "b"):
        for rate in (0.1, 0.4):
            records += at(rate, runs("scratch", [0.7] * 3, task=task))
            records += at(rate, runs("kd", [0.75] * 3, task=task))
            lost = [failure("dkd", seed, "loss is nan", task=task) for seed in range(3)]
            records += at(rate, lost if task == "a" else runs("dkd", [0.76] * 3, task=task))
    for at_, one in enumerate(records):
        one["key"] = f"{at_:064x}"
    made = context(records)
    first, _ = tables(made, "rates")
    assert row(first, "dkd") == ["dkd", "failed", "failed", *["-"] * 6]
    (part,) = overview(made)
    (found,) = part.tables
    assert row(found, "dkd")[1:3] == ["failed", "+6.00 ± 0.00"]
    notes = [block.text for block in part.blocks if isinstance(block, Text)]
    assert "each method at its own rate" in notes[0]
