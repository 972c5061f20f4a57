"""What distillation is held against: label smoothing, TF-IDF and the teacher itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from bench import BASELINES, BenchError
from bench.config import Config, build
from bench.data.tokens import beginnings, cached_tokens
from bench.method import Progress
from bench.tasks.preset import Preset, Recipe
from bench.tasks.text import Texts, TextTask
from bench.types import Batch, Output

RECIPE = Recipe(epochs=1, batch_size=4, learning_rate=0.1)
CHEERFUL = "good great lovely superb bright happy"
GLOOMY = "bad awful dreadful poor dull sad"
DRY = "seven table metal window number chair"


def sentences(rows: int, seed: int, classes: int = 3) -> tuple[list[str], np.ndarray]:
    """Return texts whose words tell their class, different ones for each seed."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    words = [text.split() for text in (CHEERFUL, GLOOMY, DRY)]
    told = [" ".join(generator.choice(words[k], 3)) for k in labels]
    texts = [f"on day {seed} the film was {each} today" for each in told]
    return texts, labels.astype(np.int64)


class Moods(TextTask):
    """Three classes, told by their words."""

    name = "moods"
    num_classes = 3
    presets: ClassVar = {
        "quick": Preset(
            source="embedded",
            student="bert-L1-H32",
            teacher="minilm",
            recipe=RECIPE,
            teacher_recipe=RECIPE,
        )
    }
    content: Callable[[], Texts] = staticmethod(
        lambda: {
            "train": sentences(60, 0),
            "validation": sentences(24, 1),
            "test": sentences(36, 2),
            "further": sentences(12, 3),
        }
    )

    def texts(self) -> Texts:
        return self.content()


@pytest.fixture
def tfidf(new_method):
    return new_method("tfidf")


def test_tfidf_gives_log_probabilities_of_every_held_out_split(tfidf) -> None:
    found = tfidf.predict(task=Moods("quick"), seed=0, teacher={}).logits
    assert {name: value.shape for name, value in found.items()} == {
        "validation": (24, 3),
        "test": (36, 3),
        "further": (12, 3),
    }
    for value in found.values():
        assert value.dtype == np.float32
        np.testing.assert_allclose(logsumexp(value, axis=1), 0.0, atol=1e-5)


def test_tfidf_learns_what_words_tell(tfidf) -> None:
    task = Moods("quick")
    found = tfidf.predict(task=task, seed=0, teacher={}).logits["test"]
    assert task.evaluate(found, task.texts()["test"][1])["accuracy"] > 0.95  # chance: 1/3


def test_tfidf_reads_whole_texts_or_what_the_student_reads(new_method) -> None:
    filler = "and so on and so forth " * 20  # what tells the class stands after the student's cut
    task = Moods("quick")
    texts = {
        name: ([f"{filler} {row}" for row in rows], labels)
        for name, (rows, labels) in task.texts().items()
    }
    task.content = lambda: texts
    scores = {}
    for reads in ("whole", "student"):
        said = new_method("tfidf", reads=reads).predict(task=task, seed=0, teacher={})
        scores[reads] = task.evaluate(said.logits["test"], texts["test"][1])["accuracy"]
    assert scores["whole"] > 0.95
    assert scores["student"] == pytest.approx(1 / 3)  # nothing is left that differs


@given(st.lists(st.text(max_size=300), min_size=1, max_size=4), st.integers(3, 64))
@settings(max_examples=30, deadline=None)
def test_the_beginning_of_a_text_has_the_tokens_that_a_model_reads(
    texts: list[str], length: int
) -> None:
    whole, _ = cached_tokens(texts, "minilm", length)
    cut, _ = cached_tokens(beginnings(texts, "minilm", length), "minilm", length)
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tfidf_never_looks_at_test_labels(tfidf) -> None:
    task = Moods("quick")
    expected = tfidf.predict(task=task, seed=0, teacher={}).logits
    texts = task.texts()
    texts["test"] = (texts["test"][0], np.zeros(36, dtype=np.int64))
    task.content = lambda: texts
    for name, value in tfidf.predict(task=task, seed=0, teacher={}).logits.items():
        np.testing.assert_array_equal(value, expected[name])


def test_tfidf_keeps_its_columns_where_training_lacks_a_class(tfidf) -> None:
    task = Moods("quick")
    texts = task.texts()
    rows, labels = texts["train"]
    texts["train"] = (
        [row for row, label in zip(rows, labels, strict=True) if label != 1],
        labels[labels != 1],
    )
    task.content = lambda: texts
    found = tfidf.predict(task=task, seed=0, teacher={}).logits["test"]
    assert found.shape == (36, 3)
    kept = texts["test"][1] != 1
    assert (found.argmax(axis=1) == texts["test"][1])[kept].all()


def test_teacher_row_is_the_teachers_own_logits() -> None:
    baseline = BASELINES.get("teacher")(Config())
    logits = {
        name: np.random.default_rng(at).normal(size=(5, 3)).astype(np.float32)
        for at, name in enumerate(("validation", "test"))
    }
    copies = {name: value.copy() for name, value in logits.items()}
    found = baseline.predict(task=Moods("quick"), seed=3, teacher=logits).logits
    assert found.keys() == copies.keys()
    for name, value in copies.items():
        np.testing.assert_array_equal(found[name], value)
    assert baseline.needs_teacher
    assert not baseline.seeded


# --- label smoothing ---


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_no_smoothing_is_the_plain_student_bit_for_bit(world, differing) -> None:
    plain = world.run("scratch").student.state_dict()
    none = world.run("label_smoothing", options={"epsilon": 0.0}).student.state_dict()
    some = world.run("label_smoothing", options={"epsilon": 0.1}).student.state_dict()
    assert differing(plain, none) == []
    assert differing(plain, some)


@given(st.tuples(st.integers(1, 6), st.integers(2, 7)), st.floats(0.0, 0.9), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_label_smoothing_by_hand(size: tuple[int, int], epsilon: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(size, generator=generator)
    labels = torch.randint(size[1], (size[0],), generator=generator)
    cls = BASELINES.get("label_smoothing")
    found = cls(cls.Config(epsilon=epsilon)).loss(
        batch=Batch({}, labels, torch.arange(size[0])),
        student=Output(logits),
        teacher=None,
        progress=Progress("main", 0, 1),
    )
    rows = logits.double().numpy()
    log_probability = rows - logsumexp(rows, axis=1, keepdims=True)
    target = np.full(size, epsilon / size[1])
    target[np.arange(size[0]), labels.numpy()] += 1 - epsilon
    expected = -(target * log_probability).sum(axis=1).mean()
    assert set(found) == {"ce"}
    assert found["ce"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, float("nan")])
def test_senseless_smoothing_is_refused(epsilon: float) -> None:
    with pytest.raises(BenchError, match="epsilon"):
        build(BASELINES.get("label_smoothing").Config, {"epsilon": epsilon}, "label_smoothing")
