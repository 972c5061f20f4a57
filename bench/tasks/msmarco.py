"""MS MARCO passage retrieval (Bajaj et al. 2016, arXiv 1611.09268), taught in two ways."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from bench import register_task
from bench.errors import BenchError
from bench.tasks.base import Origin
from bench.tasks.preset import Recipe
from bench.tasks.retrieval import RetrievalPreset, RetrievalTask, limited
from bench.tasks.text import GENERATOR_RECIPE

if TYPE_CHECKING:
    from bench.data.beir import Beir, Selected
    from bench.data.judged import Judged

QUICK = RetrievalPreset(
    source="embedded",
    student="dual:minilm:0",
    generator="bart-L1-H64",
    generator_recipe=GENERATOR_RECIPE.model_copy(update={"epochs": 3}),
    variants=1,
    teacher="dual:minilm",
    frozen_teacher=True,
    recipe=Recipe(
        epochs=2,
        batch_size=64,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup=0.1,
        clip=1.0,
        precision="float32",
    ),
    teacher_recipe=Recipe(epochs=1, batch_size=32, learning_rate=1e-3, precision="float32"),
    evaluation_batch=128,
    max_length=48,
    query_length=24,
    bm25_negatives=2,
    mined_negatives=2,
    random_negatives=1,
)
SMALL = RetrievalPreset(
    source="hub",
    student="dual:minilm:2",
    generator="bart-L2-H128",
    generator_recipe=GENERATOR_RECIPE.model_copy(update={"learning_rate": 1e-3}),
    teacher="dual:minilm",
    frozen_teacher=True,
    recipe=Recipe(
        epochs=2,
        batch_size=32,
        optimizer="adamw",
        learning_rate=1e-4,
        weight_decay=0.01,
        warmup=0.1,
        clip=1.0,
    ),
    teacher_recipe=Recipe(
        epochs=1,
        batch_size=16,
        optimizer="adamw",
        learning_rate=3e-5,
        weight_decay=0.01,
        warmup=0.1,
        clip=1.0,
    ),
    evaluation_batch=128,
    max_length=96,
    train_limit=4000,
    held_out_limit=1000,
    bm25_negatives=1,
    mined_negatives=2,
    random_negatives=1,
)
TAS_B = "dual:hub:sentence-transformers/msmarco-distilbert-base-tas-b+cls+dot"
STANDARD = SMALL.model_copy(
    update={
        "student": "dual:hub:google/bert_uncased_L-4_H-256_A-4",
        "teacher": TAS_B,
        "miner": TAS_B,
        "generator": "hub:facebook/bart-base",
        "variants": 4,
        "recipe": SMALL.recipe.model_copy(update={"epochs": 5, "batch_size": 64}),
        "evaluation_batch": 512,
        "max_length": 160,
        "train_limit": None,
        "held_out_limit": None,
        "bm25_negatives": 3,
        "mined_negatives": 3,
        "rerank": 100,
    }
)
PAPER = STANDARD.model_copy(
    update={
        "dataset": "BeIR/msmarco",
        "max_length": 200,
        # BM25 scores 8.8 million passages for each of these while the lists are made
        "train_limit": 100_000,
        "negative_pool": 100,
    }
)
CROSS: dict[str, dict[str, Any]] = {
    "small": {"teacher": "cross:minilm", "frozen_teacher": False},
    "standard": {"teacher": "cross:hub:cross-encoder/ms-marco-MiniLM-L-6-v2"},
    "paper": {"teacher": "cross:hub:cross-encoder/ms-marco-MiniLM-L-6-v2"},
}
PRESETS = {"quick": QUICK, "small": SMALL, "standard": STANDARD, "paper": PAPER}

CONTAMINATION = (
    "the MiniLM teacher, which also mines negatives and lends the student its layers, has probably "
    "been trained on MS MARCO"
)
SLICE = (
    "read from a mirror, which may be a slice of the collection: with fewer passages to confuse, "
    "scores are far above those on the 8.8 million and do not compare with them"
)
OWN_LAYOUT = (
    "searched are only passages of the queries that are used, some ten for each, and not the "
    "collection of 8.8 million: scores do not compare with those on it"
)


@register_task("msmarco")
class MSMarco(RetrievalTask):
    """Passage retrieval taught by a dual encoder; ``quick`` searches library documentation."""

    presets: ClassVar = PRESETS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.source == "embedded" and "dataset" in self.overrides:
            raise BenchError(
                f"task '{self.name}': dataset={self.preset.dataset} cannot be read from embedded "
                "data",
                "use --source mirror or hub",
            )

    def judged(self) -> Judged:
        return self._judged

    @cached_property
    def _judged(self) -> Judged:
        whole = documentation() if self.source == "embedded" else self._reader().read()
        return limited(whole, self.preset.held_out_limit)

    def origin(self) -> Origin:
        if self.source == "embedded":
            from bench.data.embedded import documentation as embedded

            limits = f"{embedded.LIMITS}; {self._read()}"
            return Origin("embedded", embedded.NAME, limits, embedded.REVISION, embedded.sha256())
        from bench.data.beir import fingerprint

        reader = self._reader()
        return Origin(
            self.source,
            reader.name,
            self._limits(),
            reader.parts()[0][0].revision if self.source == "hub" else "",
            fingerprint(reader),
        )

    def problem(self) -> str | None:
        if self.source == "embedded":
            return None
        from bench.data.beir import problem

        try:
            return problem(self._reader())
        except (BenchError, OSError, ValueError) as error:  # data that is not there, or damaged
            return str(error)

    def _reader(self) -> Beir | Selected:
        from bench.data.beir import open_judged
        from bench.data.sources import open_source

        preset = self.preset
        # enough training queries for the limit after some are dropped and validation is carved
        training = preset.train_limit and preset.train_limit + 1000
        held = preset.held_out_limit
        return open_judged(open_source(self.source), preset.dataset, (training, held, held))

    def _limits(self) -> str:
        from bench.data.beir import Selected
        from bench.models.retriever import is_cross

        preset = self.preset
        parts = [SLICE] if self.source == "mirror" else []
        parts += [OWN_LAYOUT] if isinstance(self._reader(), Selected) else []
        if "minilm" in (preset.teacher + preset.miner + preset.student):
            parts.append(CONTAMINATION)
        if is_cross(preset.teacher):
            parts.append(f"the teacher's row ranks the first {preset.rerank} of BM25 again")
        return "; ".join([*parts, self._read()])

    def _read(self) -> str:
        return (
            f"encoders read the first {self.preset.max_length} tokens of a passage, bm25 all of it"
        )


@register_task("msmarco-cross")
class MSMarcoCross(MSMarco):
    """The same retrieval taught by a cross-encoder, whose own row re-ranks what BM25 finds."""

    presets: ClassVar = {
        name: PRESETS[name].model_copy(update=update) for name, update in CROSS.items()
    }


def documentation() -> Judged:
    """Return the embedded documentation search."""
    from bench.data.embedded.documentation import read_documentation
    from bench.data.judged import assemble

    frame = read_documentation()
    names = frame["id"].tolist()
    pairs = {
        split: [(name, name) for name in frame["id"][frame["split"] == split]]
        for split in ("train", "validation", "test")
    }
    return assemble(
        zip(names, frame["passage"], strict=True), zip(names, frame["query"], strict=True), pairs
    )
