"""CIFAR-10, CIFAR-10 by parity of the label, and CIFAR-100 (Krizhevsky 2009)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bench import register_task
from bench.tasks.base import Origin
from bench.tasks.image import Arrays, ImageTask, carve
from bench.tasks.preset import Preset, Recipe

if TYPE_CHECKING:
    from bench.data.sources import DatasetRef
    from bench.data.splits import Augment

VALIDATION_SHARE = 0.1
CIFAR10_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

# Adam for a generator: an autoencoder's loss is no classifier's.
_GENERATOR_RECIPE = Recipe(
    epochs=5,
    batch_size=64,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=1e-4,
    warmup=0.05,
    clip=1.0,
)
QUICK = Preset(
    source="embedded",
    student="resnet8w8s2+ones",
    teacher="resnet14w16s2+ones",
    generator="autoencoder-w16-z4",
    generator_recipe=_GENERATOR_RECIPE.model_copy(update={"epochs": 12, "batch_size": 32}),
    recipe=Recipe(
        epochs=10, batch_size=32, learning_rate=0.1, schedule="cosine", warmup=0.1, clip=5.0
    ),
    teacher_recipe=Recipe(
        epochs=12, batch_size=32, learning_rate=0.1, schedule="cosine", warmup=0.1, clip=5.0
    ),
)
# The rate was chosen for the plain student on validation (0.1, 0.3, 0.5, 1.0 on a third of the
# data): at 0.1 it learns so slowly that a method with larger gradients is flattered.
SMALL = Preset(
    source="hub",
    student="resnet8",
    teacher="resnet20",
    generator="autoencoder-w32-z16",
    generator_recipe=_GENERATOR_RECIPE,
    recipe=Recipe(
        epochs=5, batch_size=128, learning_rate=0.5, schedule="cosine", warmup=0.05, clip=5.0
    ),
    teacher_recipe=Recipe(
        epochs=16, batch_size=128, learning_rate=0.1, schedule="cosine", warmup=0.05, clip=5.0
    ),
)
STANDARD = Preset(
    source="hub",
    student="resnet20+ones",
    teacher="resnet56+ones",
    generator="autoencoder-w64-z16",
    generator_recipe=_GENERATOR_RECIPE.model_copy(update={"epochs": 30}),
    recipe=Recipe(
        epochs=100, batch_size=128, learning_rate=0.1, schedule="cosine", warmup=0.05, clip=5.0
    ),
    teacher_recipe=Recipe(
        epochs=100, batch_size=128, learning_rate=0.1, schedule="cosine", warmup=0.05, clip=5.0
    ),
)
# Tian et al. 2020 (arXiv 1910.10699), §4: 240 epochs, ×0.1 at 150, 180 and 210.
_PAPER_RECIPE = Recipe(
    epochs=240,
    batch_size=64,
    learning_rate=0.05,
    schedule="step",
    milestones=(150 / 240, 180 / 240, 210 / 240),
    precision="float32",
)
PAPER = Preset(
    source="hub",
    student="resnet20+ones",
    teacher="resnet56+ones",
    generator="autoencoder-w64-z16",
    generator_recipe=_GENERATOR_RECIPE.model_copy(update={"epochs": 60}),
    recipe=_PAPER_RECIPE,
    teacher_recipe=_PAPER_RECIPE,
)


def _shorter(preset: Preset) -> Preset:
    """Return ``preset`` with half the epochs: digit pairs are four times as many as digits."""
    names = ("recipe", "teacher_recipe", "generator_recipe")
    recipes = {name: getattr(preset, name) for name in names}
    return preset.model_copy(
        update={
            name: recipe.model_copy(update={"epochs": recipe.epochs // 2})
            for name, recipe in recipes.items()
            if recipe is not None
        }
    )


class CifarTask(ImageTask):
    """What the CIFAR tasks share: one hub set, one embedded stand-in."""

    presets: ClassVar = {"quick": QUICK, "small": SMALL, "standard": STANDARD, "paper": PAPER}
    label_column: ClassVar[str] = "label"
    original_classes: ClassVar[int] = 10  # of the set, before `relabel`
    stand_in: ClassVar[str] = "embedded digits"
    stand_in_limits: ClassVar[str] = (
        "1,797 scanned digits of scikit-learn, upscaled from 8×8: far easier than photographs"
    )

    def reference(self) -> DatasetRef:
        """Return the hub set."""
        from bench.data.hub_refs import CIFAR10

        return CIFAR10

    def embedded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return images, labels and split names of the embedded stand-in."""
        from bench.data.embedded import read_digits

        return read_digits()

    def augmentation(self) -> Augment:
        from bench.data.splits import Augment

        # a mirrored digit is no digit
        return Augment(pad=2) if self.source == "embedded" else Augment(pad=4, flip=True)

    def arrays(self) -> Arrays:
        if self.source == "embedded":
            pictures, digits, split = self.embedded()
            return {
                name: (pictures[split == name], digits[split == name])
                for name in ("train", "validation", "test")
            }
        from bench.data.columns import check_labels, integers
        from bench.data.images import cached_images
        from bench.data.sources import open_source

        source, reference = open_source(self.source), self.reference()
        images: dict[str, np.ndarray] = {}
        labels: dict[str, np.ndarray] = {}
        for name in ("train", "test"):
            images[name] = cached_images(source, reference, name, "img", (32, 32))
            table = source.read(reference, name)
            labels[name] = integers(table, self.label_column, f"{reference.name}, {name}")
            check_labels(labels[name], self.original_classes, f"{reference.name}, {name}")
        # carved by the original label, so that every variant of the set shares its splits
        kept, held = carve(labels["train"], VALIDATION_SHARE)
        return {
            "train": (images["train"][kept], labels["train"][kept]),
            "validation": (images["train"][held], labels["train"][held]),
            "test": (np.asarray(images["test"]), labels["test"]),
        }

    def origin(self) -> Origin:
        if self.source == "embedded":
            import sklearn

            return Origin(
                "embedded",
                self.stand_in,
                self.stand_in_limits,
                f"scikit-learn {sklearn.__version__}",
                fingerprint_arrays(*self.embedded()),
            )
        from bench.data.sources import open_source

        source, reference = open_source(self.source), self.reference()
        return Origin(
            self.source,
            self.hub_name(),
            "",
            source.revision(reference),
            source.fingerprint(reference, ("train", "test")),
        )

    def hub_name(self) -> str:
        """Return the name of the hub set as shown in tables."""
        return self.reference().name

    def problem(self) -> str | None:
        if self.source == "embedded":
            return None
        from bench.data.sources import open_source

        return open_source(self.source).problem(self.reference(), ("train", "test"))


