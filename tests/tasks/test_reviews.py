"""The review tasks: splits, labels and honest names, on embedded data and through mirrors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import TASKS
from bench.data.hub_refs import AMAZON_REVIEWS
from bench.errors import BenchError
from bench.plan import make_plan
from bench.run_cell import run_cell
from bench.suites import Suite
from bench.tasks.reviews import by_product, join


def write(root: Path, name: str, split: str, columns: dict[str, list[object]]) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{split}.parquet")


def polarity(count: int, word: str) -> dict[str, list[object]]:
    return {
        "label": [row % 2 for row in range(count)],
        "title": [f"{word} {row}" for row in range(count)],
        "content": ["body"] * count,
    }


@pytest.mark.parametrize("name", ["amazon", "amazon-5", "sentiment140"])
def test_embedded_splits_hold_every_class_and_share_no_text(name: str) -> None:
    task = TASKS.get(name)("quick")
    texts = task.texts()  # type: ignore[attr-defined]
    assert task.origin().name.startswith("embedded")
    seen: dict[str, set[str]] = {}
    for split, (rows, labels) in texts.items():
        assert len(rows) == len(labels)
        assert set(labels.tolist()) == set(range(task.num_classes))
        seen[split] = set(rows)
    assert not seen["train"] & (seen["validation"] | seen["test"])
    assert not seen["validation"] & seen["test"]


def test_validation_is_carved_only_where_the_set_brings_none(mirror: Path) -> None:
    write(mirror, "fancyzhx/amazon_polarity", "train", polarity(100, "train"))
    write(mirror, "fancyzhx/amazon_polarity", "test", polarity(20, "test"))
    carved = TASKS.get("amazon")("small", source="mirror").texts()  # type: ignore[attr-defined]
    assert {name: len(rows) for name, (rows, _) in carved.items()} == {
        "train": 90,
        "validation": 10,
        "test": 20,
    }
    assert not set(carved["train"][0]) & set(carved["validation"][0])
    write(mirror, "fancyzhx/amazon_polarity", "validation", polarity(30, "own"))
    own = TASKS.get("amazon")("small", source="mirror").texts()  # type: ignore[attr-defined]
    assert len(own["train"][0]) == 100
    assert own["validation"][0][0] == "own 0. body"


def test_a_text_that_is_held_out_too_is_not_trained_on(mirror: Path) -> None:
    name = "fancyzhx/amazon_polarity"
    of = {"train": list(range(20)), "validation": [5, 30, 31], "test": [7, 31, 40, 7]}
    for split, rows in of.items():
        spelt = {"train": "A  title {}", "validation": "a title {} ", "test": "A Title {}"}[split]
        columns: dict[str, list[object]] = {
            "label": [row % 2 for row in rows],
            "title": [spelt.format(row) for row in rows],
            "content": ["body"] * len(rows),
        }
        write(mirror, name, split, columns)
    data = TASKS.get("amazon")("small", source="mirror").load()
    assert data.described() == {
        "rows": {"train": 18, "validation": 2, "test": 4},
        "dropped": {
            "validation texts that are held out too": 1,
            "training texts that are held out too": 2,
        },
    }
    kept = [row for row in range(20) if row not in (5, 7)]
    assert data.texts is not None
    assert data.texts["train"] == [f"A  title {row}. body" for row in kept]
    assert data.train.labels.tolist() == [row % 2 for row in kept]


def test_a_split_that_holds_nothing_of_its_own_is_refused(mirror: Path) -> None:
    for split in ("train", "validation", "test"):
        write(mirror, "fancyzhx/amazon_polarity", split, polarity(4, "same"))
    with pytest.raises(BenchError, match="split 'train' has no text of its own"):
        TASKS.get("amazon")("small", source="mirror").load()


def test_stars_become_classes(mirror: Path) -> None:
    for split in ("train", "validation", "test"):
        stars: dict[str, list[object]] = {
            "rating": [1.0, 2.0, 3.0, 4.0, 5.0],
            "title": ["t"] * 5,
            "text": [f"{split} {star}" for star in range(5)],
            "parent_asin": ["a"] * 5,
        }
        write(mirror, "McAuley-Lab/Amazon-Reviews-2023", split, stars)
    texts = TASKS.get("amazon-5")("small", source="mirror").texts()  # type: ignore[attr-defined]
    assert texts["test"][1].tolist() == [0, 1, 2, 3, 4]


def test_no_product_crosses_splits() -> None:
    products = [f"product {number % 40}" for number in range(400)]
    rows = [f"{product} review {at}" for at, product in enumerate(products)]
    found = by_product(rows, np.zeros(400, dtype=np.int64), products)
    names = {split: {row.split(" review")[0] for row in kept} for split, (kept, _) in found.items()}
    assert sum(len(kept) for kept, _ in found.values()) == 400
    assert not names["train"] & names["test"]
    assert not names["train"] & names["validation"]
    assert not names["validation"] & names["test"]


def test_sentiment140_drops_neutral_rows_and_holds_a_second_test_out(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tweets(count: int, labels: tuple[int, ...], word: str) -> dict[str, list[object]]:
        return {
            "text": [f"{word} {row}" for row in range(count)],
            "sentiment": [labels[row % len(labels)] for row in range(count)],
        }

    cls = TASKS.get("sentiment140")
    monkeypatch.setattr(cls, "second_test", 30)
    write(mirror, "stanfordnlp/sentiment140", "train", tweets(50, (0, 4), "head"))
    write(mirror, "stanfordnlp/sentiment140", "train_random", tweets(200, (0, 4), "random"))
    write(mirror, "stanfordnlp/sentiment140", "test", tweets(30, (0, 2, 4), "test"))
    texts = cls("small", source="mirror").texts()  # type: ignore[attr-defined]
    assert {name: len(rows) for name, (rows, _) in texts.items()} == {
        "train": 153,
        "validation": 17,
        "test": 20,
        "test_random": 30,
    }
    everything = [row for name in ("train", "validation", "test_random") for row in texts[name][0]]
    assert len(set(everything)) == 200
    assert all(row.startswith("random") for row in everything)
    labels = dict(zip(texts["test"][0], texts["test"][1].tolist(), strict=True))
    assert labels["test 0"] == 0
    assert labels["test 2"] == 1
    assert "test 1" not in labels
    data = cls("small", source="mirror").load()
    assert list(data.held_out()) == ["validation", "test", "test_random"]


def test_too_few_tweets_for_the_second_test_are_refused(mirror: Path) -> None:
    rows = {"text": ["a", "b", "c"] * 700, "sentiment": [0, 4, 2] * 700}
    write(mirror, "stanfordnlp/sentiment140", "train", rows)
    write(mirror, "stanfordnlp/sentiment140", "test", rows)
    with pytest.raises(BenchError, match=r"train: 1400 positive and negative rows .*2,000"):
        TASKS.get("sentiment140")("small", source="mirror").load()


def test_a_mirror_claims_no_commit_and_the_hubs_category_is_named(mirror: Path) -> None:
    rows = {"rating": [1, 5], "title": ["a", "b"], "text": ["", ""], "parent_asin": ["x", "y"]}
    for split in ("train", "validation", "test"):
        write(mirror, "McAuley-Lab/Amazon-Reviews-2023", split, rows)
    amazon = TASKS.get("amazon-5")
    assert amazon("small", source="mirror").origin().revision == ""  # type: ignore[attr-defined]
    assert "All Beauty" in amazon.hub_limits  # type: ignore[attr-defined]
    assert "All_Beauty" in str(AMAZON_REVIEWS.files)


def test_join_survives_missing_parts() -> None:
    assert join("title", "body") == "title. body"
    assert join(None, "body") == "body"
    assert join("  ", None) == "-"


@pytest.mark.skipif(not os.environ.get("BENCH_DATA"), reason="needs BENCH_DATA, a real mirror")
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("amazon", {"train": 8380, "validation": 1094, "test": 924}),
        ("amazon-5", {"train": 12015, "validation": 1584, "test": 1457}),
        ("sentiment140", {"test": 359, "test_random": 2000}),
    ],
)
def test_real_mirror(name: str, rows: dict[str, int]) -> None:
    texts = TASKS.get(name)("small", source="mirror").texts()  # type: ignore[attr-defined]
    found = {split: len(kept) for split, (kept, _) in texts.items()}
    assert {split: found[split] for split in rows} == rows


@pytest.mark.parametrize("name", ["amazon", "msmarco"])
def test_a_fault_of_the_code_is_not_taken_for_data_that_is_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    task = TASKS.get(name)("small", source="mirror")
    assert str(tmp_path) in str(task.problem())
    monkeypatch.setattr("bench.data.mirror.Mirror.problem", lambda *_: {}["qrels"])
    with pytest.raises(KeyError, match="qrels"):
        task.problem()


def test_data_that_changed_since_the_plan_is_not_recorded_under_the_old_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    for split in ("train", "test"):
        write(tmp_path, "fancyzhx/amazon_polarity", split, polarity(200, split))
    suite = Suite(methods=("tfidf",), tasks=("amazon",), preset="small", seeds=(0,))
    (cell,) = make_plan(suite, device="cpu").cells
    assert run_cell(cell, tmp_path / "results")["status"] == "ok"
    write(tmp_path, "fancyzhx/amazon_polarity", "train", polarity(120, "other"))
    record = run_cell(cell, tmp_path / "results")
    assert record["status"] == "failed"
    assert "the data of task 'amazon' was changed after this run" in record["error"]["message"]
