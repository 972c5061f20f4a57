"""Judged collections: damage is counted and told, and nothing leaks between splits."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.judged import Judged, assemble, normalised, padded
from bench.errors import BenchError

PASSAGES = [(f"p{at}", f"passage number {at}") for at in range(10)]
QUERIES = [(f"q{at}", f"what is {at}") for at in (0, 1, 2, 4, 5, 6, 7)]
MORE_QUERIES = [*QUERIES, ("q3", "what is 3")]
PAIRS = {
    "train": [("q0", "p0"), ("q1", "p1"), ("q1", "p2"), ("q2", "p3")],
    "validation": [("q4", "p4"), ("q5", "p5")],
    "test": [("q6", "p6"), ("q7", "p7")],
}


def made(**changes: object) -> Judged:
    parts = {"passages": PASSAGES, "queries": QUERIES, "pairs": PAIRS, **changes}
    return assemble(**parts)  # type: ignore[arg-type]


def test_a_sound_collection_is_kept_whole() -> None:
    found = made()
    assert found.passages == [text for _, text in PASSAGES]
    assert found.queries["train"] == ["what is 0", "what is 1", "what is 2"]
    assert found.relevant["train"] == [[0], [1, 2], [3]]
    assert found.relevant["test"] == [[6], [7]]
    assert not any(found.dropped.values())


@pytest.mark.parametrize(
    ("changes", "reason", "count"),
    [
        ({"passages": [*PASSAGES, ("p0", "another")]}, "passages with an id seen before", 1),
        ({"queries": [*QUERIES, ("q0", "another")]}, "queries with an id seen before", 1),
        ({"passages": [*PASSAGES, ("p10", " "), ("p11", "")]}, "empty passages", 2),
        ({"queries": [*QUERIES, ("q9", "\n")]}, "empty queries", 1),
        (
            {"pairs": {**PAIRS, "train": [*PAIRS["train"], ("q99", "p1")]}},
            "pairs whose query is missing",
            1,
        ),
        (
            {"pairs": {**PAIRS, "train": [*PAIRS["train"], ("q0", "p99")]}},
            "pairs whose passage is missing",
            1,
        ),
        ({"pairs": {**PAIRS, "train": [*PAIRS["train"], ("q0", "p0")]}}, "repeated pairs", 1),
        ({"queries": MORE_QUERIES}, "queries without a positive", 1),
    ],
)
def test_damage_is_counted_and_the_rest_goes_on(
    changes: dict[str, object], reason: str, count: int
) -> None:
    found, sound = made(**changes), made()
    assert {name: value for name, value in found.dropped.items() if value} == {reason: count}
    assert (found.queries, found.relevant) == (sound.queries, sound.relevant)
    assert found.passages == sound.passages


def test_a_query_without_a_positive_is_dropped_and_told() -> None:
    pairs = {**PAIRS, "test": [*PAIRS["test"], ("q3", "p99")]}
    found = made(queries=MORE_QUERIES, pairs=pairs)
    assert found.dropped["test queries without a positive"] == 1
    assert found.dropped["pairs whose passage is missing"] == 1
    assert not found.dropped["queries without a positive"]  # counted once
    assert found.queries["test"] == ["what is 6", "what is 7"]


def test_an_empty_passage_takes_its_query_along() -> None:
    passages = [(name, "" if name == "p6" else text) for name, text in PASSAGES]
    found = made(passages=passages)
    assert found.dropped["empty passages"] == 1
    assert found.dropped["test queries without a positive"] == 1
    assert found.queries["test"] == ["what is 7"]
    assert found.passages[found.relevant["test"][0][0]] == "passage number 7"


def test_the_first_of_two_rows_with_one_id_counts() -> None:
    found = made(passages=[*PASSAGES, ("p6", "an impostor")])
    assert found.passages[found.relevant["test"][0][0]] == "passage number 6"


def test_a_split_with_nothing_left_is_an_error_that_counts() -> None:
    with pytest.raises(BenchError, match=r"split 'test' has no usable query .*2 pairs whose query"):
        made(pairs={**PAIRS, "test": [("x", "p1"), ("y", "p1")]})
    with pytest.raises(BenchError, match=r"split 'validation' has no usable query"):
        made(pairs={"train": PAIRS["train"], "test": PAIRS["test"]})


def test_the_twin_of_a_held_out_query_is_not_trained_on() -> None:
    queries = [*QUERIES, ("twin", "What is... 6?"), ("other", "what is 4 ")]
    pairs = {**PAIRS, "train": [*PAIRS["train"], ("twin", "p8"), ("other", "p9")]}
    found = made(queries=queries, pairs=pairs)
    assert found.dropped["train queries that a later split asks too"] == 2
    assert found.queries["train"] == ["what is 0", "what is 1", "what is 2"]


def test_a_validation_query_of_the_test_is_dropped_from_validation() -> None:
    queries = [*QUERIES, ("twin", "WHAT IS 7")]
    found = made(queries=queries, pairs={**PAIRS, "validation": [("q4", "p4"), ("twin", "p5")]})
    assert found.queries["validation"] == ["what is 4"]
    assert found.queries["test"] == ["what is 6", "what is 7"]


def test_a_query_asked_twice_in_a_held_out_split_counts_once() -> None:
    queries = [*QUERIES, ("twin", "WHAT IS 7")]
    found = made(queries=queries, pairs={**PAIRS, "test": [*PAIRS["test"], ("twin", "p8")]})
    assert found.queries["test"] == ["what is 6", "what is 7"]
    assert found.dropped["test queries asked twice"] == 1


def test_no_held_out_answer_is_a_training_answer() -> None:
    pairs = {**PAIRS, "train": [*PAIRS["train"], ("q2", "p6"), ("q3", "p4")]}
    found = made(queries=MORE_QUERIES, pairs=pairs)
    held = {p for name in ("validation", "test") for row in found.relevant[name] for p in row}
    assert not held & {p for row in found.relevant["train"] for p in row}
    # q2 answers with p3 too, but p6 must not come back as one of its negatives
    assert found.queries["train"] == ["what is 0", "what is 1"]
    assert found.dropped["train queries whose passage answers a held-out query"] == 2


def test_a_held_out_answer_is_no_training_answer_under_another_id() -> None:
    passages = [*PASSAGES, ("copy", "Passage number... 6")]
    pairs = {**PAIRS, "train": [*PAIRS["train"], ("q3", "copy")]}
    found = made(passages=passages, queries=MORE_QUERIES, pairs=pairs)
    assert found.queries["train"] == ["what is 0", "what is 1", "what is 2"]
    assert found.dropped["train queries whose passage answers a held-out query"] == 1


def test_normalised_and_padded() -> None:
    assert normalised("What IS, a  list?") == normalised("what is a list")
    assert normalised("???") == "???"  # nothing but marks is still a text of its own
    np.testing.assert_array_equal(padded([[1], [2, 3]]), [[1, -1], [2, 3]])
