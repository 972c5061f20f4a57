"""The contract of a task: data with three splits, models for each preset, one primary metric."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from bench.config import Config, build, leaves, written
from bench.errors import BenchError, unknown
from bench.tasks.variants import OPTIONS, Variant

if TYPE_CHECKING:
    from torch import Tensor

    from bench.data.splits import Split
    from bench.models.base import Model
    from bench.teachers.signals import TeacherSource

SourceKind = Literal["embedded", "mirror", "hub"]
SHORT = ("epochs", "batch_size")  # settings that mean the student recipe's field


class Recipe(Config):
    """How a model is trained; the same for every method of a task and preset.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples an optimiser step.
        optimizer: SGD with momentum 0.9, or AdamW.
        learning_rate: at the end of the warm-up.
        weight_decay: as the optimiser applies it.
        schedule: cosine to zero, or ×0.1 at each milestone.
        milestones: positions in (0, 1) of a stage, for "step".
        warmup: share of the steps over which the rate rises.
        clip: largest gradient norm, if any.
        precision: autocast type of forward passes; losses are always float32.
        views: replay this many augmented views instead of a fresh one every epoch.
        compile: run the student through ``torch.compile``.
    """

    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    warmup: float = Field(default=0.0, ge=0, lt=1)
    clip: float | None = Field(default=None, gt=0)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    views: int | None = Field(default=None, gt=0)
    compile: bool = False

    @field_validator("milestones", mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        """Take them as a command line has them: ``0.5,0.75``."""
        if not isinstance(value, str):
            return value
        return [part for part in value.split(",") if part.strip()]


class Preset(Config):
    """One size of a task.

    Attributes:
        source: where the data comes from by default.
        student: name of the student model.
        teacher: name of the teacher model.
        recipe: the student's training.
        teacher_recipe: the teacher's training.
        teacher_checkpoint: a safetensors file to take the teacher's weights from, instead of
            training it.
        frozen_teacher: train only a head on the teacher's frozen embeddings.
        generator: name of the generator, for methods that ask for one.
        generator_recipe: its training; needed unless it comes from the hub.
        variants: generated texts kept for each training text (images are generated afresh).
        train_limit: use only the first so many training samples, of a fixed shuffled order but
            for scanned digits, which keep their own.
        n: keep the labels of so many training samples, balanced by class (after ``train_limit``).
        imbalance: long tail, size of the largest class over the smallest (after ``train_limit``).
        teacher_data: what the teacher of such a variant is trained on: "labelled" samples only,
            or "all" with their labels.
        evaluation_batch: batch size where no gradient is needed.
        max_length: tokens a text is cut to.
    """

    source: SourceKind
    student: str
    teacher: str
    recipe: Recipe
    teacher_recipe: Recipe
    teacher_checkpoint: str | None = None
    frozen_teacher: bool = False
    generator: str | None = None
    generator_recipe: Recipe | None = None
    variants: int = Field(default=2, gt=0, le=64)
    train_limit: int | None = Field(default=None, gt=0)
    n: int | None = Field(default=None, gt=0)
    imbalance: float | None = Field(default=None, ge=1)
    teacher_data: Literal["labelled", "all"] = "labelled"
    evaluation_batch: int = Field(default=500, gt=0)
    max_length: int = Field(default=64, gt=2, le=512)


@dataclass(frozen=True)
class Origin:
    """What data was used: named in every record and under every table.

    Attributes:
        name: the data's own name; an embedded stand-in never carries the hub set's.
        limits: what a reader must know of it, one sentence.
        revision: hub revision, or the release the data came from.
        fingerprint: hex digest that changes with the bytes.
    """

    source: SourceKind
    name: str
    limits: str
    revision: str
    fingerprint: str


@dataclass(frozen=True)
class Data:
    """A loaded task: its splits on the device.

    Attributes:
        further: other held-out splits that are scored but never selected on.
        texts: for text, the raw strings of every split.
        subclasses: finer true labels of the training split, ``(N,)`` int64 on the device, where
            the task merges them into its classes; only oracles are given them.
        unlabelled: training samples whose labels are hidden: all of them are −1 here.
        groups: classes by how many training samples they have, where a variant made them unequal.
        dropped: number of rows that could not be used, by the reason.
    """

    train: Split
    validation: Split
    test: Split
    further: Mapping[str, Split] = field(default_factory=dict)
    texts: Mapping[str, list[str]] | None = None
    subclasses: Tensor | None = None
    unlabelled: Split | None = None
    groups: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)

    def held_out(self) -> dict[str, Split]:
        """Return the splits that are predicted and scored: validation, test and any further."""
        return {"validation": self.validation, "test": self.test, **self.further}

    def rows(self) -> dict[str, int]:
        """Return the number of samples by split."""
        splits = {"train": self.train, **self.held_out()}
        if self.unlabelled is not None:
            splits["unlabelled"] = self.unlabelled
        return {name: len(split) for name, split in splits.items()}

    def described(self) -> dict[str, Any]:
        """Return what a record says of the loaded data."""
        dropped = {reason: count for reason, count in self.dropped.items() if count}
        return {"rows": self.rows(), **({"dropped": dropped} if dropped else {})}


class Task:
    """Base of all tasks; the image, text and retrieval families implement most of it.

    Args:
        preset: the preset's name.
        source: overrides the preset's data source.
        overrides: preset fields by dotted path, as the command line gives them.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    metric: ClassVar[str] = "accuracy"
    direction: ClassVar[Literal["max", "min"]] = "max"
    num_classes: int
    augmented: ClassVar[bool] = False  # whether training views of a sample differ
    has_variants: ClassVar[bool] = False  # whether ``n`` and ``imbalance`` mean something
    # what its teachers have to offer; a method that needs more is not for it
    signals: ClassVar[frozenset[str]] = frozenset(
        {"logits", "embedding", "hidden", "head", "generator"}
    )
    presets: ClassVar[Mapping[str, Preset]]

    def __init__(
        self,
        preset: str,
        *,
        source: SourceKind | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        if preset not in self.presets:
            raise unknown(f"preset (task '{self.name}')", preset, self.presets)
        self.preset_name = preset
        given = spelt(overrides or {})
        self.preset = override(self.presets[preset], given, f"task '{self.name}'")
        for name in ("teacher_recipe", "generator_recipe"):
            recipe = getattr(self.preset, name)
            if recipe is not None and recipe.compile:
                raise BenchError(
                    f"task '{self.name}': {name}.compile is no setting",
                    "only students are compiled",
                )
        self.overrides = changed(self.presets[preset], self.preset, given)
        self.variant = Variant.of(self.preset.model_dump())
        if self.variant:
            if not self.has_variants:
                raise BenchError(
                    f"task '{self.name}' has no variant '{self.variant.part}'",
                    "n and imbalance are for classification",
                )
            self.variant.check(self.name, self.num_classes)
        self.source: SourceKind = source or self.preset.source
        if self.source not in self.sources():
            raise BenchError(
                f"task '{self.name}' has no {self.source} data", f"it has {self.sources()}"
            )

    def sources(self) -> tuple[SourceKind, ...]:
        """Return the kinds of source this task can be read from."""
        return ("embedded", "mirror", "hub")

    def origin(self) -> Origin:
        """Describe the data without loading it; cheap enough for planning."""
        raise NotImplementedError

    def problem(self) -> str | None:
        """Return why the data cannot be read here, in one line, or ``None``."""
        raise NotImplementedError

    def load(self, device: str = "cpu") -> Data:
        """Read the three splits."""
        raise NotImplementedError

    def build_model(self, name: str, *, data: Data | None = None) -> Model:
        """Build the model called ``name`` with random initialisation from the global stream."""
        raise NotImplementedError

    @property
    def text_length(self) -> int:
        """Return the tokens that texts a generator writes are cut to."""
        return self.preset.max_length

    def class_groups(self, labels: np.ndarray) -> dict[str, tuple[int, ...]]:
        """Return the classes by how many of ``labels`` they have; empty without a long tail."""
        if self.variant.imbalance is None:
            return {}
        from bench.metrics.groups import class_groups

        return class_groups(np.bincount(labels, minlength=self.num_classes))

    def vocabulary(self) -> str:
        """Return what turns raw inputs into tokens; empty where nothing does."""
        return ""

    def class_names(self) -> tuple[str, ...]:
        """Return the classes' names in the order of their labels; empty where they are numbers."""
        return ()

    def teacher_source(self, source: TeacherSource) -> TeacherSource:
        """Return the teacher as methods see it: as it is, but for what a family must add."""
        return source

    def evaluate(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Score ``logits`` ``(N, C)`` against ``labels`` ``(N,)``."""
        from bench.metrics.classification import classification_metrics

        return classification_metrics(logits, labels)

    def each(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """Return the primary metric of each sample ``(N,)``, ``None`` where only a mean has one.

        What is returned is kept beside the record, for tests over samples.
        """
        return None

    @property
    def full_name(self) -> str:
        """Return the name with the variant in it: ``cifar10:n=250``."""
        return self.variant.named(self.name)

    def of_teacher(self) -> Task:
        """Return the task that the teacher is trained on: this one, or the whole of it."""
        if self.variant.teacher_data != "all":
            return self
        whole = {name: value for name, value in self.overrides.items() if name not in OPTIONS}
        return type(self)(self.preset_name, source=self.source, overrides=whole)

    def of_generator(self) -> Task:
        """Return the task whose training inputs a generator learns: with those that ``n`` hides.

        It reads no label, so that few labels are no fewer inputs; a long tail's inputs are gone.
        """
        dropped = ("n", "teacher_data")
        whole = {name: value for name, value in self.overrides.items() if name not in dropped}
        return type(self)(self.preset_name, source=self.source, overrides=whole)


def spelt(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``overrides`` with one spelling of each setting, so that two make one table.

    >>> spelt({"recipe.epochs": 4, "recipe.clip": 1})
    {'epochs': 4, 'recipe.clip': 1}

    Raises:
        BenchError: for a setting that is given in two spellings.
    """
    for path, other in itertools.permutations(overrides, 2):
        if f"{_full(path)}.".startswith(f"{_full(other)}."):
            raise BenchError(f"settings '{other}' and '{path}' are one and the same", "give one")
    return {_short(path): value for path, value in overrides.items()}


def changed(preset: Preset, made: Preset, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``overrides`` that make ``made`` out of ``preset``, as values are written.

    One setting has one name in every table: ``1e-1`` is ``0.1``, and the preset's own value that
    is written out is no other preset.
    """
    before, now = (dict(leaves(each.model_dump(mode="json"))) for each in (preset, made))
    found: dict[str, Any] = {}
    for path, value in overrides.items():
        full = _full(path)
        if full in before and full not in now:  # a whole recipe where the preset has none
            found[path] = value
            continue
        for name in (name for name in now if f"{name}.".startswith(f"{full}.")):
            if name not in before or now[name] != before[name]:
                # a list stays one: not every field reads it from a text
                listed = isinstance(now[name], list)
                found[_short(name)] = now[name] if listed else written(now[name])
    return found


def _full(path: str) -> str:
    return f"recipe.{path}" if path in SHORT else path


def _short(path: str) -> str:
    return next((name for name in SHORT if path == _full(name)), path)


def override(preset: Preset, overrides: Mapping[str, Any], what: str) -> Preset:
    """Return ``preset`` with fields replaced; ``recipe.epochs`` reaches into the recipe.

    ``epochs`` and ``batch_size`` are short for the student recipe's fields.
    """
    values = preset.model_dump()
    for path, value in overrides.items():
        if path == "source":  # BENCH_DATA would overrule it
            raise BenchError(f"{what}: 'source' is no setting", "use --source")
        target = values
        *parents, leaf = _full(path).split(".")
        for parent in parents:
            if not isinstance(target.get(parent), dict):
                raise unknown(f"setting ({what})", path, [*_paths(preset), *SHORT])
            target = target[parent]
        if leaf not in target:
            raise unknown(f"setting ({what})", path, [*_paths(preset), *SHORT])
        if isinstance(value, Mapping) and isinstance(target[leaf], dict):
            target[leaf] = {**target[leaf], **value}  # as TOML writes a bare dotted name
        else:
            target[leaf] = value
    return build(type(preset), values, what)


def _paths(preset: Preset) -> list[str]:
    return [path for path, _ in leaves(preset.model_dump()) if path != "source"]
