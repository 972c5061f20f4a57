"""Speed, by pytest-benchmark: run with ``tox -e bench``.

All figures are read as ratios to ``bare``, a hand-written training loop timed in the same run; the
summary holds them against the ratios kept in ``baseline.json``.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench import BASELINES, METHODS, TASKS
from bench.config import build
from bench.data.splits import View
from bench.method import Method, Setup
from bench.models.base import uniform_pairs
from bench.models.fold import for_inference
from bench.models.vision import build_vision
from bench.teachers.fill import fill, run
from bench.teachers.signals import CachedTeacher, LiveTeacher
from bench.training.evaluate import predict
from bench.training.generation import Generated
from bench.training.loop import train
from bench.training.setting import Setting

STEPS = 8
BATCH = 32
OPTIONS = {"tgt": {"source": "mixup"}}  # needs no generator
# not for images; "subclass" takes KD's step, from a teacher of its own
IMAGE = [
    name for name in METHODS.names() if "image" in METHODS.get(name).families and name != "subclass"
]


def _setting(data: Any, recipe: Any, task: Any) -> Setting:
    return Setting(
        train=data.train,
        validation=data.validation,
        recipe=recipe,
        seed=0,
        score=task.evaluate,
        metric=task.metric,
        direction=task.direction,
        pairs=uniform_pairs(3, 3),
    )


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    torch.set_num_threads(1)
    task = TASKS.get("cifar10")(
        "quick", overrides={"train_limit": STEPS * BATCH, "epochs": 2, "student": "resnet20"}
    )
    return task, task.load()


@pytest.mark.benchmark(group="training step, resnet20 from resnet14")
@pytest.mark.parametrize("name", ["bare", "scratch", *IMAGE])
def test_training(benchmark: Any, digits: tuple[Any, Any], name: str) -> None:
    """Two epochs of each method; ``bare`` is a hand-written loop doing scratch's arithmetic."""
    task, data = digits
    teacher = for_inference(build_vision("resnet14", num_classes=10))

    def prepare() -> tuple[tuple[Any, ...], dict[str, Any]]:
        torch.manual_seed(0)
        student = task.build_model(task.preset.student)
        if name == "bare":
            return (student, data, task), {}
        registry = METHODS if name in METHODS else BASELINES
        cls = registry.get(name)
        method: Method = cls(build(cls.Config, OPTIONS.get(name, {}), name))
        source = LiveTeacher(teacher, "bfloat16") if method.signals else None
        method.setup(
            Setup(
                student=student,
                num_classes=10,
                family="image",
                pairs=uniform_pairs(3, 3),
                probe=data.train.batch(np.arange(4)),
                teacher=source,
                head=teacher.head.weight.detach(),
                training_batches=lambda: (
                    data.train.batch(index) for index in data.train.evaluation_order(500)
                ),
                generator=torch.Generator().manual_seed(0),
            )
        )
        setting = _setting(data, task.preset.recipe, task)
        if method.generates:
            assert source is not None
            made = Generated(train=data.train, source=source, seed=0, precision="bfloat16")
            setting = replace(setting, generated=made)
        return (student, method, source, setting), {}

    benchmark.pedantic(_bare if name == "bare" else _suite, setup=prepare, rounds=5)


def _suite(student: Any, method: Any, source: Any, setting: Setting) -> None:
    train(student=student, method=method, teacher=source, setting=setting)


def _bare(student: Any, data: Any, task: Any) -> None:
    recipe = task.preset.recipe
    optimizer = torch.optim.SGD(
        student.parameters(),
        lr=recipe.learning_rate,
        momentum=0.9,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    for _ in range(recipe.epochs):
        student.train()
        for index in np.random.default_rng(0).permutation(len(data.train)).reshape(-1, BATCH):
            batch = data.train.batch(index)
            with torch.autocast("cpu", torch.bfloat16):
                logits = student(batch.inputs).logits
            loss = F.cross_entropy(logits.float(), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), recipe.clip)
            optimizer.step()
        predict(student, data.validation, batch_size=500, precision="bfloat16")


@pytest.mark.benchmark(group="teacher and evaluation")
def test_teacher_pass(benchmark: Any, digits: tuple[Any, Any]) -> None:
    """One pass of the frozen teacher over the training split, its outputs kept in arrays."""
    _, data = digits
    teacher = for_inference(build_vision("resnet20", num_classes=10))
    benchmark.pedantic(
        run, args=(teacher, data.train, View(0, 0), [], 500, "bfloat16"), rounds=5, warmup_rounds=1
    )


@pytest.mark.benchmark(group="teacher and evaluation")
def test_cache_read(
    benchmark: Any,
    digits: tuple[Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One epoch's signals read from the cache, batch by batch."""
    _, data = digits
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    teacher = for_inference(build_vision("resnet20", num_classes=10))
    view = View(0, 0)
    folder = fill(
        teacher,
        data.train,
        teacher="benchmark",
        views=[view],
        batch_size=500,
        precision="bfloat16",
    )
    assert folder is not None
    source = CachedTeacher(folder, torch.device("cpu"), static=False)
    batches = [data.train.batch(index) for index in data.train.training_order(0, 0, BATCH)]
    benchmark.pedantic(lambda: [source(batch, (), view) for batch in batches], rounds=20)


@pytest.mark.benchmark(group="teacher and evaluation")
def test_evaluation(benchmark: Any, digits: tuple[Any, Any]) -> None:
    """The student's predictions on the validation split."""
    task, data = digits
    student = task.build_model(task.preset.student)
    benchmark.pedantic(
        partial(predict, student, data.validation, batch_size=500, precision="bfloat16"),
        rounds=5,
        warmup_rounds=1,
    )


@pytest.mark.benchmark(group="report")
def test_report(benchmark: Any, tmp_path: Path) -> None:
    """Render the whole report from 10,000 records: 40 methods, 5 tasks, 50 seeds, with curves.

    In a process of its own, as a user runs it: loading the libraries is part of the wait.
    """
    import json
    import subprocess
    import sys

    sys.path.append(str(Path(__file__).parents[1] / "report"))
    from factory import world

    records, costs = world(seeds=50, tasks=5, methods=40)
    for at, record in enumerate(records[:10_000]):
        (tmp_path / f"{at}.json").write_text(json.dumps(record))
    for at, record in enumerate(costs):
        (tmp_path / f"{at}.cost.json").write_text(json.dumps(record))
    command = [sys.executable, "-m", "bench", "report", "--results", str(tmp_path)]

    def render() -> None:
        # into a new folder each time: what is there already would not be written again
        out = tempfile.mkdtemp(dir=tmp_path)
        subprocess.run([*command, "--reports", out], check=True, capture_output=True)

    benchmark.pedantic(render, rounds=3, warmup_rounds=1)
