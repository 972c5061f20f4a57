"""Images per second against torchdistill, on the pair ResNet-56 → ResNet-20 at batch 64.

    python -m pip install torchdistill
    python tests/benchmarks/versus_torchdistill.py

Both sides train the same networks from the same weights on the same 32×32 images with the same
loss, each in the way its own users get it: torchdistill's ``DistillationBox`` behind a
``DataLoader`` with torchvision's crop, flip and normalisation (its CIFAR recipes), the suite with
its own split, stage runner and teacher source.  The rounds are interleaved, so that a busy machine
slows both; medians are compared.  Teacher and student speed depend on no pixel value, so the
images are random.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench import METHODS
from bench.config import build
from bench.data.splits import Augment, ImageSplit, View
from bench.method import Setup
from bench.models.base import Model, uniform_pairs
from bench.models.fold import for_inference
from bench.models.vision import VisionModel, build_vision
from bench.tasks.preset import Recipe
from bench.teachers.fill import fill
from bench.teachers.signals import CachedTeacher, LiveTeacher
from bench.training.setting import Setting
from bench.training.stage import StageRunner, build_optimizer

BATCH, CLASSES, TEMPERATURE, HARD = 64, 10, 4.0, 0.1
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


class Peer:
    """torchdistill's loop."""

    def __init__(self, teacher: nn.Module, student: nn.Module, images: Any, workers: int) -> None:
        from torchdistill.core.distillation import get_distillation_box
        from torchvision import transforms

        augment = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )
        sampler = {"class_or_func": torch.utils.data.RandomSampler}
        loader = {
            "dataset_id": "train",
            "sampler": sampler,
            "kwargs": {"batch_size": BATCH, "num_workers": workers, "drop_last": True},
        }
        loss = {
            "key": "KDLoss",
            "kwargs": {
                "student_module_path": ".",
                "student_module_io": "output",
                "teacher_module_path": ".",
                "teacher_module_io": "output",
                "temperature": TEMPERATURE,
                "alpha": HARD,
            },
        }
        config = {
            "num_epochs": 1,
            "train_data_loader": loader,
            "val_data_loader": {**copy.deepcopy(loader), "dataset_id": "train"},
            "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
            "student": {"forward_proc": "forward_batch_only"},
            "optimizer": {
                "key": "SGD",
                "kwargs": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
            },
            "criterion": {
                "key": "WeightedSumLoss",
                "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}},
            },
        }
        data = {"train": _Pictures(*images, augment)}
        self.box = get_distillation_box(
            teacher.eval(), student, data, config, torch.device("cpu"), None, False, 1.0
        )

    def loss(self, batch: Tensor, labels: Tensor) -> float:
        self.box.pre_epoch_process(epoch=0)
        return float(self.box.forward_process(batch, labels, {}).detach())

    def epoch(self) -> None:
        self.box.pre_epoch_process(epoch=0)
        for sample, target, supplement in self.box.train_data_loader:
            self.box.pre_forward_process()
            self.box.post_forward_process(self.box.forward_process(sample, target, supplement))


class _Pictures(torch.utils.data.Dataset[Any]):
    """PIL images with labels, as torchvision's CIFAR classes give them."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        from PIL import Image

        self.images = [Image.fromarray(image) for image in pixels]
        self.labels, self.transform = labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        return self.transform(self.images[at]), self.labels[at]


class Ours:
    """The suite's own step, for one method at a time."""

    def __init__(self, teacher: VisionModel, student: VisionModel, images: Any) -> None:
        self.teacher, self.student = teacher, student
        scale = 255 * np.array([MEAN, STD], dtype=np.float32)
        augment = Augment(pad=4, flip=True)
        self.split = ImageSplit(*images, mean=scale[0], std=scale[1], augment=augment)

    def runner(self, name: str, source: Any, precision: str) -> Callable[[int], None]:
        options = {"temperature": TEMPERATURE} if name == "kd" else {}
        cls = METHODS.get(name)
        method = cls(build(cls.Config, options, name))
        student = copy.deepcopy(self.student)
        method.setup(
            Setup(
                student=student,
                num_classes=CLASSES,
                family="image",
                pairs=uniform_pairs(student.depth, self.teacher.depth),
                probe=self.split.batch(np.arange(8)),
                teacher=source,
                head=self.teacher.head.weight.detach(),
                training_batches=lambda: (
                    self.split.batch(index) for index in self.split.evaluation_order(500)
                ),
                generator=torch.Generator().manual_seed(0),
            )
        )
        recipe = Recipe(epochs=1, batch_size=BATCH, learning_rate=0.05, precision=precision)
        setting = Setting(
            train=self.split,
            validation=self.split,
            recipe=recipe,
            seed=0,
            score=lambda logits, labels: {},
            metric="accuracy",
            direction="max",
            pairs=uniform_pairs(student.depth, self.teacher.depth),
        )
        stage = StageRunner(student, method, source, setting, method.stages()[0], 1000)
        optimizer = build_optimizer(recipe, student, method)
        return lambda epoch: stage.epoch(optimizer, epoch, epoch) and None

    def loss(self, batch: Tensor, labels: Tensor) -> float:
        from bench.method import Progress
        from bench.types import Batch

        method = METHODS.get("kd")(build(METHODS.get("kd").Config, {}, "kd"))
        inputs = {"image": batch}
        student = copy.deepcopy(self.student).train()
        index = torch.arange(len(labels))
        terms = method.loss(
            batch=Batch(inputs, labels, index),
            student=student(inputs).float(),
            teacher=LiveTeacher(self.teacher, "float32")(Batch(inputs, labels, index), ()),
            progress=Progress("main", 0, 1),
        )
        return sum(float(term.detach()) for term in terms.values())


