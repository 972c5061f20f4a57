"""Few labels and long tails: which samples, what stays whole, and what nobody may see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench import TASKS
from bench.data.splits import View
from bench.data.unlabelled import Unlabelled
from bench.errors import BenchError
from bench.metrics.groups import class_groups, group_accuracy
from bench.tasks.base import Data, Task
from bench.tasks.variants import Chosen, Variant, long_tail_counts

LABELS = st.lists(st.integers(0, 4), min_size=5, max_size=80).map(np.array)


def task(name: str = "cifar10", **options: Any) -> Task:
    return TASKS.get(name)("quick", overrides=options)


def counts(data: Data, classes: int) -> list[int]:
    return np.bincount(data.train.labels.numpy(), minlength=classes).tolist()


@given(LABELS, st.data())
def test_a_smaller_n_is_part_of_a_larger_and_the_rest_is_the_rest(labels, data) -> None:
    large = data.draw(st.integers(1, len(labels)))
    small = data.draw(st.integers(1, large))
    more, fewer = (Variant(n=n).choose(labels, 5) for n in (large, small))
    assert len(more.labelled) == large and len(fewer.labelled) == small
    assert set(fewer.labelled) <= set(more.labelled)
    both = np.concatenate([fewer.labelled, fewer.unlabelled])
    assert sorted(both.tolist()) == list(range(len(labels)))
    again = Variant(n=small).choose(labels.copy(), 5)
    assert np.array_equal(again.labelled, fewer.labelled)


@given(LABELS, st.data())
def test_n_is_balanced_by_class_until_one_runs_out(labels, data) -> None:
    n = data.draw(st.integers(1, len(labels)))
    available = np.bincount(labels, minlength=5)
    taken = np.bincount(labels[Variant(n=n).choose(labels, 5).labelled], minlength=5)
    left = taken < available
    if left.any():  # who has samples left has at most one less than anybody else
        assert taken[left].min() >= taken.max() - 1


def test_the_choice_is_no_prefix_of_the_set() -> None:
    labels = np.repeat(np.arange(4), 100)
    chosen = Variant(n=40).choose(labels, 4).labelled
    assert len(set(chosen % 100 // 20)) == 5  # from all over each class


def test_cifar_10_lt_as_published() -> None:
    cifar = np.full(10, 5000)
    expected = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert long_tail_counts(cifar, 100).tolist() == expected
    assert long_tail_counts(cifar, 10).tolist()[::9] == [5000, 500]
    assert long_tail_counts(cifar, 1).tolist() == [5000] * 10
    labels = np.tile(np.arange(10), 500)
    chosen = Variant(imbalance=50).choose(labels, 10)
    assert chosen.unlabelled is None
    assert np.bincount(labels[chosen.labelled]).tolist() == [
        int(500 * 50 ** (-place / 9) + 1e-9) for place in range(10)
    ]


@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), st.floats(1, 200))
def test_unequal_classes_give_the_largest_tail_that_fits(sizes: list[int], ratio: float) -> None:
    available = np.array(sizes)
    tail = long_tail_counts(available, ratio)
    assert (tail <= available).all()
    assert (np.diff(tail) <= 0).all()
    share = ratio ** -(np.arange(len(sizes)) / (len(sizes) - 1))
    assert ((tail[0] + 1) * share > available - 1e-6).any()


@pytest.mark.parametrize("name", ["cifar10", "amazon"])
def test_loaded_splits_of_few_labels(name: str) -> None:
    whole, few, more = task(name).load(), task(name, n=40).load(), task(name, n="90").load()
    classes = task(name).num_classes
    assert counts(few, classes) == [40 // classes] * classes
    assert few.unlabelled is not None
    assert (few.unlabelled.labels == -1).all()
    assert few.rows()["unlabelled"] == len(whole.train) - 40
    ours, theirs = contents(few.train), contents(more.train)
    hidden, everything = contents(few.unlabelled), contents(whole.train)
    assert set(ours) <= set(theirs)
    assert sorted([*ours, *hidden]) == sorted(everything)
    for split in ("validation", "test"):
        one, other = getattr(whole, split), getattr(few, split)
        assert torch.equal(one.labels, other.labels)
        assert contents(one) == contents(other)
    if few.texts is not None:
        assert len(few.texts["train"]) == 40
        assert len(few.texts["unlabelled"]) == len(few.unlabelled)
        assert not few.further


def contents(split: Any) -> list[bytes]:
    """Return what a model is given of each sample, un-augmented."""
    if hasattr(split, "tokens"):
        return [tokens.tobytes() for tokens in split.tokens]
    batch = split.batch(np.arange(len(split)))
    return [image.numpy().tobytes() for image in batch.inputs["image"]]


@pytest.mark.parametrize(("name", "ratio"), [("cifar10", 10), ("amazon", 5)])
def test_loaded_splits_of_a_long_tail(name: str, ratio: float) -> None:
    whole, tail = task(name).load(), task(name, imbalance=ratio).load()
    classes = task(name).num_classes
    expected = long_tail_counts(np.array(counts(whole, classes)), ratio)
    assert counts(tail, classes) == expected.tolist()
    assert tail.unlabelled is None
    assert set(contents(tail.train)) <= set(contents(whole.train))
    assert contents(tail.test) == contents(whole.test)
    assert contents(tail.validation) == contents(whole.validation)
    assert sorted(each for group in tail.groups.values() for each in group) == list(range(classes))
    assert not whole.groups and not task(name, n=50).load().groups


def test_finer_labels_follow_the_choice() -> None:
    data = task("cifar10-binary", n=60).load()
    assert data.subclasses is not None
    assert len(data.subclasses) == 60
    assert torch.equal(data.subclasses % 2, data.train.labels)


def test_train_limit_comes_first() -> None:
    data = task(train_limit=200, n=50).load()
    assert data.rows()["train"] == 50
    assert data.rows()["unlabelled"] == 150


def test_with_all_samples_nothing_is_left_unlabelled() -> None:
    size = len(task().load().train)
    data = task(n=size).load()
    assert data.unlabelled is None
    assert len(data.train) == size


@pytest.mark.parametrize("name", ["cifar10", "cifar10-binary", "amazon"])
def test_hidden_labels_reach_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a method is built from is the same whatever the hidden labels say."""
    clean = task(name, n=40)
    found = clean.load()
    kept: list[Chosen] = []
    original = Variant.choose

    def choose(self: Variant, labels: np.ndarray, classes: int) -> Chosen:
        kept.append(original(self, labels, classes))
        return kept[0]

    monkeypatch.setattr(Variant, "choose", choose)
    task(name, n=40).load()
    poisoned = task(name, n=40)
    method = "arrays" if hasattr(poisoned, "arrays") else "texts"
    splits = getattr(poisoned, method)()
    inputs, labels = splits["train"]
    poison = labels.copy()
    hidden = kept[0].unlabelled
    poison[hidden] = (labels[hidden] + 1) % poisoned.num_classes
    assert (poison != labels).any()
    monkeypatch.setattr(poisoned, method, lambda: {**splits, "train": (inputs, poison)})
    for one, other in zip(bits(found), bits(poisoned.load()), strict=True):
        assert one == other


