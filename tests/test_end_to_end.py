"""Real training, tiny, through the command line: records, resume, determinism, the report."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest

from bench import TASKS
from bench.store import read_predictions, read_records, record_files

METHODS = ["scratch", "kd", "fitnets", "fitnets_joint", "label_smoothing", "teacher"]
OVERRIDES = {"epochs": "2", "train_limit": "128", "teacher_recipe.epochs": "1"}


def bench(*arguments: str, cache: Path) -> str:
    """Run ``python -m bench`` with a cache of its own; it must succeed."""
    said = processes.bench(*arguments, BENCH_CACHE=str(cache))
    assert said.code == 0, said.text
    return said.out


def run_cifar10(
    base: Path, methods: list[str], *, results: str = "results", cache: str = "cache"
) -> str:
    settings = [f"--set={name}={value}" for name, value in OVERRIDES.items()]
    grid = ["--methods", ",".join(methods), "--tasks", "cifar10", "--seeds", "1"]
    return bench(
        *["run", *grid, *settings, "--device", "cpu", "--results", str(base / results)],
        cache=base / cache,
    )


def by_method(results: Path) -> dict[str, dict[str, Any]]:
    records, problems = read_records(results)
    assert not problems
    found = {record["cell"]["method"]: record for record in records}
    assert len(found) == len(records)
    return found


def predictions_of(results: Path, method: str) -> tuple[Path, dict[str, Any]]:
    (path,) = [path for path in record_files(results) if path.parent.name == method]
    record = json.loads(path.read_text(encoding="utf-8"))
    return path.parent / record["predictions"]["file"], record


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one finished run of all methods on CIFAR-10."""
    base = tmp_path_factory.mktemp("run")
    said = run_cifar10(base, METHODS)
    (base / "said.txt").write_text(said, encoding="utf-8")
    return base


@pytest.fixture(scope="module")
def records(base: Path) -> dict[str, dict[str, Any]]:
    return by_method(base / "results")


def test_every_cell_leaves_one_record(base: Path, records: dict[str, dict[str, Any]]) -> None:
    assert sorted(records) == sorted(METHODS)
    assert all(record["status"] == "ok" for record in records.values())
    assert f"{len(METHODS)} cells run, 0 already there." in (base / "said.txt").read_text()
    leftovers = [path for path in (base / "results").rglob("*") if path.name.startswith(".")]
    assert not leftovers


@pytest.mark.parametrize("method", METHODS)
def test_record_holds_what_it_promises(records: dict[str, dict[str, Any]], method: str) -> None:
    record = records[method]
    assert record["schema"] == 1 and len(record["key"]) == 64 and record["error"] is None
    cell = record["cell"]
    assert (cell["method"], cell["task"], cell["preset"]) == (method, "cifar10", "quick")
    assert cell["seed"] == 0 and cell["overrides"] == OVERRIDES
    assert cell["preset_values"]["recipe"]["epochs"] == 2
    data = record["data"]
    assert data["name"] == "embedded digits" and data["source"] == cell["source"] == "embedded"
    assert data["rows"] == {"train": 128, "validation": 269, "test": 445}
    assert len(data["fingerprint"]) == 64 and data["revision"] and data["limits"]
    assert record["task"]["metric"] == "accuracy" and record["task"]["direction"] == "max"
    for when in ("best", "last"):
        for split in ("validation", "test"):
            scores = record["metrics"][when][split]
            assert {"accuracy", "macro_f1", "nll", "ece"} <= scores.keys()
            assert all(math.isfinite(value) for value in scores.values())
    assert {"total_s", "train_s"} <= record["timings"].keys()
    assert all(seconds >= 0 for seconds in record["timings"].values())
    assert record["memory"]["peak_rss_bytes"] > 2**26
    assert record["parameters"]["deployed"] > 0
    environment = record["environment"]
    assert {"python", "torch", "numpy", "device", "device_name", "threads"} <= environment.keys()
    assert environment["device"] == "cpu"
    assert record["revision"].keys() == {"git", "clean"}
    assert record["started"] <= record["finished"]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "teacher"])