def seconds(work: Callable[[], Any]) -> float:
    """Return the wall time of ``work``."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=24, help="steps an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", default="kd,lelp,dkd,rkd,embedding", help="share the cache")
    chosen = parser.parse_args()
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    count, draw = chosen.steps * BATCH, np.random.default_rng(0)
    images = (
        draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
        draw.integers(0, CLASSES, count),
    )
    teacher = build_vision("resnet56", num_classes=CLASSES).eval()
    ours = Ours(teacher, build_vision("resnet20", num_classes=CLASSES), images)
    networks = [
        copy.deepcopy(model.network).to(memory_format=torch.contiguous_format)
        for model in (teacher, ours.student)
    ]
    _check_same_loss(ours, Peer(networks[0], copy.deepcopy(networks[1]), images, 0))
    peers = {
        f"torchdistill, {workers} loader workers": Peer(
            networks[0], copy.deepcopy(networks[1]), images, workers
        )
        for workers in (0, 2)
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_CACHE"] = folder
        rates = _rounds(ours, peers, chosen.methods.split(","), chosen.rounds)
    _print(rates, list(peers))


def _check_same_loss(ours: Ours, peer: Peer) -> None:
    batch = ours.split.batch(np.arange(BATCH), View(0, 0))
    theirs = peer.loss(batch.inputs["image"], batch.labels)
    own = ours.loss(batch.inputs["image"], batch.labels)
    print(f"loss at step 0, same batch and weights: torchdistill {theirs:.6f}, ours {own:.6f}")
    if abs(theirs - own) > 1e-4 * abs(theirs):
        raise SystemExit("the two sides do not compute the same loss")


def _rounds(
    ours: Ours, peers: dict[str, Peer], names: list[str], rounds: int
) -> dict[str, list[float]]:
    """Return images per second of each loop, by round."""
    count = len(ours.split)
    served = for_inference(copy.deepcopy(ours.teacher))  # as a cell's teacher is loaded
    live = {
        f"ours, kd, teacher live, {precision}": ours.runner(
            "kd", LiveTeacher(served, precision), precision
        )
        for precision in ("bfloat16", "float32")
    }
    rates: dict[str, list[float]] = {}
    for at in range(rounds + 1):
        measured = {name: count / seconds(peer.epoch) for name, peer in peers.items()}
        measured |= {name: count / seconds(partial(run, at)) for name, run in live.items()}
        filling, runs = _shared(ours, served, names, at)
        measured["ours, kd, teacher cached, bfloat16"] = count / runs[0]
        together = count * len(names) / (filling + sum(runs))
        measured[f"ours, {len(names)} methods on one cache, its filling counted"] = together
        for name, rate in measured.items() if at else ():  # the first round only warms up
            rates.setdefault(name, []).append(rate)
    return rates


def _print(rates: dict[str, list[float]], peers: list[str]) -> None:
    middle = {name: statistics.median(values) for name, values in rates.items()}
    best = max(middle[name] for name in peers)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| loop | images/s (median) | lowest to highest | against the faster torchdistill |")
    print("| :-- | --: | --: | --: |")
    for name, value in middle.items():
        spread = f"{min(rates[name]):.0f} to {max(rates[name]):.0f}"
        print(f"| {name} | {value:.0f} | {spread} | {value / best:.2f} |")


def _shared(ours: Ours, teacher: Model, names: list[str], epoch: int) -> tuple[float, list[float]]:
    """Fill a view's signals and train each method for an epoch on them."""
    view = View(0, epoch)
    live = LiveTeacher(teacher, "bfloat16")
    filled: list[Path] = []

    def work() -> None:
        there = fill(
            live.model,
            ours.split,
            teacher="benchmark",
            views=[view],
            batch_size=500,
            precision="bfloat16",
        )
        assert there is not None
        filled.append(there)

    took = seconds(work)
    runs = []
    for name in names:
        # a fit-time pass over plain samples (lelp) is served live here: it is part of set-up
        source = CachedTeacher(filled[0], torch.device("cpu"), live=live, static=False)
        run = ours.runner(name, source, "bfloat16")
        runs.append(seconds(partial(run, epoch)))
    return took, runs


if __name__ == "__main__":
    main()