def bits(data: Data) -> list[bytes]:
    splits = [data.train, data.validation, data.test, data.unlabelled]
    parts = [tensor.numpy().tobytes() for split in splits for tensor in [split.labels]]  # type: ignore[union-attr]
    parts += [b"".join(contents(split)) for split in splits]
    parts.append(b"" if data.subclasses is None else data.subclasses.numpy().tobytes())
    return [*parts, repr(data.texts and data.texts["train"]).encode(), repr(data.groups).encode()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 5}, r"task 'cifar10': n=5 labelled samples are too few for 10 classes \(n ≥ 10\)"),
        ({"n": 0}, r"task 'cifar10': n = 0: .*greater than 0"),
        ({"n": "many"}, "task 'cifar10': n = 'many'"),
        ({"imbalance": "0.5"}, r"imbalance = '0\.5': .*greater than or equal to 1"),
        ({"imbalance": "inf"}, "imbalance = 'inf'"),
        ({"n": 100, "imbalance": 10}, r"n=100 and imbalance=10 are both given \(one of them at"),
        ({"n": 20, "teacher_data": "some"}, "teacher_data = 'some': .*'labelled' or 'all'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused_when_planned(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message) as caught:
        task(**options)
    assert "\n" not in str(caught.value)


def test_what_the_data_cannot_give_is_refused_when_loaded() -> None:
    with pytest.raises(BenchError, match=r"n=5000 labelled samples, but the training split has \d"):
        task(n=5000).load()
    with pytest.raises(BenchError, match=r"imbalance=2000 leaves class [5-9] without a"):
        task(imbalance=2000).load()


def test_only_classification_has_variants() -> None:
    class Scores(Task):
        """A task of another kind."""

        name = "scores"
        presets = TASKS.get("cifar10").presets

    with pytest.raises(BenchError, match=r"task 'scores' has no variant 'n=20'"):
        Scores("quick", overrides={"n": 20})
    assert not Scores("quick").variant


def test_names() -> None:
    assert task().full_name == "cifar10"
    assert task(n="250").full_name == "cifar10:n=250"
    assert task(imbalance="100").full_name == "cifar10:imbalance=100"
    both = task(n="250", teacher_data="all")
    assert both.full_name == "cifar10:n=250:teacher_data=all"
    assert both.variant.part == "n=250"
    assert task(teacher_data="all").full_name == "cifar10"


def test_groups_are_thirds_of_the_logarithmic_range() -> None:
    tail = long_tail_counts(np.full(10, 5000), 100)
    assert class_groups(tail) == {"many": (0, 1, 2), "medium": (3, 4, 5), "few": (6, 7, 8, 9)}
    assert class_groups(np.array([80, 8])) == {"many": (0,), "few": (1,)}
    assert class_groups(np.array([1000, 100, 10, 1])) == {
        "many": (0,),
        "medium": (1, 2),  # on the thresholds
        "few": (3,),
    }
    assert class_groups(np.full(5, 7)) == {}


def test_group_accuracies_add_up_to_the_accuracy() -> None:
    generator = np.random.default_rng(3)
    labels, logits = generator.integers(0, 10, 400), generator.normal(size=(400, 10))
    groups = class_groups(long_tail_counts(np.full(10, 500), 100))
    found = group_accuracy(logits, labels, groups)
    size = {name: np.isin(labels, classes).sum() for name, classes in groups.items()}
    total = sum(found[f"accuracy_{name}"] * size[name] for name in groups)
    assert total == pytest.approx((logits.argmax(axis=1) == labels).sum())
    for name, classes in groups.items():
        own = np.isin(labels, classes)
        assert found[f"accuracy_{name}"] == (logits.argmax(axis=1) == labels)[own].mean()
    assert group_accuracy(logits[:0], labels[:0], groups) == {}


def test_unlabelled_batches_are_a_function_of_seed_and_step(image_world) -> None:
    split = image_world.train
    with pytest.raises(ValueError, match="has a label"):
        Unlabelled(split, 0)
    split.labels = torch.full_like(split.labels, -1)
    one, other = Unlabelled(split, 0), Unlabelled(split, 0)
    steps = [3, 0, 7, 4, 3]
    first = {step: one.draw(step, 16) for step in steps}
    for step in sorted(steps):
        again = other.draw(step, 16)
        assert torch.equal(again.index, first[step].index)
        assert torch.equal(again.inputs["image"], first[step].inputs["image"])
        assert (again.labels == -1).all()
    passed = torch.cat([other.draw(step, 16).index for step in range(4)])
    assert sorted(passed.tolist()) == list(range(64))
    assert not torch.equal(other.draw(4, 16).index, first[0].index)
    assert not torch.equal(Unlabelled(split, 1).draw(0, 16).index, first[0].index)
    assert len(one.draw(0, 100).index) == len(one) == 64
    whole = torch.cat([batch.index for batch in one.batches(10)])
    assert whole.tolist() == list(range(64))
    plain = split.batch(np.arange(4), View(0, 0)).inputs["image"]
    assert not torch.equal(next(one.batches(4)).inputs["image"], plain)
