"""A small mirror in the BEIR layout, and what every judged collection must fulfil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench import TASKS
from bench.data.judged import Judged, normalised
from bench.tasks.retrieval import RetrievalTask

SOME = (
    "river stone market winter garden copper window violin desert ladder harbor engine forest "
    "candle mirror bridge tunnel castle rocket pepper saddle turtle anchor basket"
)
WORDS = SOME.split()


def texts(count: int) -> list[str]:
    """Return passages of eight words; no two have the same first three."""
    generator = np.random.default_rng(4)
    return [
        " ".join(
            [WORDS[at % 24], WORDS[(at // 24 + 7) % 24], f"item{at}", *generator.choice(WORDS, 5)]
        )
        for at in range(count)
    ]


def write(folder: Path, name: str, columns: dict[str, list[Any]]) -> None:
    """Write ``columns`` to ``folder/name.parquet``."""
    path = folder / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def write_beir(
    root: Path,
    name: str = "BeIR/msmarco",
    *,
    passages: int = 60,
    validation: bool = True,
    two: bool = False,
) -> Path:
    """Write a mirror: query ``i`` asks for passage ``i`` by three of its words."""
    folder, bodies = root / name, texts(passages)
    names = [f"p{at}" for at in range(passages)]
    write(folder, "corpus", {"_id": names, "title": [""] * passages, "text": bodies})
    asked = {f"q{at}": " ".join(bodies[at].split()[:4]) + f" q{at}" for at in range(50)}
    write(folder, "queries", {"_id": list(asked), "text": list(asked.values())})
    bounds = {"train": (0, 30), "validation": (30, 40), "test": (40, 50)}
    if not validation:
        bounds = {"train": (0, 40), "test": (40, 50)}
    for split, (first, last) in bounds.items():
        rows = range(first, last)
        judged = [(f"q{at}", f"p{at}") for at in rows]
        if two and split == "test":  # a second answer, of which the query says nothing
            judged.append((f"q{first}", f"p{passages - 1}"))
        asks, answers = zip(*judged, strict=True)
        columns = {"query-id": asks, "corpus-id": answers, "score": [1] * len(judged)}
        write(folder / "qrels", split, columns)
    return root


def task(preset: str = "quick", source: str | None = None, **overrides: Any) -> RetrievalTask:
    """Return the task of passages with ``overrides``."""
    made = TASKS.get("msmarco")(preset, source=source, overrides=overrides)  # type: ignore[arg-type]
    assert isinstance(made, RetrievalTask)
    return made


def check_nothing_leaks(judged: Judged) -> None:
    """Check that no query, answer or text of an answer is in two splits that must not share it."""
    asked = {name: {normalised(text) for text in judged.queries[name]} for name in judged.queries}
    answers = {name: {p for row in judged.relevant[name] for p in row} for name in judged.relevant}
    told = {name: {judged.passages[p] for p in found} for name, found in answers.items()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not asked[one] & asked[other]
    for held in ("validation", "test"):
        assert not answers["train"] & answers[held]
        assert not told["train"] & told[held]
    assert all(row for rows in judged.relevant.values() for row in rows)
