"""Amazon reviews as two and as five classes; Sentiment140."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bench import register_task
from bench.data import columns
from bench.data.order import fixed_order
from bench.errors import BenchError
from bench.tasks.base import Origin
from bench.tasks.image import carve
from bench.tasks.preset import Preset, Recipe
from bench.tasks.text import GENERATOR_RECIPE, Texts, TextTask

if TYPE_CHECKING:
    import pyarrow as pa

    from bench.data.sources import DatasetRef, Source

QUICK = Preset(
    source="embedded",
    student="bert-L2-H32",
    generator="bart-L1-H64",
    generator_recipe=GENERATOR_RECIPE,
    variants=1,
    teacher="minilm",
    frozen_teacher=True,
    recipe=Recipe(
        epochs=6,
        batch_size=64,
        optimizer="adamw",
        learning_rate=4e-3,
        weight_decay=0.01,
        warmup=0.1,
        clip=1.0,
        precision="float32",
    ),
    teacher_recipe=Recipe(epochs=1, batch_size=32, learning_rate=1e-3),
    evaluation_batch=128,
)
SMALL = Preset(
    source="hub",
    student="minilm:2",
    generator="bart-L2-H128",
    generator_recipe=GENERATOR_RECIPE.model_copy(update={"learning_rate": 1e-3}),
    teacher="minilm",
    recipe=Recipe(
        epochs=3,
        batch_size=32,
        optimizer="adamw",
        learning_rate=2e-4,
        weight_decay=0.01,
        warmup=0.1,
        clip=1.0,
    ),
    teacher_recipe=Recipe(
        epochs=2,
        batch_size=32,
        optimizer="adamw",
        learning_rate=5e-5,
        weight_decay=0.01,
        warmup=0.1,
        clip=1.0,
    ),
    evaluation_batch=128,
)
# Turc et al. 2019 (arXiv 1908.08962): pre-trained compact students of BERT's own vocabulary.
STANDARD = Preset(
    source="hub",
    student="hub:google/bert_uncased_L-4_H-256_A-4",
    teacher="hub:google-bert/bert-base-uncased",
    generator="hub:facebook/bart-base",
    variants=4,
    recipe=SMALL.recipe.model_copy(update={"epochs": 5, "batch_size": 64}),
    teacher_recipe=SMALL.teacher_recipe.model_copy(update={"epochs": 3, "learning_rate": 3e-5}),
    max_length=128,
)
PAPER = STANDARD.model_copy(update={"max_length": 256})

CARVED_VALIDATION = 0.1
SLICE = "read from a mirror, whose rows may be a slice of the hub set"


class ReviewTask(TextTask):
    """What the review tasks share."""

    presets: ClassVar = {"quick": QUICK, "small": SMALL, "standard": STANDARD, "paper": PAPER}
    embedded_file: ClassVar[Any] = "amazon_snippets"
    embedded_name: ClassVar[str]
    embedded_limits: ClassVar[str]
    slice_limits: ClassVar[str]
    hub_limits: ClassVar[str] = ""

    def reference(self) -> DatasetRef:
        """Return the hub set."""
        raise NotImplementedError

    def class_names(self) -> tuple[str, ...]:
        return ("negative", "positive") if self.num_classes == 2 else ()

    def splits(self, source: Source) -> tuple[str, ...]:
        """Return the splits that are read from ``source``."""
        raise NotImplementedError

    def embedded_labels(self, rating: np.ndarray) -> np.ndarray:
        """Turn mean ratings in −4…4 into labels; −1 drops the row.  Two classes by default."""
        return np.where(rating > 0.5, 1, np.where(rating < -0.5, 0, -1))

    def read(self, source: Source) -> Texts:
        """Return the splits as read from hub or mirror."""
        raise NotImplementedError

    def texts(self) -> Texts:
        if self.source == "embedded":
            return self._embedded()
        from bench.data.sources import open_source

        return self.read(open_source(self.source))

    def _embedded(self) -> Texts:
        from bench.data.embedded import read_text

        frame = read_text(self.embedded_file)
        label = self.embedded_labels(frame["rating"].to_numpy())
        found = {}
        for name in ("train", "validation", "test"):
            chosen = (frame["split"] == name).to_numpy() & (label >= 0)
            found[name] = (frame["text"][chosen].tolist(), label[chosen].astype(np.int64))
        return found

    def origin(self) -> Origin:
        if self.source == "embedded":
            from bench.tasks.text import fingerprint_texts

            return Origin(
                "embedded",
                self.embedded_name,
                self.embedded_limits,
                "vaderSentiment 3.3.2",
                fingerprint_texts(self._embedded()),
            )
        from bench.data.sources import open_source

        source, reference = open_source(self.source), self.reference()
        return Origin(
            self.source,
            reference.name,
            self.slice_limits if self.source == "mirror" else self.hub_limits,
            source.revision(reference),
            source.fingerprint(reference, self.splits(source)),
        )

    def problem(self) -> str | None:
        if self.source == "embedded":
            return None
        from bench.data.sources import open_source

        source = open_source(self.source)
        try:
            return source.problem(self.reference(), self.splits(source))
        except (BenchError, OSError, ValueError) as error:  # data that is not there, or damaged
            return str(error)


def split_off_validation(rows: list[str], labels: np.ndarray, share: float) -> Texts:
    """Carve a class-balanced validation part out of training rows."""
    kept, held = carve(labels, share)
    return {
        "train": ([rows[position] for position in kept], labels[kept]),
        "validation": ([rows[position] for position in held], labels[held]),
    }


@register_task("amazon")
class Amazon(ReviewTask):
    """Amazon reviews, negative or positive; ``quick`` runs on human-rated review sentences."""

    num_classes = 2
    embedded_name = "embedded snippets"
    embedded_limits = (
        "review sentences rated by 20 people (Hutto and Gilbert 2014), |mean| > 0.5 of 4; "
        "reviews of five products"
    )
    slice_limits = SLICE

    def reference(self) -> DatasetRef:
        from bench.data.hub_refs import AMAZON_POLARITY

        return AMAZON_POLARITY

    def splits(self, source: Source) -> tuple[str, ...]:
        own = source.kind == "mirror" and source.has(self.reference(), "validation")
        return ("train", "validation", "test") if own else ("train", "test")

    def read(self, source: Source) -> Texts:
        found: Texts = {}
        for name in self.splits(source):
            table, where = source.read(self.reference(), name), f"{self.reference().name}, {name}"
            labels = columns.integers(table, "label", where)
            columns.check_labels(labels, self.num_classes, where)
            found[name] = (joined(table, "title", "content", where), labels)
        if "validation" not in found:
            found.update(split_off_validation(*found["train"], CARVED_VALIDATION))
        return found


@register_task("amazon-5")
class Amazon5(ReviewTask):
    """Amazon reviews by stars, five classes; ``quick``: five bins of the mean human rating."""

    num_classes = 5
    embedded_name = "embedded snippets, 5 bins"
    embedded_limits = (
        "review sentences rated by 20 people (Hutto and Gilbert 2014), binned at −1.5, −0.5, 0.5 "
        "and 1.5 of 4; reviews of five products"
    )
    slice_limits = "read from a mirror, whose rows may be a slice; 3 stars are rare"
    hub_limits = "one category of the set alone, All Beauty; 3 stars are rare"

    def class_names(self) -> tuple[str, ...]:
        if self.source == "embedded":
            return ()  # bins of a mean rating are no stars
        return tuple(f"{stars} star{'s'[: stars - 1]}" for stars in range(1, 6))

    def embedded_labels(self, rating: np.ndarray) -> np.ndarray:
        return np.asarray(np.digitize(rating, (-1.5, -0.5, 0.5, 1.5)), dtype=np.int64)

    def reference(self) -> DatasetRef:
        from bench.data.hub_refs import AMAZON_REVIEWS

        return AMAZON_REVIEWS

    def splits(self, source: Source) -> tuple[str, ...]:
        return ("full",) if source.kind == "hub" else ("train", "validation", "test")

    def read(self, source: Source) -> Texts:
        found: Texts = {}
        for name in self.splits(source):
            table, where = source.read(self.reference(), name), f"{self.reference().name}, {name}"
            rows = joined(table, "title", "text", where)
            labels = columns.integers(table, "rating", where) - 1
            columns.check_labels(labels, self.num_classes, f"{where}, stars from 1")
            if name == "full":
                products = columns.texts(table, "parent_asin", where)
                return by_product(rows, labels, [product or "" for product in products])
            found[name] = (rows, labels)
        return found


def by_product(rows: list[str], labels: np.ndarray, products: list[str]) -> Texts:
    """Split 80/10/10 by a hash of the product, so that no product is in two splits."""
    place = np.array([hashlib.sha256(name.encode()).digest()[0] / 256 for name in products])
    found = {}
    for name, low, high in (("train", 0.0, 0.8), ("validation", 0.8, 0.9), ("test", 0.9, 1.0)):
        chosen = np.flatnonzero((place >= low) & (place < high))
        found[name] = ([rows[position] for position in chosen], labels[chosen])
    return found


@register_task("sentiment140")
class Sentiment140(ReviewTask):
    """Tweets, negative or positive (Go et al. 2009); ``quick`` runs on human-rated tweets."""

    num_classes = 2
    embedded_file = "tweets"
    embedded_name = "embedded tweets"
    embedded_limits = (
        "tweets rated by at least 20 people (Hutto and Gilbert 2014), |mean| > 0.5 of 4; "
        "authors are not known"
    )
    hub_limits = (
        "the official two-class test has 359 rows (±4.5 points), so 2,000 training rows are held "
        "out as a second test"
    )
    slice_limits = f"{SLICE}; {hub_limits}"
    second_test: ClassVar[int] = 2000

    def reference(self) -> DatasetRef:
        from bench.data.hub_refs import SENTIMENT140

        return SENTIMENT140

    def splits(self, source: Source) -> tuple[str, ...]:
        uniform = source.kind == "mirror" and source.has(self.reference(), "train_random")
        return ("train_random", "test") if uniform else ("train", "test")

    def read(self, source: Source) -> Texts:
        training, test = self.splits(source)
        rows, labels = self._two_class(source, training)
        if len(rows) <= self.second_test:
            raise BenchError(
                f"{self.reference().name}, {training}: {len(rows)} positive and negative rows",
                f"more than {self.second_test:,}, which are held out as a second test",
            )
        order = fixed_order(len(rows))
        held, kept = order[: self.second_test], np.sort(order[self.second_test :])
        found = split_off_validation(
            [rows[position] for position in kept], labels[kept], CARVED_VALIDATION
        )
        found["test"] = self._two_class(source, test)
        found["test_random"] = ([rows[position] for position in held], labels[held])
        return found

    def _two_class(self, source: Source, split: str) -> tuple[list[str], np.ndarray]:
        """Return the rows labelled 0 (negative) or 4 (positive); the test has neutral ones too."""
        table, where = source.read(self.reference(), split), f"{self.reference().name}, {split}"
        rows = columns.texts(table, "text", where)
        sentiment = columns.integers(table, "sentiment", where)
        chosen = np.flatnonzero(np.isin(sentiment, (0, 4)))
        labels = (sentiment[chosen] == 4).astype(np.int64)
        columns.check_labels(labels, self.num_classes, f"{where}, sentiment 0 or 4")
        return [rows[position] or "-" for position in chosen], labels


def joined(table: pa.Table, title: str, body: str, where: str) -> list[str]:
    """Return each row's title and body as one text."""
    both = zip(columns.texts(table, title, where), columns.texts(table, body, where), strict=True)
    return [join(*pair) for pair in both]


def join(title: str | None, body: str | None) -> str:
    """Return title and body as one text; either may be missing."""
    return ". ".join(part.strip() for part in (title, body) if part and part.strip()) or "-"
