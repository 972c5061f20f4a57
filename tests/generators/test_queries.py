"""Generated queries: what a generator reads of retrieval, and what the lists make of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from bench import METHODS
from bench.config import build
from bench.data.retrieval import ListSplit, SearchSplit, TokenTable
from bench.data.splits import TextSplit, View
from bench.generators.text import CompactBart
from bench.method import Generation, Progress
from bench.models.retriever import build_retriever
from bench.teachers.signals import LiveTeacher
from bench.training.generation import Generated, Variant, unlabelled
from methods.tgt import entropy

if TYPE_CHECKING:
    from conftest import Call

PASSAGES, CANDIDATES = 20, 4
MAIN = Progress("main", 0, 4)


def table(count: int, seed: int) -> TokenTable:
    generator = np.random.default_rng(seed)
    rows = [
        np.array([101, *generator.integers(1000, 1040, 2 + at % 4), 102]) for at in range(count)
    ]
    return TokenTable(rows, pad=0)


def lists(*, in_batch: bool = False) -> ListSplit:
    """Return five samples of four queries: the last query has two answers."""
    rows = np.array([[0, 9, 8, 7], [1, 9, 8, -1], [2, 7, 6, 5], [3, 9, 4, 5], [4, 9, 8, 7]])
    return ListSplit(
        table(4, 0),
        table(PASSAGES, 1),
        query_of=np.array([0, 1, 2, 3, 3]),
        relevant=np.array([[0, -1], [1, -1], [2, -1], [3, 4], [3, 4]]),
        lists=lambda: rows,
        candidates=CANDIDATES,
        in_batch=in_batch,
    )


def search() -> SearchSplit:
    return SearchSplit(
        table(6, 2),
        table(PASSAGES, 1),
        np.array([[0, -1], [1, 2], [3, -1], [4, -1], [5, 6], [7, -1]]),
        depth=10,
        rerank=5,
        first_stage=lambda: np.tile(np.arange(10), (6, 1)),
    )


def test_texts_are_the_queries_of_the_samples() -> None:
    split = lists()
    texts = split.texts()
    assert len(texts) == len(split) == 5
    index = np.array([4, 1, 3])
    inputs, read = split.batch(index).inputs, texts.batch(index).inputs
    assert read["input_ids"].equal(inputs["query_ids"])
    assert read["attention_mask"].equal(inputs["query_mask"])
    back = split.with_texts(inputs, read)
    assert back.keys() == inputs.keys() and all(back[k].equal(inputs[k]) for k in inputs)


def test_rewritten_lists_keep_their_candidates_and_lend_none() -> None:
    split = lists(in_batch=True)
    new = [np.array([101, 1500 + at, 102]) for at in range(5)]
    made = split.rewritten(new)
    index = np.array([3, 0])
    inputs = made.batch(index, View(0, 0)).inputs
    assert inputs["query_ids"].tolist() == [[101, 1503, 102], [101, 1500, 102]]
    assert "foreign" not in inputs and "foreign" in split.batch(index, View(0, 0)).inputs
    for name in ("passage_ids", "passage_mask", "real"):
        assert inputs[name].equal(split.batch(index).inputs[name])
    # nobody knows whether the answer is still one
    assert made.batch(index).labels.tolist() == [-1, -1]
    assert split.batch(index).labels.tolist() == [0, 0]
    assert made.part != split.part  # other queries must not get these ones' scores


def test_held_out_queries_in_lists_have_one_answer_each() -> None:
    split, again = search().listed(CANDIDATES), search().listed(CANDIDATES)
    assert np.array_equal(split.lists, again.lists)
    assert split.lists[:, 0].tolist() == [0, 1, 3, 4, 5, 7]
    for row, right in zip(split.lists, split.relevant, strict=True):
        assert not set(row[1:]) & set(right) and len(set(row)) == CANDIDATES
    assert (
        search()
        .texts()
        .batch(np.arange(6))
        .inputs["input_ids"]
        .equal(split.batch(np.arange(6)).inputs["query_ids"])
    )
    tiny = SearchSplit(
        table(1, 2), table(2, 1), np.array([[1]]), depth=2, rerank=2, first_stage=lambda: None
    )  # type: ignore[arg-type, return-value]
    assert tiny.listed(CANDIDATES).lists.tolist() == [[1, 0, -1, -1]]


def test_texts_of_a_text_task_are_the_split_itself() -> None:
    split = TextSplit([np.array([101, 5, 102])] * 3, np.array([0, 1, 0]), pad=0)
    assert split.texts() is split
    made = split.rewritten([np.array([101, at, 102]) for at in range(3)])
    assert made.labels.tolist() == [-1, -1, -1]
    read = made.batch(np.arange(3)).inputs
    assert split.with_texts(split.batch(np.arange(3)).inputs, read) is read


def made(name: str) -> Any:
    torch.manual_seed(0)
    return build_retriever(name).eval().requires_grad_(False)


def method(**options: Any) -> Any:
    cls = METHODS.get("tgt")
    return cls(build(cls.Config, options, "tgt"))


def test_the_teacher_scores_a_new_query_over_the_old_ones_candidates() -> None:
    split = lists(in_batch=True)
    teacher = LiveTeacher(made("dual:bert-L1-H32"), "float32")
    variant = split.rewritten([np.array([101, 1500 + at, 102]) for at in range(5)])
    generated = Generated(
        train=split,
        source=teacher,
        seed=0,
        precision="float32",
        variants=[Variant(variant, teacher)],
    )
    index = np.array([1, 4])
    student = made("dual:bert-L1-H32")
    batch, said = generated(
        method(), student, split.batch(index, View(0, 0)), view=View(0, 0), epoch=0, at=0,
        progress=MAIN,
    )  # fmt: skip
    assert batch.inputs["query_ids"].tolist() == [[101, 1501, 102], [101, 1504, 102]]
    assert said.scores.shape == (2, CANDIDATES)
    assert said.scores[0, 3] == -torch.inf and said.scores.isfinite().sum() == 7
    own = method(w_gen=0.5)
    own._notes = {}
    terms = own.generated_loss(
        batch=batch, student=student(batch.inputs), teacher=said, progress=MAIN
    )
    assert terms["gen"].isfinite()
    assert own.notes()["entropy_generated"].isfinite()


@pytest.mark.parametrize("source", ["augment", "data"])
def test_controls_without_a_generator_stay_within_lists(source: str) -> None:
    split = lists(in_batch=True)
    teacher = LiveTeacher(made("dual:bert-L1-H32"), "float32")
    control = method(source=source)
    control._members = [np.arange(5)]
    generated = Generated(train=split, source=teacher, seed=0, precision="float32")
    batch, said = generated(
        control, made("dual:bert-L1-H32"), split.batch(np.arange(3), View(0, 0)),
        view=View(0, 0), epoch=0, at=0, progress=MAIN,
    )  # fmt: skip
    assert "foreign" not in batch.inputs
    assert said.scores.shape == (3, CANDIDATES)
    assert batch.labels.tolist() == [-1, -1, -1]


def test_word_dropout_thins_queries_and_nothing_else() -> None:
    split = lists()
    batch = split.batch(np.arange(5))
    context = Generation(
        None, lambda given: None, None, split.batch, torch.Generator().manual_seed(0)
    )  # type: ignore[arg-type, return-value]
    inputs = method(source="augment").generate(batch=batch, context=context, progress=MAIN)
    assert inputs["query_mask"][:, 0].all()
    assert (batch.inputs["query_mask"] | ~inputs["query_mask"]).all()
    for name in ("query_ids", "passage_ids", "passage_mask", "real"):
        assert inputs[name] is batch.inputs[name]


def test_a_generated_batch_has_no_in_batch_negatives() -> None:
    inputs = lists(in_batch=True).batch(np.arange(3), View(0, 0)).inputs
    assert "foreign" in inputs and "foreign" not in unlabelled(inputs).inputs


def test_entropy_counts_what_is_there() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf, -torch.inf], [5.0, 5.0, 5.0, 5.0]])
    assert float(entropy(logits)) == pytest.approx((np.log(2) + np.log(4)) / 2)


def test_a_bart_writes_queries_of_their_own_length() -> None:
    from bench.generators.base import check_fits

    texts = lists().texts()
    bart = CompactBart(
        1, 32, tokens=torch.arange(1000, 1040), vocabulary_size=30522, max_length=12
    ).eval()
    bart.name = "bart-L1-H32"
    check_fits(bart, texts.batch(np.arange(2)).inputs, "msmarco")
    with torch.no_grad():
        found = bart.decode(bart.encode(texts.batch(np.arange(5)).inputs))
    assert found["input_ids"].shape[0] == 5 and found["input_ids"].shape[1] <= 12


@pytest.mark.slow
def test_tgt_trains_on_generated_queries_end_to_end(call: Call, tmp_path: Path) -> None:
    said = call(
        *[
            "run",
            "--methods",
            "kd,tgt",
            "--tasks",
            "msmarco",
            "--seeds",
            "1",
            "--workers",
            "1",
            "--set",
            "train_limit=96",
        ],
        *["--set", "epochs=1", "--set", "generator_recipe.epochs=1"],
    )
    assert said.code == 0, said.err
    (path,) = (tmp_path / "results" / "quick" / "msmarco" / "tgt").glob("seed0-????????????.json")
    record = json.loads(path.read_text())
    assert 0 <= record["generator"]["judged"]["reconstructed"] <= 1
    # one pass over the training lists, one over the generated ones, and none live in a step
    assert record["timings"]["generate_s"] < record["timings"]["total_s"] / 2
    shown = SimpleNamespace(**json.loads(path.with_suffix(".samples.json").read_text()))
    assert {row["kind"] for row in shown.rows} == {"real", "reconstructed", "perturbed"}
    assert shown.class_names[0] == "answer"
