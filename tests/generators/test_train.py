"""Generators on disk: trained once on training inputs, judged, resumed, never trusted blindly."""

from __future__ import annotations

import functools
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import TASKS, BenchError
from bench.cells import Cell, GeneratorSpec
from bench.config import build
from bench.data.splits import Split
from bench.generators import train as training
from bench.generators.store import GeneratorFiles
from bench.generators.train import ensure_generator, load_generator
from bench.plan import make_plan
from bench.runner import jobs_for
from bench.suites import Suite
from bench.teachers.store import identity_of
from bench.teachers.train import ensure_teacher

TINY = {
    "train_limit": 96,
    "teacher_recipe.epochs": 1,
    "recipe.epochs": 1,
    "generator": "autoencoder-w8-z2",
    "generator_recipe.epochs": 2,
}


def cell(method: str = "tgt", task: str = "cifar10", **overrides: Any) -> Cell:
    values = {
        "methods": [method],
        "tasks": [task],
        "seeds": [0],
        "overrides": {**TINY, **overrides} if task == "cifar10" else overrides,
    }
    (found,) = make_plan(build(Suite, values, "the test"), device="cpu").cells
    return found


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the judge has been trained."""
    folder = tmp_path_factory.mktemp("teachers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder))
        found = cell().generator
        assert found is not None
        ensure_teacher(found.judge)
    return folder


@pytest.fixture
def spec(teachers: Path, own_cache: Path) -> GeneratorSpec:
    """A generator to train, its judge already there."""
    shutil.copytree(teachers, own_cache, dirs_exist_ok=True)
    found = cell().generator
    assert found is not None
    return found


def weights(spec: GeneratorSpec) -> dict[str, torch.Tensor]:
    import safetensors.torch

    # read, not mapped: the file may be damaged in place
    return safetensors.torch.load(GeneratorFiles.of(spec.task, spec.key).weights.read_bytes())


def test_it_is_trained_once_and_says_what_it_is(spec, monkeypatch) -> None:
    epochs: list[Any] = []
    manifest = ensure_generator(spec, epochs.append)
    assert [entry["epoch"] for entry in epochs] == [1, 2]
    assert (manifest["name"], manifest["epochs"]) == ("autoencoder-w8-z2", 2)
    assert manifest["fingerprint"] == manifest["sha256"] and manifest["parameters"] > 1000
    judged = manifest["judged"]
    assert judged["samples"] == 269 and 0 <= judged["reconstructed"] <= 1
    assert judged["enough"] == (judged["reconstructed"] >= 2 / 3 * judged["real"])
    monkeypatch.setattr(training, "_make", lambda *given: pytest.fail("trained again"))
    monkeypatch.setattr(training, "_judge", lambda *given: pytest.fail("judged again"))
    assert ensure_generator(spec) == manifest


def test_it_learns(spec) -> None:
    epochs: list[Any] = []
    ensure_generator(spec, epochs.append)
    first, last = (entry["validation"]["loss"] for entry in (epochs[0], epochs[-1]))
    assert last < first


def test_what_is_loaded_is_frozen_with_the_scale_of_the_training_codes(spec) -> None:
    ensure_generator(spec)
    task = TASKS.get("cifar10")("quick", overrides=dict(spec.overrides))
    data = task.load()
    state = torch.get_rng_state()
    generator, manifest = load_generator(spec, task, data)
    assert torch.get_rng_state().equal(state)  # building it moved nobody's stream
    assert generator.fingerprint == manifest["fingerprint"]
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    import numpy as np

    codes = generator.encode(data.train.batch(np.arange(96)).inputs).values
    torch.testing.assert_close(generator.scale, codes.std(dim=0), rtol=1e-3, atol=1e-4)


def test_damaged_weights_are_made_again(spec, caplog) -> None:
    manifest = ensure_generator(spec)
    before = weights(spec)
    files = GeneratorFiles.of(spec.task, spec.key)
    files.weights.write_bytes(files.weights.read_bytes()[:-8])
    assert files.read() is None
    assert "is damaged (its checksum does not match): the generator is made again" in caplog.text
    assert files.read_judgement(identity_of(spec.judge.task, spec.judge.key)) is None
    with pytest.raises(BenchError, match="does not exist"):
        files.require()
    assert ensure_generator(spec)["fingerprint"] == manifest["fingerprint"]
    after = weights(spec)
    assert all(value.equal(after[name]) for name, value in before.items())


@pytest.mark.parametrize("text", ["[]", '{"sha256": 3}', "[" * 200_000], ids=len)
def test_a_damaged_manifest_or_judgement_counts_for_nothing(spec, text: str) -> None:
    manifest = ensure_generator(spec)
    files = GeneratorFiles.of(spec.task, spec.key)
    (judgement,) = files.folder.glob("judged-*.json")
    judgement.write_text(text)
    assert ensure_generator(spec)["judged"] == manifest["judged"]
    assert json.loads(judgement.read_text()) == manifest["judged"]
    files.manifest.write_text(text)
    assert files.read() is None


def test_another_teacher_judges_the_same_generator(spec, monkeypatch) -> None:
    ensure_generator(spec)
    other = replace(spec, judge=replace(spec.judge, seed=1))
    assert other.key == spec.key and other.id != spec.id
    ensure_teacher(other.judge)
    monkeypatch.setattr(training, "_make", lambda *given: pytest.fail("trained again"))
    assert ensure_generator(other)["judged"]["teacher"] == other.judge.key


def test_a_killed_training_goes_on_where_it_was(spec, monkeypatch) -> None:
    from bench.training import loop
    from bench.training.checkpoint import Checkpoint

    monkeypatch.setattr(loop, "Checkpoint", functools.partial(Checkpoint, interval=0.0))
    ensure_generator(spec)
    whole = weights(spec)
    GeneratorFiles.of(spec.task, spec.key).manifest.unlink()
    seen: list[int] = []

    class Killed(Exception):
        pass

    def kill(entry: dict[str, Any]) -> None:
        seen.append(entry["epoch"])
        if entry["epoch"] == 2 and seen == [1, 2]:
            raise Killed

    with pytest.raises(Killed):
        ensure_generator(spec, kill)
    ensure_generator(spec, kill)
    assert seen == [1, 2, 2]  # the first epoch was not run again
    again = weights(spec)
    assert all(value.equal(again[name]) for name, value in whole.items())


def test_two_at_once_train_it_once(spec) -> None:
    epochs: list[Any] = []
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(ensure_generator(spec, epochs.append)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(epochs) == 2 and found[0] == found[1]


class Sealed(Split):
    """A split that nobody may look at."""

    def __len__(self) -> int:
        raise AssertionError("the test split was looked at")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the test split was looked at: {name}")

    def batch(self, *given: Any) -> Any:
        raise AssertionError("the test split was looked at")


def test_generator_and_judgement_never_see_the_test_split(spec, monkeypatch) -> None:
    cls = TASKS.get("cifar10")
    load = cls.load
    monkeypatch.setattr(
        cls, "load", lambda self, device="cpu": replace(load(self, device), test=Sealed())
    )
    ensure_generator(spec)
    task = cls("quick", overrides=dict(spec.overrides))
    data = task.load()
    with pytest.raises(AssertionError, match="looked at"):
        data.test.labels  # noqa: B018 - the seal holds
    load_generator(spec, task, data)


def test_no_label_shapes_it(spec, monkeypatch) -> None:
    before = ensure_generator(spec)["fingerprint"]
    files = GeneratorFiles.of(spec.task, spec.key)
    files.manifest.unlink()
    cls = TASKS.get("cifar10")
    monkeypatch.setattr(cls, "relabel", lambda self, labels: (labels + 1) % 10)
    assert ensure_generator(spec)["fingerprint"] == before


def test_a_generator_of_the_wrong_kind_fails_before_it_is_trained(spec) -> None:
    wrong = replace(
        spec,
        overrides={**spec.overrides, "generator": "bart-L1-H32"},
        preset_values={**spec.preset_values, "generator": "bart-L1-H32"},
    )
    with pytest.raises(BenchError, match="makes text, but 'cifar10' is a task of image"):
        ensure_generator(wrong)


def test_what_shapes_a_generator_is_in_its_key() -> None:
    base = cell().generator
    assert base is not None
    for changes in (
        {"generator": "autoencoder-w8-z4"},
        {"generator_recipe.epochs": 3},
        {"train_limit": 95},
    ):
        other = cell(**changes).generator
        assert other is not None and other.key != base.key, changes
    for changes in ({"recipe.epochs": 2}, {"student": "resnet8w16s2"}, {"variants": 3}):
        other = cell(**changes).generator
        assert other is not None and other.key == base.key, changes


def test_only_cells_that_need_a_generator_know_one() -> None:
    assert cell("kd").generator is None
    assert cell("tgt:w_gen=0").generator is None
    assert cell("tgt:source=mixup").generator is None
    assert cell("tgt:source=reconstruction").generator is not None
    assert cell("kd").key == cell("kd", **{"generator_recipe.epochs": 7}).key
    assert cell("kd").key == cell("kd", variants=7).key
    assert cell("tgt").key != cell("tgt", **{"generator_recipe.epochs": 7}).key
    assert cell("tgt").key != cell("tgt", variants=7).key


def test_a_preset_without_a_generator_is_refused_when_planning() -> None:
    with pytest.raises(BenchError, match="names no generator"):
        cell(generator=None)
    assert cell("tgt:source=mixup", generator=None).generator is None


def test_the_generator_comes_after_its_teacher_and_before_its_cells(tmp_path) -> None:
    values = {"methods": ["kd", "tgt", "tgt:sigma=0.1"], "tasks": ["cifar10"], "seeds": [0, 1]}
    plan = make_plan(build(Suite, values, "the test"), device="cpu")
    jobs = jobs_for(plan, set(), results=tmp_path, threads=1)
    (made,) = [job for job in jobs if isinstance(job.work, GeneratorSpec)]
    (teacher,) = [job for job in jobs if job.title.startswith("train teacher")]
    assert (
        made.needs == (teacher.id,)
        and made.total == made.work.preset_values["generator_recipe"]["epochs"]
    )
    for job in jobs:
        if isinstance(job.work, Cell):
            assert (made.id in job.needs) == (job.work.method == "tgt")
