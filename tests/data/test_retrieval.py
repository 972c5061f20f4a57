"""Splits of retrieval: lists as batches, in-batch negatives, and signals that are what a live
teacher says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.data.retrieval import ListSplit, TokenTable, foreign_negatives
from bench.data.splits import View
from bench.errors import NotApplicable
from bench.models.base import Model
from bench.models.retriever import build_retriever
from bench.teachers.fill import fill, run
from bench.teachers.lists import OwnLists
from bench.teachers.signals import CachedTeacher, LiveTeacher, StaleSignals, check

LISTS = np.array([[0, 5, 6], [1, 6, 7], [2, 0, -1], [0, 8, 9], [4, 3, 5]])
RELEVANT = np.array([[0, -1], [1, 5], [2, -1], [0, -1], [4, -1]])


def tokens(count: int, seed: int) -> TokenTable:
    generator = np.random.default_rng(seed)
    rows = [
        np.array([101, *generator.integers(1000, 1060, generator.integers(1, 7)), 102])
        for _ in range(count)
    ]
    return TokenTable(rows, pad=0)


def split(**changes: Any) -> ListSplit:
    values = {
        "query_of": np.arange(5),
        "relevant": RELEVANT,
        "lists": lambda: LISTS,
        "candidates": 3,
        **changes,
    }
    return ListSplit(tokens(5, 1), tokens(10, 2), **values)


def teacher() -> Model:
    torch.manual_seed(0)
    return build_retriever("dual:bert-L1-H32").fix()


def test_tokens_come_back_as_they_were() -> None:
    rows = [np.array([5, 6, 7]), np.array([9]), np.array([70_000, 1])]
    table = TokenTable(rows, pad=3)
    ids, mask = table.batch(np.array([2, 0]), torch.device("cpu"))
    assert ids.tolist() == [[70_000, 1, 3], [5, 6, 7]]
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert TokenTable(rows[:2], pad=3).ids.dtype == np.uint16
    assert TokenTable(rows, 3).digest == table.digest != TokenTable(rows[:2], 3).digest


def test_a_batch_holds_each_querys_candidates() -> None:
    data = split()
    batch = data.batch(np.array([2, 1]))
    assert batch.labels.tolist() == [0, 0] and batch.index.tolist() == [2, 1]
    assert batch.inputs["real"].tolist() == [[True, True, False], [True, True, True]]
    assert "foreign" not in batch.inputs
    for row, sample in enumerate((2, 1)):
        for place, passage in enumerate(LISTS[sample]):
            if passage >= 0:
                mask = batch.inputs["passage_mask"][row, place]
                found = batch.inputs["passage_ids"][row, place][mask]
                assert found.tolist() == data.passages.ids[passage][: len(found)].tolist()
                assert len(found) == data.passages.lengths[passage]


def test_lists_are_made_when_first_needed_and_once() -> None:
    made: list[int] = []

    def lists() -> np.ndarray:
        made.append(1)
        return LISTS

    data = split(lists=lists)
    assert len(data) == 5 and len(data.training_order(0, 0, 2)) == 2 and not made
    data.batch(np.array([0]))
    data.batch(np.array([1]))
    assert made == [1]


def test_foreign_negatives_by_hand() -> None:
    found = foreign_negatives(LISTS[:3], RELEVANT[:3])
    # columns: passages 0 5 6 | 1 6 7 | 2 0 −
    assert found.astype(int).tolist() == [
        [0, 0, 0, 1, 0, 1, 1, 0, 0],  # own 0 5 6: neither they nor 0 in the third list
        [1, 0, 0, 0, 0, 0, 1, 1, 0],  # 5 is judged relevant to the second query, 6 its own
        [0, 1, 1, 1, 1, 1, 0, 0, 0],
    ]


def test_only_training_batches_have_in_batch_negatives() -> None:
    data = split(in_batch=True)
    assert "foreign" not in data.batch(np.arange(3)).inputs
    assert data.batch(np.arange(3), View(0, 0)).inputs["foreign"].shape == (3, 9)
    assert "foreign" not in split().batch(np.arange(3), View(0, 0)).inputs


def filled(data: ListSplit, model: Model) -> Path:
    folder = fill(model, data, teacher="ab" * 32, batch_size=2, precision="float32")
    assert folder is not None
    return folder


@pytest.mark.parametrize("fixed", [True, False])
def test_cached_signals_are_the_live_teachers(fixed: bool) -> None:
    """Encoded once a text or run list by list: the same scores and embeddings."""
    data, model = split(), teacher()
    model.fixed = fixed
    live = LiveTeacher(model, "float32")
    cached = CachedTeacher(filled(data, model), torch.device("cpu"), live=live, part=data.part)
    batch = data.batch(np.array([3, 1, 0]))
    kept, fresh = cached(batch, ()), live(batch, ())
    assert kept.scores.shape == (3, 3)
    assert kept.embedding is not None and kept.embedding.shape == (3, 4, 32)
    torch.testing.assert_close(kept.scores, fresh.scores, atol=0.02, rtol=1e-3)
    torch.testing.assert_close(kept.embedding, fresh.embedding, atol=1e-3, rtol=1e-3)
    check(cached, live, data, None)
    assert live.samples == 3 + 5  # asked above and by the check, never through the cache


def test_an_empty_place_survives_the_cache() -> None:
    data, model = split(), teacher()
    cached = CachedTeacher(filled(data, model), torch.device("cpu"), part=data.part)
    scores = cached(data.batch(np.array([2])), ()).scores
    assert torch.isneginf(scores[0]).tolist() == [False, False, True]


def test_the_check_sees_places_that_are_empty_in_the_cache_alone() -> None:
    data, model = split(), teacher()
    path = filled(data, model) / "logits.npy"
    kept = np.load(path)
    kept[0, 2] = -np.inf
    np.save(path, kept)
    cached = CachedTeacher(path.parent, torch.device("cpu"), part=data.part)
    with pytest.raises(StaleSignals, match="the empty places differ"):
        check(cached, LiveTeacher(model, "float32"), data, None)


def test_other_lists_do_not_get_these_ones_scores() -> None:
    """Neither from the cache's folder nor through a cache that is open."""
    data, model, other = split(), teacher(), split(lists=lambda: np.roll(LISTS, 1, axis=0))
    cached = CachedTeacher(filled(data, model), torch.device("cpu"), part=data.part)
    assert filled(other, model) != cached.folder == filled(split(), model)
    assert split().part == data.part != split(query_of=np.roll(np.arange(5), 1)).part
    with pytest.raises(KeyError):
        cached(other.batch(np.array([0])), ())