def test_record_of_a_method_holds_every_epoch(
    records: dict[str, dict[str, Any]], method: str
) -> None:
    record = records[method]
    epochs = record["epochs"]
    assert [entry["epoch"] for entry in epochs] == [1, 2]
    assert all(entry["losses"] and entry["lr"] > 0 for entry in epochs)
    scored = [entry for entry in epochs if entry["validation"]]
    assert len(scored) == (1 if method == "fitnets" else 2)
    # the epoch is the first that is best on validation, and nothing else was looked at
    best = max(scored, key=lambda entry: entry["validation"]["accuracy"])
    assert record["metrics"]["best"]["epoch"] == best["epoch"]
    assert record["metrics"]["best"]["validation"] == best["validation"]
    assert record["metrics"]["last"]["validation"] == scored[-1]["validation"]
    assert record["seeds"].keys() == {"init", "order", "augment", "dropout", "method"}


def test_teacher_is_named_by_those_that_used_it(records: dict[str, dict[str, Any]]) -> None:
    used = {name: record["teacher"] for name, record in records.items()}
    assert used["scratch"] is None and used["label_smoothing"] is None
    told = [used[name] for name in ("kd", "fitnets", "fitnets_joint", "teacher")]
    assert len({teacher["key"] for teacher in told}) == 1
    assert all(teacher["name"] == "resnet14w16s2+ones" for teacher in told)
    for name in ("test", "validation"):
        scores = records["teacher"]["metrics"]["best"][name]
        assert all(teacher[name] == scores for teacher in told)


def test_methods_share_the_student_and_its_initialisation(
    records: dict[str, dict[str, Any]],
) -> None:
    trained = [record for name, record in records.items() if name != "teacher"]
    assert all(record["seeds"] == records["scratch"]["seeds"] for record in trained)
    deployed = {record["parameters"]["deployed"] for record in trained}
    assert deployed == {records["scratch"]["parameters"]["student"]}
    assert records["scratch"]["parameters"]["train_only"] == 0
    assert records["fitnets"]["parameters"]["train_only"] > 0
    assert records["teacher"]["parameters"]["deployed"] > max(deployed)


@pytest.mark.parametrize("method", METHODS)
def test_metrics_are_those_of_the_saved_predictions(base: Path, method: str) -> None:
    path, record = predictions_of(base / "results", method)
    assert record["predictions"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    saved = read_predictions(path)
    task = TASKS.get("cifar10")("quick", overrides=OVERRIDES)
    splits = task.load().held_out()
    whens = ["best"] if method == "teacher" else ["best", "last"]
    assert sorted(saved) == sorted(f"{when}_{name}" for when in whens for name in splits)
    for when in whens:
        for name, split in splits.items():
            logits, labels = saved[f"{when}_{name}"], split.labels.numpy()
            assert logits.shape == (len(labels), 10) and np.isfinite(logits).all()
            scores = record["metrics"][when][name]
            assert task.evaluate(logits, labels) == scores
            assert scores["accuracy"] == (logits.argmax(axis=1) == labels).mean()


def test_methods_differ_in_what_they_learn(base: Path) -> None:
    found = {
        method: read_predictions(predictions_of(base / "results", method)[0])["best_test"]
        for method in METHODS
    }
    assert len({logits.tobytes() for logits in found.values()}) == len(METHODS)


def test_a_second_run_runs_nothing(base: Path) -> None:
    files = sorted(path for path in (base / "results").rglob("*") if path.is_file())
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    said = run_cifar10(base, METHODS)
    assert f"0 cells run, {len(METHODS)} already there." in said
    after = sorted(path for path in (base / "results").rglob("*") if path.is_file())
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in after} == before


