"""Cells with a generator, end to end: generated texts kept and served, samples, records."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench import BenchError
from bench.cells import Cell
from bench.config import build
from bench.data.splits import View
from bench.generators import variants as variants_module
from bench.generators.base import GeneratorModule
from bench.generators.train import ensure_generator
from bench.generators.variants import open_variants, variants_key
from bench.method import Progress
from bench.opening import make_contender, open_task
from bench.plan import make_plan
from bench.prepare import prepare
from bench.run_cell import run_cell
from bench.store import record_files, samples_path
from bench.suites import Suite
from bench.teachers.signals import CachedTeacher, LiveTeacher
from bench.teachers.train import ensure_teacher, load_teacher

SMALL = {"train_limit": 64, "teacher_recipe.epochs": 1, "recipe.epochs": 2}
OVERRIDES: dict[str, dict[str, Any]] = {
    "cifar10": {**SMALL, "generator": "autoencoder-w8-z2", "generator_recipe.epochs": 1},
    "amazon": {
        **SMALL,
        "teacher": "bert-L2-H32",
        "frozen_teacher": False,
        "generator": "bart-L1-H32",
        "generator_recipe.epochs": 1,
        "variants": 2,
        "max_length": 16,
    },
}


def cell(task: str = "amazon", method: str = "tgt", seed: int = 0, **overrides: Any) -> Cell:
    values = {
        "methods": [method],
        "tasks": [task],
        "seeds": [seed],
        "overrides": {**OVERRIDES[task], **overrides},
    }
    (found,) = make_plan(build(Suite, values, "the test"), device="cpu").cells
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the teachers and generators of both families."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder))
        for task in OVERRIDES:
            generator = cell(task).generator
            assert generator is not None
            ensure_teacher(generator.judge)
            ensure_generator(generator)
    return folder


@pytest.fixture(autouse=True)
def _filled(made: Path, own_cache: Path) -> None:
    shutil.copytree(made, own_cache, dirs_exist_ok=True)


def prepared(given: Cell) -> Any:
    task = open_task(given)
    data = task.load()
    return prepare(given, task, data, make_contender(given)), task, data


def test_each_text_has_its_variants_and_the_teacher_s_word_on_them() -> None:
    given = cell()
    ready, task, data = prepared(given)
    generated = ready.setting.generated
    assert len(generated.variants) == 2
    teacher = LiveTeacher(load_teacher(given.teacher, task, data)[0], "bfloat16")
    for variant in generated.variants:
        assert len(variant.split) == len(data.train) == 64
        assert (variant.split.labels == -1).all()
        assert isinstance(variant.teacher, CachedTeacher)
        batch = variant.split.batch(np.array([5, 60, 0]))
        kept, fresh = variant.teacher(batch, ()), teacher(batch, ())
        # another batch shape under bfloat16, kept in half precision
        torch.testing.assert_close(kept.scores, fresh.scores, rtol=0.05, atol=0.05)
    first, second = (variant.split.tokens for variant in generated.variants)
    assert not all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_epochs_take_the_variants_in_turn_and_batches_keep_their_samples() -> None:
    ready, _, data = prepared(cell())
    generated = ready.setting.generated
    batch = data.train.batch(np.array([7, 3, 50]))
    for epoch in range(3):
        found, said = generated(
            ready.method,
            ready.student,
            batch,
            view=View(0, epoch),
            epoch=epoch,
            at=0,
            progress=Progress("main", 0, 1),
        )
        variant = generated.variants[epoch % 2]
        for row, position in enumerate((7, 3, 50)):
            real = found.inputs["input_ids"][row][found.mask[row]]
            assert real.tolist() == variant.split.tokens[position].tolist()
        assert said.scores.equal(variant.teacher(found, ()).scores)
        assert (found.labels == -1).all()
    assert generated.live.samples == 0  # nothing was run in a step


def test_without_perturbation_the_kept_texts_are_the_reconstructions() -> None:
    ready, task, data = prepared(cell(method="tgt:sigma=0"))
    generator = ready.setting.generated.generator
    index = data.train.evaluation_order(task.preset.evaluation_batch)[0]
    batch = data.train.batch(index)
    with torch.no_grad():
        again = generator.decode(generator.encode(batch.inputs))
    for variant in ready.setting.generated.variants:
        for row, position in enumerate(index):
            real = again["input_ids"][row][again["attention_mask"][row]]
            assert variant.split.tokens[position].tolist() == real.tolist()


def test_they_are_made_once_for_all_seeds_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _, _ = prepared(cell())
    monkeypatch.setattr(variants_module, "_make", lambda *given: pytest.fail("made again"))
    for given in (cell(seed=1), cell(method="tgt:w_gen=0.5"), cell(**{"recipe.epochs": 3})):
        again, _, _ = prepared(given)
        for one, other in zip(
            first.setting.generated.variants, again.setting.generated.variants, strict=True
        ):
            assert all(
                np.array_equal(*pair)
                for pair in zip(one.split.tokens, other.split.tokens, strict=True)
            )
    with pytest.raises(pytest.fail.Exception, match="made again"):
        prepared(cell(method="tgt:sigma=0.7"))


def test_a_damaged_file_of_texts_is_made_again(own_cache: Path) -> None:
    first, _, _ = prepared(cell())
    (path,) = (own_cache / "variants").rglob("0.npz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    again, _, _ = prepared(cell())
    pairs = zip(
        first.setting.generated.variants[0].split.tokens,
        again.setting.generated.variants[0].split.tokens,
        strict=True,
    )
    assert all(np.array_equal(*pair) for pair in pairs)
    path.write_bytes(b"")
    prepared(cell())


def test_few_labels_are_generated_from_with_the_vocabulary_of_all_texts(tmp_path: Path) -> None:
    given = cell(n=6, teacher_data="all")
    assert given.generator.key == cell().generator.key  # type: ignore[union-attr]
    ready, _, data = prepared(given)
    whole, _, everything = prepared(cell())
    assert (len(data.train), len(everything.train)) == (6, 64)
    few, all_of_them = (each.setting.generated.generator for each in (ready, whole))
    assert few.ids.equal(all_of_them.ids)
    assert len(np.unique(np.concatenate(data.train.tokens))) < len(few.ids)
    assert run_cell(given, tmp_path)["error"] is None


def test_images_too_slow_to_generate_in_a_step_are_refused(image_world) -> None:
    given = cell("cifar10")
    task = open_task(given)
    slow = GeneratorModule()
    slow.name = "slow"
    live = LiveTeacher(image_world.teacher(), "float32")
    with pytest.raises(BenchError, match="'slow' is too slow"):
        open_variants(given, task, task.load(), make_contender(given), slow, live, 16)


@pytest.mark.parametrize(
    ("task", "method"),
    [("cifar10", "tgt"), ("cifar10", "tgt:mode=gradient"), ("amazon", "tgt:source=reconstruction")],
)
def test_a_cell_leaves_its_record_and_a_few_samples(tmp_path: Path, task: str, method: str) -> None:
    given = cell(task, method)
    record = run_cell(given, tmp_path)
    assert record["error"] is None and record["status"] == "ok"
    generator = record["generator"]
    assert generator["name"] == OVERRIDES[task]["generator"]
    assert generator["judged"]["teacher"] == given.teacher.key
    notes = [entry["notes"] for entry in record["epochs"]]
    assert all(0 < note["entropy_generated"] <= np.log(10) + 1e-4 for note in notes)
    assert record["timings"]["generate_s"] > 0
    assert record["parameters"]["train_only"] == 0  # the generator is nobody's to train
    path = samples_path(tmp_path, record)
    samples = json.loads(path.read_text(encoding="utf-8"))
    assert [row["kind"] for row in samples["rows"]] == ["real", "reconstructed", "perturbed"]
    assert len(samples["labels"]) == 8
    assert len(set(samples["labels"])) == (8 if task == "cifar10" else 2)
    for row in samples["rows"]:
        assert len(row["shown"]) == len(row["verdicts"]) == 8
        assert all(0 < verdict["probability"] <= 1 for verdict in row["verdicts"])
    real, again, moved = (row["shown"] for row in samples["rows"])
    if task == "cifar10":
        with Image.open(io.BytesIO(base64.b64decode(real[0]))) as image:
            assert image.size == (32, 32)
        assert moved != again
    else:
        assert all(sentence.strip() for sentence in real)
        assert moved == again  # σ = 0
    assert [found.name for found in record_files(tmp_path)] == [
        path.name.replace(".samples.json", ".json")
    ]


def test_a_gradient_asked_of_words_is_skipped_with_the_reason(tmp_path: Path) -> None:
    record = run_cell(cell(method="tgt:mode=gradient"), tmp_path)
    assert record["status"] == "skipped"
    assert "'bart-L1-H32' writes tokens" in record["error"]["message"]
    assert not list(tmp_path.rglob("*.samples.json"))


def test_a_generator_that_is_gone_fails_its_cell_only(tmp_path: Path, own_cache: Path) -> None:
    shutil.rmtree(own_cache / "generators")
    record = run_cell(cell("cifar10"), tmp_path)
    assert record["status"] == "failed" and "does not exist" in record["error"]["message"]
    assert run_cell(cell("cifar10", "kd"), tmp_path)["status"] == "ok"


def test_without_the_generated_term_a_cell_scores_as_kd(tmp_path: Path) -> None:
    kd = run_cell(cell("cifar10", "kd"), tmp_path)
    ours = run_cell(cell("cifar10", "tgt:w_gen=0"), tmp_path)
    assert ours["metrics"] == kd["metrics"]
    assert [entry["losses"] for entry in ours["epochs"]] == [
        entry["losses"] for entry in kd["epochs"]
    ]
    assert "generator" not in ours and "generate_s" not in ours["timings"]


def test_texts_for_one_teacher_are_not_taken_for_another() -> None:
    made = []
    for name in ("minilm", "minilm:3"):
        suite = Suite(methods=("tgt",), tasks=("amazon",), seeds=(0,), overrides={"teacher": name})
        (cell,) = make_plan(suite, device="cpu").cells
        generator = SimpleNamespace(fingerprint="g")
        made.append(variants_key(cell, open_task(cell), make_contender(cell), generator))  # type: ignore[arg-type]
    assert made[0] != made[1]
