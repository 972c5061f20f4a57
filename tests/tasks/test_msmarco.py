"""MS MARCO: splits that share nothing, sources under their own names, and cells end to end."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from processes import bench

from bench import BASELINES, METHODS, TASKS, BenchError
from bench.data.beir import _listed
from bench.data.bm25 import BM25
from bench.data.judged import Judged, normalised
from bench.measure.cost import CostSpec, measure_cost
from bench.plan import make_plan
from bench.store import read_predictions, read_records
from bench.suites import Suite
from bench.tasks.retrieval import RetrievalTask, samples, taught

SOME = (
    "river stone market winter garden copper window violin desert ladder harbor engine forest "
    "candle mirror bridge tunnel castle rocket pepper saddle turtle anchor basket"
)
WORDS = SOME.split()


def texts(count: int) -> list[str]:
    """Return passages of eight words; no two have the same first three."""
    generator = np.random.default_rng(4)
    return [
        " ".join(
            [WORDS[at % 24], WORDS[(at // 24 + 7) % 24], f"item{at}", *generator.choice(WORDS, 5)]
        )
        for at in range(count)
    ]


def write(folder: Path, name: str, columns: dict[str, list[Any]]) -> None:
    path = folder / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def write_beir(
    root: Path,
    name: str = "BeIR/msmarco",
    *,
    passages: int = 60,
    validation: bool = True,
    two: bool = False,
) -> Path:
    """Write a mirror: query ``i`` asks for passage ``i`` by three of its words."""
    folder, bodies = root / name, texts(passages)
    names = [f"p{at}" for at in range(passages)]
    write(folder, "corpus", {"_id": names, "title": [""] * passages, "text": bodies})
    asked = {f"q{at}": " ".join(bodies[at].split()[:4]) + f" q{at}" for at in range(50)}
    write(folder, "queries", {"_id": list(asked), "text": list(asked.values())})
    bounds = {"train": (0, 30), "validation": (30, 40), "test": (40, 50)}
    if not validation:
        bounds = {"train": (0, 40), "test": (40, 50)}
    for split, (first, last) in bounds.items():
        rows = range(first, last)
        judged = [(f"q{at}", f"p{at}") for at in rows]
        if two and split == "test":  # a second answer, of which the query says nothing
            judged.append((f"q{first}", f"p{passages - 1}"))
        asks, answers = zip(*judged, strict=True)
        columns = {"query-id": asks, "corpus-id": answers, "score": [1] * len(judged)}
        write(folder / "qrels", split, columns)
    return root


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = write_beir(tmp_path / "mirror")
    monkeypatch.setenv("BENCH_DATA", str(root))
    return root


def task(preset: str = "quick", source: str | None = None, **overrides: Any) -> RetrievalTask:
    made = TASKS.get("msmarco")(preset, source=source, overrides=overrides)  # type: ignore[arg-type]
    assert isinstance(made, RetrievalTask)
    return made


def check_nothing_leaks(judged: Judged) -> None:
    asked = {name: {normalised(text) for text in judged.queries[name]} for name in judged.queries}
    answers = {name: {p for row in judged.relevant[name] for p in row} for name in judged.relevant}
    told = {name: {judged.passages[p] for p in found} for name, found in answers.items()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not asked[one] & asked[other]
    for held in ("validation", "test"):
        assert not answers["train"] & answers[held]
        assert not told["train"] & told[held]
    assert all(row for rows in judged.relevant.values() for row in rows)


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


def test_another_set_is_not_read_from_embedded_data(mirror: Path) -> None:
    with pytest.raises(BenchError, match="dataset=BeIR/scifact cannot be read from embedded data"):
        task(dataset="BeIR/scifact")
    assert task("quick", "mirror", dataset="BeIR/scifact").preset.dataset == "BeIR/scifact"
    assert task("paper", "embedded").source == "embedded"  # the preset's own is nobody's wish


def test_mirror_splits_share_no_query_and_no_answer(mirror: Path) -> None:
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


def test_titles_stand_before_texts_and_grade_zero_is_no_answer(mirror: Path) -> None:
    folder = mirror / "BeIR/msmarco"
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


def test_a_limit_on_training_leaves_the_rest_as_it_was(mirror: Path) -> None:
    whole, part = task("quick", "mirror").load(), task("quick", "mirror", train_limit=7).load()
    assert len(whole.train) == 30 and len(part.train) == 7
    assert part.rows()["test"] == whole.rows()["test"]
    one, other = (data.train.batch(np.arange(7)).inputs["query_ids"] for data in (whole, part))
    assert one.shape == other.shape and bool((one == other).all())  # the same first samples


def test_damage_in_a_mirror_is_told_in_the_record_and_never_a_crash(mirror: Path) -> None:
    folder, bodies = mirror / "BeIR/msmarco", texts(60)
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
    mirror: Path, part: str, column: str, value: Any, message: str
) -> None:
    path = mirror / "BeIR/msmarco" / f"{part}.parquet"
    rows = pq.read_table(path).to_pydict()
    old = rows[column]
    rows[column] = [None if at == 2 else old[at] for at in range(len(old))]
    if value is not None:
        rows[column] = [value] * len(old)
    pq.write_table(pa.table(rows), path)
    with pytest.raises(BenchError, match=re.escape(message)) as caught:
        task("quick", "mirror").load()
    assert part.split("/")[-1] in str(caught.value)


def test_types_that_say_the_same_are_read(mirror: Path) -> None:
    """No titles at all, texts by dictionary, judgements as yes and no."""
    folder = mirror / "BeIR/msmarco"
    before = task("quick", "mirror").load().described()
    corpus = pq.read_table(folder / "corpus.parquet")
    titles, text = pa.nulls(len(corpus)), corpus["text"].dictionary_encode()
    corpus = corpus.set_column(1, "title", titles).set_column(2, "text", text)
    pq.write_table(corpus, folder / "corpus.parquet")
    judged = pq.read_table(folder / "qrels/test.parquet")
    judged = judged.set_column(2, "score", pa.array([True] * len(judged)))
    pq.write_table(judged, folder / "qrels/test.parquet")
    assert task("quick", "mirror").load().described() == before


def test_lists_are_mined_anew_in_another_precision(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
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


def test_presets_name_what_they_are_taught_by(mirror: Path) -> None:
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


def test_bm25_is_bm25() -> None:
    """Against Robertson's formula in Lucene's form, written out."""
    passages = texts(40)
    query = "river stone item3 nowhere"
    counts = [text.split() for text in passages]
    mean = np.mean([len(words) for words in counts])
    expected = np.zeros(40)
    for word in query.split():
        have = sum(word in words for words in counts)
        idf = np.log(1 + (40 - have + 0.5) / (have + 0.5))
        for at, words in enumerate(counts):
            often = words.count(word)
            expected[at] += idf * often / (often + 0.9 * (1 - 0.4 + 0.4 * len(words) / mean))
    found = BM25(passages).ranking([query], 40)[0]
    scores = np.round(expected, 5)
    np.testing.assert_allclose(scores[found], np.sort(scores)[::-1], atol=2e-5)
    assert found[0] == 3


def test_bm25_has_an_answer_to_every_query() -> None:
    found = BM25(["one passage", "another one"]).ranking(["", "?!", "unheard of", "another"], 5)
    assert found.tolist() == [[0, 1], [0, 1], [0, 1], [1, 0]]


def test_plan_leaves_out_what_retrieval_cannot_give() -> None:
    names = [*METHODS.names(), *BASELINES.names()]
    suite = Suite(methods=names, tasks=["msmarco"], preset="quick", seeds=[0])
    plan = make_plan(suite, device="cpu")
    planned = {cell.method for cell in plan.cells}
    assert {"scratch", "kd", "bm25", "teacher", "fitnets_retrieval", "lelp_retrieval"} <= planned
    assert not {"fitnets", "fitnets_joint", "lelp", "tfidf"} & planned
    for name in {*METHODS.names(), *BASELINES.names()} - planned:
        assert any(f"'{name}'" in note for note in plan.notes), name


METHOD_CELLS = ["scratch", "kd", "kd:loss=margin_mse", "fitnets_retrieval", "lelp_retrieval"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run real cells on a small mirror through the command line; records by label."""
    base = tmp_path_factory.mktemp("msmarco")
    names = [*METHOD_CELLS, "bm25", "teacher"]
    return run_cells(base, names, "msmarco", "--set", "epochs=4", "--set", "batch_size=10")


def run_cells(base: Path, names: list[str], task: str, *more: str) -> dict[str, dict[str, Any]]:
    write_beir(base / "mirror", two=True)
    said = bench(
        *["run", "--methods", ",".join(names), "--tasks", task],
        *["--source", "mirror", "--seeds", "1", "--device", "cpu"],
        *["--results", base / "out", *more],
        BENCH_CACHE=str(base / "cache"),
        BENCH_DATA=str(base / "mirror"),
    )
    assert said.code == 0, said.text
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


@pytest.mark.usefixtures("mirror")
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