@pytest.mark.slow
def test_the_same_cell_elsewhere_gives_the_same_bits(
    base: Path, records: dict[str, dict[str, Any]]
) -> None:
    """Teacher included: the second run starts from an empty cache."""
    run_cifar10(base, ["fitnets"], results="again", cache="other-cache")
    again, first = by_method(base / "again")["fitnets"], records["fitnets"]
    for part in ("key", "metrics", "teacher", "seeds"):
        assert again[part] == first[part]
    losses = [[entry["losses"] for entry in record["epochs"]] for record in (again, first)]
    assert losses[0] == losses[1]
    one = read_predictions(predictions_of(base / "results", "fitnets")[0])
    other = read_predictions(predictions_of(base / "again", "fitnets")[0])
    assert one.keys() == other.keys()
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_report_is_rendered_and_the_same_the_second_time(base: Path) -> None:
    arguments = ["report", "--results", str(base / "results"), "--reports", str(base / "reports")]
    bench(*arguments, cache=base / "cache")
    first = {path: path.read_bytes() for path in (base / "reports").rglob("*") if path.is_file()}
    page = (base / "reports" / "leaderboard.md").read_text(encoding="utf-8")
    assert all(method in page for method in METHODS) and "embedded digits" in page
    arguments[-1] = str(base / "reports-again")
    bench(*arguments, cache=base / "cache")
    for path, data in first.items():
        assert (base / "reports-again" / path.relative_to(base / "reports")).read_bytes() == data


@pytest.mark.slow
def test_text_methods_and_baselines_run(tmp_path: Path) -> None:
    said = bench(
        *["run", "--methods", "scratch,kd,tfidf,teacher", "--tasks", "amazon", "--seeds", "1"],
        *["--set", "epochs=1", "--set", "train_limit=96", "--device", "cpu"],
        *["--results", str(tmp_path / "results")],
        cache=tmp_path / "cache",
    )
    assert "4 cells run, 0 already there." in said
    found = by_method(tmp_path / "results")
    assert sorted(found) == ["kd", "scratch", "teacher", "tfidf"]
    assert all(record["status"] == "ok" for record in found.values())
    assert all(record["data"]["rows"]["train"] == 96 for record in found.values())
    assert found["kd"]["seeds"] == found["scratch"]["seeds"]
    assert found["kd"]["parameters"]["deployed"] == found["scratch"]["parameters"]["deployed"]
    assert found["kd"]["teacher"]["frozen"] and found["kd"]["teacher"]["served"] == "cached"
    # the frozen sentence encoder with a fitted head must know more than the majority
    accuracy = {name: found[name]["metrics"]["best"]["test"]["accuracy"] for name in found}
    assert accuracy["teacher"] > accuracy["tfidf"] > 0.5
    for method in found:
        path, record = predictions_of(tmp_path / "results", method)
        saved = read_predictions(path)["best_test"]
        assert saved.shape == (record["data"]["rows"]["test"], 2)


@pytest.mark.slow
def test_a_compiled_student_learns_the_same(tmp_path: Path) -> None:
    """Compiling takes half a minute; kernels are fused, so that only rounding may differ."""
    settings = ["--set=epochs=2", "--set=train_limit=128", "--set=teacher_recipe.epochs=1"]
    settings.append("--set=recipe.precision=float32")
    grid = ["run", "--methods", "kd", "--tasks", "cifar10", "--seeds", "1", "--device", "cpu"]
    found = {}
    for name, how in (("eager", []), ("compiled", ["--compile"])):
        bench(*grid, *settings, *how, "--results", str(tmp_path / name), cache=tmp_path / "cache")
        record = by_method(tmp_path / name)["kd"]
        path, _ = predictions_of(tmp_path / name, "kd")
        found[name] = record, read_predictions(path)["last_test"]
    (eager, ours), (compiled, theirs) = found["eager"], found["compiled"]
    assert compiled["cell"]["preset_values"]["recipe"]["compile"] is True
    assert eager["key"] != compiled["key"]
    assert np.abs(ours - theirs).max() < 0.02 * np.abs(ours).max()
