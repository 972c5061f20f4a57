"""MS MARCO: splits that share nothing, limits, presets, and what its settings change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_mirror import check_nothing_leaks, task

from bench import BASELINES, METHODS, TASKS, BenchError
from bench.data.judged import Judged
from bench.plan import make_plan
from bench.suites import Suite
from bench.tasks.retrieval import RetrievalTask, samples, taught


def test_embedded_splits_share_no_query_and_no_answer() -> None:
    judged = task().judged()
    check_nothing_leaks(judged)
    assert not any(judged.dropped.values())
    assert len(set(judged.passages)) == len(judged.passages)
    origin = task().origin()
    assert origin.name == "embedded documentation search" and "numpy 2.4.6" in origin.revision


def test_embedded_queries_are_limited_as_others_are() -> None:
    whole, few = task().judged(), task(held_out_limit="8").judged()
    assert few.passages == whole.passages and few.queries["train"] == whole.queries["train"]
    for split in ("validation", "test"):
        assert len(few.queries[split]) == len(few.relevant[split]) == 8
        assert set(few.queries[split]) < set(whole.queries[split])


def test_another_set_is_not_read_from_embedded_data(beir: Path) -> None:
    with pytest.raises(BenchError, match="dataset=BeIR/scifact cannot be read from embedded data"):
        task(dataset="BeIR/scifact")
    assert task("quick", "mirror", dataset="BeIR/scifact").preset.dataset == "BeIR/scifact"
    assert task("paper", "embedded").source == "embedded"  # the preset's own is nobody's wish


def test_mirror_splits_share_no_query_and_no_answer(beir: Path) -> None:
    judged = task("small", "mirror").judged()
    check_nothing_leaks(judged)
    assert {name: len(rows) for name, rows in judged.queries.items()} == {
        "train": 30,
        "validation": 10,
        "test": 10,
    }
    assert task("small", "mirror").origin().name == "BeIR/msmarco"


@pytest.mark.skipif(not os.environ.get("BENCH_DATA"), reason="BENCH_DATA names no mirror")
def test_the_real_slice() -> None:
    made = task("small", "mirror", held_out_limit=None)
    judged = made.judged()
    check_nothing_leaks(judged)
    assert len(judged.passages) > 12_000
    found = made.bm25().ranking(judged.queries["test"], 100)
    from bench.data.judged import padded

    scores = made.evaluate(found, padded(judged.relevant["test"]))
    assert scores["mrr@10"] == pytest.approx(0.736, abs=0.01)
    assert scores["recall@100"] == pytest.approx(0.972, abs=0.01)


def test_a_limit_takes_whole_queries_with_all_their_answers() -> None:
    relevant = {"train": [[0], [1, 2], [3], [4, 5, 6], [7]], "validation": [[8]], "test": [[9]]}
    queries = {name: [f"{name}{at}" for at in range(len(relevant[name]))] for name in relevant}
    judged = Judged([f"p{at}" for at in range(10)], queries, relevant)
    every = taught(judged, None)
    answers = dict(zip(judged.queries["train"], judged.relevant["train"], strict=True))
    for count in (1, 3, 4, 8, 100):
        part = taught(judged, count)
        kept = part.queries["train"]
        assert kept == every.queries["train"][: len(kept)]
        assert part.relevant["train"] == [answers[name] for name in kept]
        pairs = samples(part)
        assert pairs.shape[0] == 2 and pairs.shape[1] >= min(count, 8)
        assert [part.relevant["train"][at].count(p) for at, p in pairs.T] == [1] * pairs.shape[1]
        assert pairs.shape[1] - len(part.relevant["train"][-1]) < count  # no query too many
        assert part.queries["test"] == judged.queries["test"]
    assert sorted(every.queries["train"]) == sorted(judged.queries["train"])


def test_a_limit_on_training_leaves_the_rest_as_it_was(beir: Path) -> None:
    whole, part = task("quick", "mirror").load(), task("quick", "mirror", train_limit=7).load()
    assert len(whole.train) == 30 and len(part.train) == 7
    assert part.rows()["test"] == whole.rows()["test"]
    one, other = (data.train.batch(np.arange(7)).inputs["query_ids"] for data in (whole, part))
    assert one.shape == other.shape and bool((one == other).all())  # the same first samples


def test_lists_are_mined_anew_in_another_precision(
    beir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mined: list[str] = []
    plain = RetrievalTask._mined

    def spied(self: RetrievalTask, *given: Any) -> Any:
        mined.append(self.preset.teacher_recipe.precision)
        return plain(self, *given)

    monkeypatch.setattr(RetrievalTask, "_mined", spied)
    for precision in ("float32", "bfloat16", "float32"):
        changed = {"mined_negatives": 1, "teacher_recipe.precision": precision}
        _ = task("quick", "mirror", **changed).load().train.lists  # made when they are asked for
    assert mined == ["float32", "bfloat16"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"teacher": "cross:minilm"}, "must be trained: its head is fresh"),
        (
            {"bm25_negatives": 0, "mined_negatives": 0, "random_negatives": 0},
            "lists without negatives",
        ),
        ({"negative_pol": 3}, "negative_pool"),
        ({"bm25_negatives": -1}, "bm25_negatives"),
        ({"teacher": "minilm"}, "unknown retriever 'minilm'"),
    ],
)
def test_senseless_settings_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        task(**overrides).vocabulary()


def test_presets_name_what_they_are_taught_by(beir: Path) -> None:
    assert TASKS.get("msmarco").presets.keys() == {"quick", "small", "standard", "paper"}
    cross = TASKS.get("msmarco-cross")
    assert cross.presets.keys() == {"small", "standard", "paper"}
    small = cross("small", source="mirror")
    assert small.preset.teacher == "cross:minilm" and not small.preset.frozen_teacher
    assert "ranks the first 20 of BM25 again" in small.origin().limits
    assert "probably been trained on MS MARCO" in task("small", "mirror").origin().limits
    assert "MiniLM" not in TASKS.get("msmarco")("standard", source="mirror").origin().limits
    vocabulary = cross("standard", source="mirror").vocabulary()
    assert vocabulary == "hub:cross-encoder/ms-marco-MiniLM-L-6-v2"


def test_plan_leaves_out_what_retrieval_cannot_give() -> None:
    names = [*METHODS.names(), *BASELINES.names()]
    suite = Suite(methods=names, tasks=["msmarco"], preset="quick", seeds=[0])
    plan = make_plan(suite, device="cpu")
    planned = {cell.method for cell in plan.cells}
    assert {"scratch", "kd", "bm25", "teacher", "fitnets_retrieval", "lelp_retrieval"} <= planned
    assert not {"fitnets", "fitnets_joint", "lelp", "tfidf"} & planned
    for name in {*METHODS.names(), *BASELINES.names()} - planned:
        assert any(f"'{name}'" in note for note in plan.notes), name
