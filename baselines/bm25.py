"""BM25: retrieval by words alone, what every dense retriever is held against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench import Baseline, Card, Task, register_baseline
from bench.baseline import Prediction
from bench.errors import NotApplicable


@register_baseline("bm25")
class BM25Baseline(Baseline):
    """BM25 (bm25s) over the whole collection; nothing is trained."""

    families = frozenset({"retrieval"})
    card = Card(
        title="BM25",
        paper="Robertson et al. 1994; Lucene's form as in Kamphuis et al. 2020",
        choices=("k1 = 0.9, b = 0.4, no stemming, no stop words",),
    )

    def predict(self, *, task: Task, seed: int, teacher: Mapping[str, np.ndarray]) -> Prediction:
        from bench.tasks.retrieval import RetrievalTask

        if not isinstance(task, RetrievalTask):
            raise NotApplicable(f"task '{task.name}' has no collection to search")
        judged, index = task.judged(), task.bm25()
        return Prediction(
            {
                split: index.ranking(judged.queries[split], task.depth)
                for split in ("validation", "test")
            }
        )
