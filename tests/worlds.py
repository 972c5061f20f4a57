"""Tiny real worlds that every test can train in: scanned digits, short token sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bench.data.splits import Split
    from bench.method import Method, Setup
    from bench.models.base import Model
    from bench.training.loop import Trained
    from bench.training.setting import Setting

DISTILLING = [
    *["kd", "fitnets", "fitnets_joint", "embedding", "rkd", "dkd", "crd", "gpd"],
    "label_smoothing",
]


@dataclass(frozen=True)
class Run:
    """What a training run left behind."""

    trained: Trained
    student: Model
    method: Method
    teacher: Model | None

    @property
    def told(self) -> list[dict[str, Any]]:
        """The history without wall times."""
        return [
            {name: value for name, value in entry.items() if name != "seconds"}
            for entry in self.trained.epochs
        ]


@dataclass(frozen=True)
class World:
    """Data and models of one family, small enough to be trained in a test.

    Attributes:
        family: "image" or "text".
        num_classes: of the labels.
        student_name: built by the family's builder.
        teacher_name: likewise; deeper and wider than the student.
        train: training split.
        validation: validation split.
        recipe: default recipe fields.
    """

    family: str
    num_classes: int
    student_name: str
    teacher_name: str
    train: Split
    validation: Split
    recipe: dict[str, Any]

    def model(self, name: str, stream: str, seed: int = 0) -> Model:
        """Build ``name`` from its own random stream."""
        import torch

        from bench.models.text import build_text
        from bench.models.vision import build_vision
        from bench.training.streams import stream_seed

        torch.manual_seed(stream_seed(seed, stream))
        build = build_vision if self.family == "image" else build_text
        return build(name, num_classes=self.num_classes)

    def student(self, seed: int = 0) -> Model:
        """Build the student as every method of ``seed`` gets it."""
        return self.model(self.student_name, "init", seed)

    def teacher(self) -> Model:
        """Build the teacher; its weights are random, which is teaching enough."""
        return self.model(self.teacher_name, "teacher-init")

    def setting(self, *, seed: int = 0, **changes: Any) -> Setting:
        """Return a setting; keywords that are not Setting's own change the recipe."""
        from bench.metrics.classification import classification_metrics
        from bench.models.base import uniform_pairs
        from bench.tasks.preset import Recipe
        from bench.training.setting import Setting

        own = {"train", "validation", "score", "metric", "direction"}
        fields = {name: changes.pop(name) for name in own & changes.keys()}
        pairs = uniform_pairs(self.student(seed).depth, self.teacher().depth)
        return Setting(
            **{
                "train": self.train,
                "validation": self.validation,
                "score": classification_metrics,
                "metric": "accuracy",
                "direction": "max",
                **fields,
            },
            recipe=Recipe(**{**self.recipe, **changes}),
            seed=seed,
            pairs=pairs,
            evaluation_batch=16,
        )

    def context(self, student: Model, source: Any, pairs: Sequence[tuple[int, int]]) -> Setup:
        """Return what a method may look at before training."""
        import torch

        from bench.method import Setup
        from bench.training.streams import stream_seed

        return Setup(
            student=student,
            num_classes=self.num_classes,
            family=self.family,
            pairs=pairs,
            probe=self.train.batch(np.arange(8)),
            teacher=source,
            head=self.teacher().head.weight.detach(),
            training_batches=lambda: (
                self.train.batch(index) for index in self.train.evaluation_order(16)
            ),
            generator=torch.Generator().manual_seed(stream_seed(0, "method")),
        )

    def run(
        self,
        method: str | Method,
        *,
        options: dict[str, Any] | None = None,
        student: Model | None = None,
        teacher: Model | None = None,
        source: Any = None,
        report: Callable[[dict[str, Any]], None] = lambda event: None,
        checkpoint: Path | None = None,
        watch: Callable[[Model], None] = lambda student: None,
        **changes: Any,
    ) -> Run:
        """Train a student through the real loop.

        Args:
            method: a registered name or a method of the test's own.
            options: the method's configuration.
            student: instead of the seed's own.
            teacher: instead of the world's own.
            source: instead of the teacher run live.
            report: called after each epoch.
            checkpoint: where to resume from.
            watch: called with the student before training (to put hooks on it).
            changes: as in :meth:`setting`.
        """
        from bench.teachers.signals import LiveTeacher
        from bench.training.loop import train

        setting = self.setting(**changes)
        made = make_method(method, options or {}) if isinstance(method, str) else method
        student = student or self.student(setting.seed)
        if made.signals and source is None:
            teacher = teacher or self.teacher()
            source = LiveTeacher(teacher, setting.recipe.precision)
        made.setup(self.context(student, source, setting.pairs))
        watch(student)
        trained = train(
            student=student,
            method=made,
            teacher=source,
            setting=setting,
            report=report,
            checkpoint=checkpoint,
        )
        return Run(trained, student, made, teacher)


def make_method(name: str, options: dict[str, Any]) -> Method:
    """Build a registered method or trained baseline."""
    from bench import BASELINES, METHODS
    from bench.config import build

    cls = METHODS.get(name) if name in METHODS else BASELINES.get(name)
    return cls(build(cls.Config, options, name))


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Return 112 scanned digits of four classes."""
    from bench.data.embedded import read_digits

    images, labels, _ = read_digits()
    chosen = np.flatnonzero(labels < 4)[:112]
    return images[chosen], labels[chosen]


def image_world() -> World:
    """64 + 48 scanned digits, augmented; ResNets with 20 and 80 thousand parameters."""
    from bench.data.splits import Augment, ImageSplit

    images, labels = _digits()
    statistics = {"mean": np.full(3, 80.0), "std": np.full(3, 90.0)}
    return World(
        "image",
        4,
        "resnet8w8s2",
        "resnet8w16s2",
        ImageSplit(images[:64], labels[:64], **statistics, augment=Augment(pad=2, flip=True)),
        ImageSplit(images[64:], labels[64:], **statistics),
        {
            "epochs": 2,
            "batch_size": 16,
            "learning_rate": 0.05,
            "warmup": 0.1,
            "clip": 5.0,
            "precision": "float32",
        },
    )


def text_world() -> World:
    """48 + 24 token sequences of 4 to 12 tokens, BERTs of two and three blocks with dropout."""
    from bench.data.splits import TextSplit

    generator = np.random.default_rng(7)
    labels = generator.integers(0, 2, 72)
    tokens = [
        np.concatenate(
            [[101], generator.integers(1000, 1040, generator.integers(2, 11)) + 20 * label, [102]]
        )
        for label in labels
    ]
    return World(
        "text",
        2,
        "bert-L2-H32",
        "bert-L3-H64",
        TextSplit(tokens[:48], labels[:48], pad=0),
        TextSplit(tokens[48:], labels[48:], pad=0),
        {
            "epochs": 2,
            "batch_size": 12,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.01,
            "clip": 1.0,
            "precision": "float32",
        },
    )
