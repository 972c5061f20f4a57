"""Cells of retrieval from end to end: what they record, save and cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from here import do_jobs_here
from judged_mirror import task, texts, write_beir
from processes import left_with

from bench.data.bm25 import BM25
from bench.measure.cost import CostSpec, measure_cost
from bench.plan import make_plan
from bench.store import read_predictions, read_records
from bench.suites import Suite

METHOD_CELLS = ["scratch", "kd", "kd:loss=margin_mse", "fitnets_retrieval", "lelp_retrieval"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run real cells on a small mirror through the command line; records by label."""
    base = tmp_path_factory.mktemp("msmarco")
    names = [*METHOD_CELLS, "bm25", "teacher"]
    return run_cells(base, names, "msmarco", "--set", "epochs=4", "--set", "batch_size=10")


def run_cells(base: Path, names: list[str], full: str, *more: str) -> dict[str, dict[str, Any]]:
    write_beir(base / "mirror", two=True)
    with pytest.MonkeyPatch.context() as patch:
        do_jobs_here(patch)
        patch.setenv("BENCH_CACHE", str(base / "cache"))
        patch.setenv("BENCH_DATA", str(base / "mirror"))
        arguments = ["run", "--methods", ",".join(names), "--tasks", full, "--source", "mirror"]
        arguments += ["--seeds", "1", "--device", "cpu", "--results", str(base / "out"), *more]
        assert left_with(patch, *arguments) == 0
    records, problems = read_records(base / "out")
    assert not problems
    found = {record["cell"]["label"]: record for record in records}
    for record in records:
        (path,) = (base / "out").rglob(record["predictions"]["file"])
        record["saved"] = read_predictions(path)
        alone = read_predictions(path.with_suffix(".each.npz"))
        assert alone.keys() == {"best_test_each"}
        assert np.array_equal(alone["best_test_each"], record["saved"]["best_test_each"])
    return found


def test_every_cell_is_ok(finished: dict[str, dict[str, Any]]) -> None:
    assert len(finished) == len(METHOD_CELLS) + 2
    for label, record in finished.items():
        assert record["status"] == "ok", (label, record["error"])
        assert record["data"]["rows"] == {
            "train": 30,
            "validation": 10,
            "test": 10,
            "passages": 60,
        }
        assert record["data"]["name"] == "BeIR/msmarco" and record["task"]["metric"] == "mrr@10"
        json.dumps({name: value for name, value in record.items() if name != "saved"})


def test_metrics_are_those_of_the_saved_rankings(finished: dict[str, dict[str, Any]]) -> None:
    made = task()
    relevant = {"validation": np.arange(30, 40)[:, None], "test": np.full((10, 2), -1)}
    relevant["test"][:, 0], relevant["test"][0, 1] = np.arange(40, 50), 59
    for label, record in finished.items():
        for split, labels in relevant.items():
            ranking = record["saved"][f"best_{split}"]
            assert ranking.shape == (10, 60)
            assert all(sorted(row) == list(range(60)) for row in ranking.tolist())
            assert made.evaluate(ranking, labels) == record["metrics"]["best"][split], label
        each = record["saved"]["best_test_each"]
        assert each.shape == (10,)
        assert each.mean() == pytest.approx(record["metrics"]["best"]["test"]["mrr@10"]), label


def test_scores_are_plausible(finished: dict[str, dict[str, Any]]) -> None:
    score = {label: each["metrics"]["best"]["test"]["mrr@10"] for label, each in finished.items()}
    assert score["bm25"] == 1.0  # each query holds a word that only its passage has
    assert score["teacher"] > 0.5
    assert all(score[label] > 0.2 for label in METHOD_CELLS if label in score)  # by chance: 0.05


def test_students_are_one_and_the_teacher_is_served_from_the_cache(
    finished: dict[str, dict[str, Any]],
) -> None:
    taught = [each for each in finished.values() if each["cell"]["kind"] == "method"]
    assert {each["teacher"]["served"] for each in taught} == {"cached"}
    assert {each["parameters"]["deployed"] for each in taught} == {
        finished["scratch"]["parameters"]["student"]
    }
    assert {tuple(sorted(each["seeds"].items())) for each in taught} == {
        tuple(sorted(finished["scratch"]["seeds"].items()))
    }
    assert finished["bm25"]["teacher"] is None
    rankings = {label: each["saved"]["best_test"].tobytes() for label, each in finished.items()}
    assert len(set(rankings.values())) >= len(rankings) - 1


@pytest.mark.slow
def test_a_cross_encoder_is_trained_and_teaches(tmp_path: Path) -> None:
    names = ["teacher", "kd", "kd:loss=margin_mse"]
    settings = ("student=dual:minilm:0", "epochs=1", "rerank=7", "teacher_recipe.epochs=1")
    found = run_cells(
        tmp_path,
        names,
        "msmarco-cross",
        *("--preset", "small"),
        *(each for setting in settings for each in ("--set", setting)),
    )
    assert {label: each["status"] for label, each in found.items()} == {
        "teacher": "ok",
        "kd": "ok",
        "kd (loss=margin_mse)": "ok",
    }
    teacher = found["teacher"]["teacher"]
    assert teacher["name"] == "cross:minilm" and not teacher["frozen"]
    for label in ("kd", "kd (loss=margin_mse)"):
        assert found[label]["teacher"]["key"] == teacher["key"]
        assert found[label]["teacher"]["served"] == "cached"
        assert found[label]["epochs"][0]["losses"]["kd"] > 0
    # its own row: BM25's first seven in an order of its own, then as BM25 has them
    bodies = texts(60)
    asked = [" ".join(bodies[at].split()[:4]) + f" q{at}" for at in range(40, 50)]
    first = BM25(bodies).ranking(asked, 60)
    ranking = found["teacher"]["saved"]["best_test"]
    assert [set(row) for row in ranking[:, :7]] == [set(row) for row in first[:, :7]]
    assert not np.array_equal(ranking[:, :7], first[:, :7])


@pytest.mark.usefixtures("beir")
def test_the_cost_of_a_retriever_includes_its_index(tmp_path: Path) -> None:
    suite = Suite(
        methods=["scratch"], tasks=["msmarco"], preset="quick", source="mirror", seeds=[0]
    )
    (cell,) = make_plan(suite, device="cpu").cells
    record = measure_cost(CostSpec(cell, steps=1, warmup=1), tmp_path)
    assert record["status"] == "ok", record["error"]
    index = record["inference"]["index"]
    assert index["passages"] == 60 and index["bytes"] == 60 * 384 * 4
    assert index["build"]["samples_per_s"] > 0
    assert record["inference"]["latency"]["samples"] == 1
