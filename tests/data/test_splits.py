"""Splits: what a batch holds is a function of (split, index, view) alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.splits import Augment, ImageSplit, TextSplit, View

FEW = settings(max_examples=30, deadline=None)
MEAN, STD = np.array([100.0, 120.0, 140.0]), np.array([50.0, 60.0, 70.0])


def images(count: int = 12, height: int = 7, width: int = 5, seed: int = 0) -> np.ndarray:
    # no zero pixel, so that padding is told from content
    shape = (count, height, width, 3)
    return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)


def split(augment: Augment | None = None, **size: int) -> ImageSplit:
    pixels = images(**size)
    labels = np.arange(len(pixels)) % 3
    return ImageSplit(pixels, labels, mean=MEAN, std=STD, augment=augment)


def raw(batch) -> np.ndarray:
    """Undo the normalisation: ``(N, H, W, 3)`` in 0…255."""
    image = batch.inputs["image"].permute(0, 2, 3, 1).numpy()
    return np.rint(image * STD + MEAN).astype(int)


def test_images_are_normalised_by_channel() -> None:
    pixels = images()
    index = np.array([3, 0, 11])
    batch = split().batch(index)
    expected = (pixels[index].astype(np.float64) - MEAN) / STD
    found = batch.inputs["image"]
    assert found.shape == (3, 3, 7, 5)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-5)
    assert batch.labels.tolist() == [0, 0, 2]
    assert batch.index.tolist() == [3, 0, 11]
    assert batch.mask is None


def candidates(image: np.ndarray, augment: Augment) -> list[tuple[tuple[int, int, bool], bytes]]:
    """List every view an image may have, by loops."""
    height, width, _ = image.shape
    pad = augment.pad
    padded = np.zeros((height + 2 * pad, width + 2 * pad, 3), dtype=int)
    padded[pad : pad + height, pad : pad + width] = image
    found = []
    for top in range(2 * pad + 1):
        for left in range(2 * pad + 1):
            crop = padded[top : top + height, left : left + width]
            found.append(((top, left, False), crop.tobytes()))
            if augment.flip:
                found.append(((top, left, True), crop[:, ::-1].copy().tobytes()))
    return found


@pytest.mark.parametrize(
    "augment",
    [Augment(pad=2, flip=True), Augment(pad=1), Augment(flip=True), Augment(pad=4, flip=True)],
    ids=str,
)
def test_a_view_is_a_crop_of_the_padded_image_or_its_mirror(augment: Augment) -> None:
    made, pixels = split(augment, count=40), images(count=40)
    assert not made.static
    drawn = set()
    for epoch in range(6):
        views = raw(made.batch(np.arange(40), View(0, epoch)))
        for image, view in zip(pixels, views, strict=True):
            which = [
                name for name, content in candidates(image, augment) if content == view.tobytes()
            ]
            assert len(which) == 1
            drawn.add(which[0])
    places = (2 * augment.pad + 1) ** 2 * (1 + augment.flip)
    assert len(drawn) >= 0.7 * places  # 240 draws reach most of them
    assert {top for top, _, _ in drawn} == set(range(2 * augment.pad + 1))
    assert {left for _, left, _ in drawn} == set(range(2 * augment.pad + 1))
    assert {flip for _, _, flip in drawn} == ({True, False} if augment.flip else {False})


@given(
    st.integers(0, 1000),
    st.integers(0, 300),
    st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True),
)
@FEW
def test_a_view_does_not_depend_on_the_batch(seed: int, epoch: int, index: list[int]) -> None:
    made, view = split(Augment(pad=2, flip=True)), View(seed, epoch)
    whole = made.batch(np.arange(12), view).inputs["image"]
    part = made.batch(np.array(index), view).inputs["image"]
    assert part.equal(whole[index])


def test_views_change_with_epoch_and_seed() -> None:
    made, index = split(Augment(pad=2, flip=True)), np.arange(12)
    views = [raw(made.batch(index, View(*at))).tobytes() for at in ((0, 0), (0, 1), (1, 0))]
    assert len(set(views)) == 3


def test_without_a_view_or_an_augmentation_images_are_as_they_are() -> None:
    pixels, index = images(), np.arange(12)
    np.testing.assert_array_equal(raw(split(Augment(pad=2, flip=True)).batch(index)), pixels)
    plain = split()
    assert plain.static
    np.testing.assert_array_equal(raw(plain.batch(index, View(0, 3))), pixels)


def test_augmentation_never_writes_to_the_split() -> None:
    made = split(Augment(pad=2, flip=True))
    before = made.images.clone()
    made.batch(np.arange(12), View(0, 0)).inputs["image"].zero_()
    assert made.images.equal(before)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 99), st.integers(0, 9))
@FEW
def test_an_image_epoch_has_full_batches_of_different_samples(
    rows: int, size: int, seed: int, epoch: int
) -> None:
    made = split(count=rows, height=1, width=1)
    order = made.training_order(seed, epoch, size)
    assert len(order) == made.steps(size)
    assert {len(batch) for batch in order} == {min(size, rows)}
    flat = np.concatenate(order)
    assert len(set(flat.tolist())) == len(flat)
    assert rows - len(flat) < size
    covered = np.concatenate(made.evaluation_order(size))
    np.testing.assert_array_equal(np.sort(covered), np.arange(rows))


# --- text ---


def texts(lengths: list[int]) -> TextSplit:
    """Return token rows whose content tells their place: row 3 holds 301, 302, …"""
    rows = [100 * at + 1 + np.arange(length) for at, length in enumerate(lengths)]
    return TextSplit(rows, np.arange(len(lengths)) % 4, pad=7)


rows_of = st.lists(st.integers(1, 15), min_size=1, max_size=90)


def test_tokens_are_padded_to_the_longest_of_the_batch() -> None:
    made = texts([2, 5, 3, 1])
    batch = made.batch(np.array([2, 0, 3]))
    assert batch.inputs["input_ids"].tolist() == [[201, 202, 203], [1, 2, 7], [301, 7, 7]]
    assert batch.mask is not None
    expected = [[True] * 3, [True, True, False], [True, False, False]]
    assert batch.mask.tolist() == expected
    assert batch.inputs["attention_mask"].tolist() == expected
    assert batch.labels.tolist() == [2, 0, 3]
    assert batch.index.tolist() == [2, 0, 3]
    assert made.static
    assert made.lengths.tolist() == [2, 5, 3, 1]


@given(rows_of, st.integers(1, 12), st.integers(0, 99), st.integers(0, 9))
@FEW
def test_a_text_epoch_has_full_batches_of_different_samples(
    lengths: list[int], size: int, seed: int, epoch: int
) -> None:
    made = texts(lengths)
    order = made.training_order(seed, epoch, size)
    assert len(order) == made.steps(size)
    assert {len(batch) for batch in order} == {min(size, len(lengths))}
    flat = np.concatenate(order)
    assert len(set(flat.tolist())) == len(flat)
    assert len(lengths) - len(flat) < size
    again = made.training_order(seed, epoch, size)
    assert all((one == other).all() for one, other in zip(order, again, strict=True))


@given(rows_of, st.integers(1, 12))
@FEW
def test_evaluation_covers_every_text_once(lengths: list[int], size: int) -> None:
    order = texts(lengths).evaluation_order(size)
    assert max(len(batch) for batch in order) <= size
    np.testing.assert_array_equal(np.sort(np.concatenate(order)), np.arange(len(lengths)))


def test_text_batches_are_new_every_epoch_and_of_similar_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 640).tolist()
    made = texts(lengths)
    epochs = [made.training_order(0, epoch, 10) for epoch in range(2)]
    assert {frozenset(b.tolist()) for b in epochs[0]} != {frozenset(b.tolist()) for b in epochs[1]}
    padded = sum(len(batch) * made.lengths[batch].max() for batch in epochs[0])
    assert padded < 1.15 * sum(lengths)
    longest = [int(made.lengths[batch].max()) for batch in epochs[0][:16]]
    assert longest != sorted(longest)  # batches are shuffled: not from short to long


def test_every_text_is_dropped_sometimes_and_used_mostly() -> None:
    made = texts([3] * 25)
    used = np.zeros(25, dtype=int)
    for epoch in range(40):
        for batch in made.training_order(0, epoch, 10):
            used[batch] += 1
    assert used.min() > 15 and used.max() < 40  # 20 of 25 each epoch, no sample left out for good
