"""MS MARCO as it lies in files: two layouts, and what is damaged in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged_mirror import check_nothing_leaks, task, texts, write, write_beir

from bench import BenchError
from bench.data.beir import _listed


def test_any_folder_in_the_beir_layout_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(write_beir(tmp_path, "my/notes", validation=False)))
    made = task("quick", "mirror", dataset="my/notes")
    assert made.problem() is None and made.origin().name == "my/notes"
    judged = made.judged()
    # validation is carved by query from training, the same every time
    assert len(judged.queries["train"]) == 36 and len(judged.queries["validation"]) == 4
    check_nothing_leaks(judged)
    assert task("quick", "mirror", dataset="my/notes").judged() == judged
    missing = task("quick", "mirror", dataset="my/other").problem()
    assert missing is not None and "no folder my/other" in missing
    outside = task("quick", "mirror", dataset="../other").problem()
    assert outside is not None and "not a dataset's name" in outside


def test_titles_stand_before_texts_and_grade_zero_is_no_answer(beir: Path) -> None:
    folder = beir / "BeIR/msmarco"
    write(
        folder,
        "corpus",
        {"_id": ["a", "b", "c"], "title": ["T", None, ""], "text": ["x", "y", "z"]},
    )
    write(folder, "queries", {"_id": ["1", "2", "3", "4"], "text": ["k", "l", "m", "n"]})
    for split, query, passage in (
        ("train", "1", "a"),
        ("validation", "2", "b"),
        ("test", "3", "c"),
    ):
        columns = {"query-id": [query, "4"], "corpus-id": [passage, "a"], "score": [2, 0]}
        write(folder / "qrels", split, columns)
    judged = task("quick", "mirror").judged()
    assert judged.passages == ["T x", "y", "z"]
    assert judged.queries == {"train": ["k"], "validation": ["l"], "test": ["m"]}
    assert judged.dropped["queries without a positive"] == 1


def test_ms_marcos_own_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    bodies = texts(90)
    for version, split, first, last in (
        ("v1.1", "train", 0, 40),
        ("v1.1", "validation", 40, 60),
        ("v2.1", "train", 0, 30),
        ("v2.1", "validation", 40, 60),
    ):
        write(
            tmp_path / "microsoft/ms_marco" / version,
            split,
            {
                "query_id": list(range(first, last)),
                "query": [f"what is item{at} {split}" for at in range(first, last)],
                "passages": [
                    {
                        "is_selected": [0, int(at != 41)],
                        "passage_text": [bodies[at + 1], bodies[at]],
                        "url": ["", ""],
                    }
                    for at in range(first, last)
                ],
            },
        )
    with pytest.raises(BenchError, match=r"no version 'v2.2'"):
        task("quick", "mirror", dataset="microsoft/ms_marco v2.2").judged()
    later = task("quick", "mirror", dataset="microsoft/ms_marco v2.1")
    assert later.origin().name == "microsoft/ms_marco v2.1"
    assert len(later.judged().queries["train"]) == 27
    made = task("quick", "mirror", dataset="microsoft/ms_marco", held_out_limit=8)
    judged = made.judged()
    assert made.origin().name == "microsoft/ms_marco v1.1"
    check_nothing_leaks(judged)
    assert len(judged.queries["test"]) <= 8
    assert all(text.endswith("validation") for text in judged.queries["test"])
    assert all(text.endswith("train") for text in judged.queries["validation"])
    for name in judged.queries:
        for text, row in zip(judged.queries[name], judged.relevant[name], strict=True):
            item = re.findall(r"item\d+", text)[0]
            assert [item in judged.passages[p].split() for p in row] == [True]
    assert later.judged().dropped["queries without a positive"] == 1  # nothing answers item41
    assert "only passages of the queries that are used" in str(made.origin().limits)
    # passages of the queries that are used, each once
    assert len(set(judged.passages)) == len(judged.passages) < 61


def test_limits_count_queries_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In MS MARCO's later version no passage was selected for a third of the queries."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    bodies = texts(1400)
    for split, first, last in (("train", 0, 1000), ("validation", 1000, 1300)):
        numbers = range(first, last)
        passages = [
            {"is_selected": [int(at % 3 > 0)], "passage_text": [bodies[at]], "url": [""]}
            for at in numbers
        ]
        asked = [f"what is item{at} {split}" for at in numbers]
        columns = {"query_id": list(numbers), "query": asked, "passages": passages}
        write(tmp_path / "microsoft/ms_marco/v1.1", split, columns)
    made = task("quick", "mirror", dataset="microsoft/ms_marco", train_limit=400, held_out_limit=90)
    judged = made.judged()
    check_nothing_leaks(judged)
    assert len(judged.queries["test"]) == len(judged.queries["validation"]) == 90
    assert len(judged.queries["train"]) >= 400
    assert not judged.dropped.get("queries without a positive")


def test_damage_in_a_mirror_is_told_in_the_record_and_never_a_crash(beir: Path) -> None:
    folder, bodies = beir / "BeIR/msmarco", texts(60)
    names = [*(f"p{at}" for at in range(60)), "p1", "p60"]
    bodies = [*bodies, "a second p1", ""]
    write(folder, "corpus", {"_id": names, "title": [""] * 62, "text": bodies})
    columns = {
        "query-id": ["q40", "q41", "q42", "q43", "q99"],
        "corpus-id": ["p40", "p41", "p60", "gone", "p44"],
        "score": [1] * 5,
    }
    write(folder / "qrels", "test", columns)
    data = task("quick", "mirror").load()
    assert data.described() == {
        "rows": {"train": 30, "validation": 10, "test": 2, "passages": 60},
        "dropped": {
            "empty passages": 1,
            "pairs whose passage is missing": 2,
            "pairs whose query is missing": 1,
            "passages with an id seen before": 1,
            "queries without a positive": 6,  # the test's others, which the new judgements lack
            "test queries without a positive": 2,
        },
    }
    write(folder / "qrels", "test", {**columns, "corpus-id": ["gone"] * 5})
    with pytest.raises(
        BenchError, match=r"split 'test' has no usable query .*4 pairs whose passage"
    ):
        task("quick", "mirror").load()


@pytest.mark.parametrize(
    ("part", "column", "value", "message"),
    [
        ("qrels/test", "score", None, "row 2: score is empty"),
        ("qrels/test", "score", "good", "column 'score' holds"),
        ("qrels/train", "query-id", None, "row 2: query-id is empty"),
        ("queries", "text", 7, "column 'text' holds"),
        ("corpus", "text", ["a", "b"], "column 'text' holds"),
        ("corpus", "_id", None, "row 2: _id is empty"),
    ],
)
def test_a_row_of_a_mirror_that_cannot_be_read_is_named(
    beir: Path, part: str, column: str, value: Any, message: str
) -> None:
    path = beir / "BeIR/msmarco" / f"{part}.parquet"
    rows = pq.read_table(path).to_pydict()
    old = rows[column]
    rows[column] = [None if at == 2 else old[at] for at in range(len(old))]
    if value is not None:
        rows[column] = [value] * len(old)
    pq.write_table(pa.table(rows), path)
    with pytest.raises(BenchError, match=re.escape(message)) as caught:
        task("quick", "mirror").load()
    assert part.split("/")[-1] in str(caught.value)


def test_types_that_say_the_same_are_read(beir: Path) -> None:
    """No titles at all, texts by dictionary, judgements as yes and no."""
    folder = beir / "BeIR/msmarco"
    before = task("quick", "mirror").load().described()
    corpus = pq.read_table(folder / "corpus.parquet")
    titles, text = pa.nulls(len(corpus)), corpus["text"].dictionary_encode()
    corpus = corpus.set_column(1, "title", titles).set_column(2, "text", text)
    pq.write_table(corpus, folder / "corpus.parquet")
    judged = pq.read_table(folder / "qrels/test.parquet")
    judged = judged.set_column(2, "score", pa.array([True] * len(judged)))
    pq.write_table(judged, folder / "qrels/test.parquet")
    assert task("quick", "mirror").load().described() == before


@pytest.mark.parametrize(
    "passages",
    [
        None,
        "a text",
        {"passage_text": ["a", "b"], "is_selected": [1]},
        {"passage_text": [1], "is_selected": [1]},
        {"passage_text": ["a"]},
    ],
)
def test_passages_in_no_lists_are_named(passages: Any) -> None:
    with pytest.raises(BenchError, match="MARCO, row 3: passages are not lists of texts"):
        _listed(passages, "MARCO, row 3")
    fine = {"passage_text": ["a", None], "is_selected": [1, 0]}
    assert _listed(fine, "MARCO, row 3") == [("a", True), (None, False)]
