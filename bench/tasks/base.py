"""The contract of a task: data with three splits, models for each preset, one primary metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bench.errors import BenchError, unknown
from bench.tasks.preset import Preset, SourceKind, changed, override, spelt
from bench.tasks.variants import OPTIONS, Variant

if TYPE_CHECKING:
    from torch import Tensor

    from bench.data.splits import Split
    from bench.models.base import Model
    from bench.teachers.signals import TeacherSource


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
