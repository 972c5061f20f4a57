"""Text classification: the family's tokenisation and models."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bench.data.order import fixed_order
from bench.errors import BenchError
from bench.tasks.base import Data, Task
from bench.tasks.preset import Recipe

if TYPE_CHECKING:
    from bench.models.base import Model

# Of a compact BART on short texts: reviews, tweets, queries.
GENERATOR_RECIPE = Recipe(
    epochs=6,
    batch_size=16,
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=0.01,
    warmup=0.05,
    clip=1.0,
    precision="float32",
)

Texts = dict[str, tuple[list[str], np.ndarray]]


class TextTask(Task):
    """Texts with class labels, tokenised as the teacher's vocabulary says."""

    family: ClassVar[str] = "text"
    has_variants: ClassVar[bool] = True

    def texts(self) -> Texts:
        """Return ``{split: (texts, labels)}``: train, validation, test, and any further test."""
        raise NotImplementedError

    def load(self, device: str = "cpu") -> Data:
        from bench.data.columns import check_labels
        from bench.data.splits import TextSplit
        from bench.data.tokens import cached_tokens

        texts = self.texts()
        for name, (_, labels) in texts.items():
            check_labels(labels, self.num_classes, f"task '{self.name}', split '{name}'")
        texts, dropped = kept_apart(texts)
        for name in ("train", "validation"):
            if not texts[name][0]:
                raise BenchError(f"task '{self.name}': split '{name}' has no text of its own")
        if self.preset.train_limit is not None:
            rows, labels = texts["train"]
            order = fixed_order(len(rows))
            kept = order[: self.preset.train_limit]
            texts["train"] = ([rows[position] for position in kept], labels[kept])
        parts = {}
        if self.variant:
            parts = {"train": self.variant.part, UNLABELLED: f"{self.variant.part} unlabelled"}
            texts |= self._varied(*texts["train"])
        splits = {}
        for name, (rows, labels) in texts.items():
            ids, pad = cached_tokens(rows, self.vocabulary(), self.preset.max_length)
            part = parts.get(name, "")
            splits[name] = TextSplit(ids, labels, pad=pad, device=device, part=part)
        unlabelled = splits.pop(UNLABELLED, None)
        further = {name: split for name, split in splits.items() if name not in MAIN}
        return Data(
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            further=further,
            texts={name: rows for name, (rows, _) in texts.items()},
            unlabelled=unlabelled,
            groups=self.class_groups(texts["train"][1]),
            dropped=dropped,
        )

    def _varied(self, rows: list[str], labels: np.ndarray) -> Texts:
        """Return the variant's training texts, and where there are any the unlabelled rest."""
        chosen = self.variant.choose(labels, self.num_classes)
        found = {"train": ([rows[at] for at in chosen.labelled], labels[chosen.labelled])}
        if chosen.unlabelled is not None and len(chosen.unlabelled):
            hidden = np.full(len(chosen.unlabelled), -1)
            found[UNLABELLED] = ([rows[at] for at in chosen.unlabelled], hidden)
        return found

    def vocabulary(self) -> str:
        name = self.preset.teacher
        return name if name.startswith("hub:") else "minilm"

    def build_model(self, name: str, *, data: Data | None = None) -> Model:
        from bench.models.fit import check_length, check_vocabulary
        from bench.models.text import build_text

        check_vocabulary(name, self.vocabulary())
        model = build_text(name, num_classes=self.num_classes)
        check_length(model.encoder.config, self.preset.max_length, name)
        return model


UNLABELLED = "unlabelled"
MAIN = ("train", "validation", "test")


def kept_apart(texts: Texts) -> tuple[Texts, dict[str, int]]:
    """Drop what is also in a split that is held further out: the tests, then validation.

    Two texts are one where they differ in nothing but case and white space.  No row of a test is
    ever dropped, so that its size is what its publishers say.

    Returns:
        the splits, and the number of dropped rows by the reason.
    """
    tests = [name for name in texts if name not in ("train", "validation")]
    seen = {_folded(row) for name in tests for row in texts[name][0]}
    kept, dropped = dict(texts), {}
    for name, told in (("validation", "validation texts"), ("train", "training texts")):
        rows, labels = texts[name]
        folded = [_folded(row) for row in rows]
        chosen = [at for at, text in enumerate(folded) if text not in seen]
        if len(chosen) < len(rows):
            kept[name] = ([rows[at] for at in chosen], labels[chosen])
            dropped[f"{told} that are held out too"] = len(rows) - len(chosen)
        seen.update(folded)
    return kept, dropped


def _folded(text: str) -> str:
    return " ".join(text.lower().split())


def fingerprint_texts(texts: Texts) -> str:
    """Return the sha256 of the texts and labels of every split."""
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(texts):
        rows, labels = texts[name]
        digest.update(repr((name, len(rows))).encode())
        for row, label in zip(rows, labels.tolist(), strict=True):
            digest.update(f"{label}\t{len(row)}\t{row}\n".encode())
    return digest.hexdigest()