def fingerprint_arrays(*arrays: np.ndarray) -> str:
    """Return the sha256 of the arrays' shapes and bytes."""
    import hashlib

    digest = hashlib.sha256()
    for array in arrays:
        if array.dtype.kind not in "iufb":
            array = np.char.encode(array.astype(str), "utf-8")
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@register_task("cifar10")
class Cifar10(CifarTask):
    """CIFAR-10: 60,000 photographs in ten classes; ``quick`` runs on scanned digits instead."""

    num_classes = 10

    def class_names(self) -> tuple[str, ...]:
        if self.source == "embedded":
            return ()
        return CIFAR10_NAMES


@register_task("cifar10-binary")
class Cifar10Binary(CifarTask):
    """CIFAR-10 with labels taken mod 2 (LELP's few-class test); ``quick``: parity of a digit."""

    num_classes = 2
    stand_in = "embedded digits, parity"

    def relabel(self, labels: np.ndarray) -> np.ndarray:
        return labels % 2

    def hub_name(self) -> str:
        return f"{self.reference().name}, label mod 2"


@register_task("cifar100")
class Cifar100(CifarTask):
    """CIFAR-100: 60,000 photographs in a hundred classes; ``quick``: two-digit numbers."""

    presets: ClassVar = {**CifarTask.presets, "quick": _shorter(QUICK)}
    num_classes = 100
    label_column = "fine_label"
    original_classes = 100
    stand_in = "embedded digit pairs"
    stand_in_limits = (
        "two scanned digits of scikit-learn side by side, read as a number 00–99: made images"
    )

    def reference(self) -> DatasetRef:
        from bench.data.hub_refs import CIFAR100

        return CIFAR100

    def embedded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from bench.data.embedded import read_digit_pairs

        return read_digit_pairs()