class Spoilt(torch.nn.Module):
    """A teacher one of whose scores is ``value``, in place ``place`` of every list."""

    def __init__(self, place: int, value: float) -> None:
        super().__init__()
        self.inner, self.place, self.value = teacher().requires_grad_(True), place, value
        self.width = self.inner.width
        self.vectors = self.inner.vectors  # type: ignore[union-attr]

    def forward(self, inputs: Any, hidden: Any = ()) -> Any:
        output = self.inner(inputs)
        output.scores[:, self.place] = self.value
        return output


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 7e4])
def test_a_score_that_float16_cannot_hold_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="not finite in float16"):
        run(Spoilt(1, value), split(), None, [], 2, "float32")  # type: ignore[arg-type]


def test_a_score_where_nothing_is_listed_is_an_error() -> None:
    with pytest.raises(ValueError, match="scores for empty places"):
        run(Spoilt(2, 1.0), split(), None, [], 2, "float32")  # type: ignore[arg-type]


def test_a_teacher_gives_in_batch_negatives_probability_zero() -> None:
    data, model = split(in_batch=True), teacher()
    source = OwnLists(LiveTeacher(model, "float32"))
    batch = data.batch(np.array([0, 1]), View(0, 0))
    found = source(batch, (), View(0, 0))
    assert found.scores.shape == (2, 9) == model(batch.inputs).scores.shape
    assert torch.isneginf(found.scores[:, 3:]).all()
    plain = model(data.batch(np.array([0, 1])).inputs).scores
    torch.testing.assert_close(found.scores[:, :3], plain)
    assert source.samples == 2 and source.served == "live"
    # a fit-time pass has no view and no in-batch negatives
    assert source(data.batch(np.array([0, 1])), ()).scores.shape == (2, 3)


def test_hidden_layers_are_not_to_be_had() -> None:
    data, model = split(), teacher()
    assert (
        fill(model, data, teacher="cd" * 32, layers=[0], batch_size=2, precision="float32") is None
    )
    with pytest.raises(NotApplicable):
        LiveTeacher(model, "float32")(data.batch(np.array([0])), [0])
