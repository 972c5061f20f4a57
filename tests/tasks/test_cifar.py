"""The CIFAR tasks through a mirror of generated images: a real loader, made pictures."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bench import TASKS
from bench.errors import BenchError
from bench.tasks.base import Data
from bench.tasks.cifar import PAPER
from bench.tasks.image import carve, channel_statistics
from bench.tasks.preset import override


def write_mirror(root: Path, name: str, column: str, classes: int, rows: dict[str, int]) -> None:
    """Write generated images in the hub set's own schema; pixel [0, 0] carries the row number."""
    folder = root / name
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for split, count in rows.items():
        images, labels = [], []
        for row in range(count):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            pixels[0, 0] = (row // 256, row % 256, len(split))
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            images.append({"bytes": buffer.getvalue(), "path": f"{row}.png"})
            labels.append(row % classes)
        table = {"img": images, column: labels}
        if column == "fine_label":
            table["coarse_label"] = [label // 5 for label in labels]
        pq.write_table(pa.table(table), folder / f"{split}.parquet")


def test_cifar100_reads_the_fine_labels(mirror: Path) -> None:
    write_mirror(mirror, "uoft-cs/cifar100", "fine_label", 100, {"train": 1000, "test": 200})
    task = TASKS.get("cifar100")("small", source="mirror")
    assert task.problem() is None
    data = task.load()
    assert data.rows() == {"train": 900, "validation": 100, "test": 200}
    assert data.test.labels.tolist() == [row % 100 for row in range(200)]
    assert np.bincount(data.validation.labels.numpy()).tolist() == [1] * 100
    batch = data.test.batch(np.arange(4))
    assert batch.inputs["image"].shape == (4, 3, 32, 32)
    assert task.origin().source == "mirror"


def test_splits_do_not_overlap_and_pixels_are_exact(mirror: Path) -> None:
    write_mirror(mirror, "uoft-cs/cifar10", "label", 10, {"train": 300, "test": 50})
    task = TASKS.get("cifar10")("small", source="mirror")
    arrays = task.arrays()  # type: ignore[attr-defined]
    ids = {
        name: [(int(i[0, 0, 0]) * 256 + int(i[0, 0, 1]), int(i[0, 0, 2])) for i in images]
        for name, (images, _) in arrays.items()
    }
    assert len({*ids["train"], *ids["validation"]}) == 300
    assert not set(ids["train"]) & set(ids["validation"])
    for name in ("train", "validation"):
        assert [row % 10 for row, _ in ids[name]] == arrays[name][1].tolist()


def test_binary_shares_images_and_splits_with_cifar10(mirror: Path) -> None:
    write_mirror(mirror, "uoft-cs/cifar10", "label", 10, {"train": 300, "test": 50})
    ten = TASKS.get("cifar10")("small", source="mirror").load()
    two = TASKS.get("cifar10-binary")("small", source="mirror").load()
    for one, other in zip(splits_of(ten), splits_of(two), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels % 2, other.labels)


def splits_of(data: Data) -> tuple[Any, ...]:
    return (data.train, data.validation, data.test)


def test_only_a_task_that_merges_labels_has_finer_ones(mirror: Path) -> None:
    write_mirror(mirror, "uoft-cs/cifar10", "label", 10, {"train": 300, "test": 50})
    limit = {"train_limit": 90}
    ten = TASKS.get("cifar10")("small", source="mirror", overrides=limit).load()
    two = TASKS.get("cifar10-binary")("small", source="mirror", overrides=limit).load()
    assert ten.subclasses is None
    assert two.subclasses is not None
    assert torch.equal(two.subclasses, ten.train.labels)
    assert torch.equal(two.subclasses % 2, two.train.labels)
    assert len(two.subclasses) == 90


def test_train_limit_keeps_a_prefix_of_a_shuffled_order(mirror: Path) -> None:
    write_mirror(mirror, "uoft-cs/cifar10", "label", 10, {"train": 300, "test": 50})
    task = TASKS.get("cifar10")("small", source="mirror", overrides={"train_limit": 100})
    labels = task.load().train.labels.numpy()
    assert len(labels) == 100
    assert np.bincount(labels, minlength=10).min() > 0


@pytest.mark.parametrize("name", ["cifar10", "cifar10-binary", "cifar100"])
def test_embedded_stand_ins_carry_their_own_name(name: str) -> None:
    task = TASKS.get(name)("quick")
    origin = task.origin()
    assert origin.source == "embedded"
    assert origin.name.startswith("embedded digit")
    assert origin.limits
    data = task.load()
    classes = set(data.train.labels.tolist())
    assert classes == set(range(task.num_classes)) == set(data.test.labels.tolist())


def test_statistics_are_those_of_the_training_pixels() -> None:
    images = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    flat = images.reshape(-1, 3).astype(np.float64)
    assert np.allclose(mean, flat.mean(axis=0))
    assert np.allclose(std, flat.std(axis=0))


def test_carve_is_balanced_and_the_same_every_time() -> None:
    labels = np.repeat(np.arange(5), 40)
    train, validation = carve(labels, 0.1)
    assert np.bincount(labels[validation]).tolist() == [4] * 5
    assert sorted([*train, *validation]) == list(range(200))
    again = carve(labels, 0.1)
    assert np.array_equal(train, again[0])
    assert np.array_equal(validation, again[1])


def test_paper_preset_is_the_published_recipe() -> None:
    recipe = PAPER.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (240, 64, 0.05)
    assert [round(share * 240) for share in recipe.milestones] == [150, 180, 210]
    assert recipe.weight_decay == 5e-4
    assert (PAPER.student, PAPER.teacher) == ("resnet20+ones", "resnet56+ones")


def test_override_reaches_the_recipe_and_refuses_unknown_fields() -> None:
    changed = override(PAPER, {"epochs": "2", "teacher_recipe.epochs": 3}, "task 'x'")
    assert (changed.recipe.epochs, changed.teacher_recipe.epochs) == (2, 3)
    with pytest.raises(BenchError, match=r"epoch.*did you mean 'epochs'"):
        override(PAPER, {"epoch": 2}, "task 'x'")
    with pytest.raises(BenchError, match="greater than 0"):
        override(PAPER, {"epochs": 0}, "task 'x'")


@pytest.mark.skipif(not os.environ.get("BENCH_DATA"), reason="needs BENCH_DATA, a real mirror")
def test_real_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    data = TASKS.get("cifar10")("small", source="mirror").load()
    assert data.rows() == {"train": 45000, "validation": 5000, "test": 10000}
    assert np.bincount(data.test.labels.numpy()).tolist() == [1000] * 10
