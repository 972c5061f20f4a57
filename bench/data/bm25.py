"""BM25 over a collection (bm25s), with rankings that ties cannot shuffle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

K1, B = 0.9, 0.4  # the settings of Anserini's MS MARCO baselines (Yang, Fang and Lin 2017)
CHUNK = 256  # queries scored before they are sorted, at most
SCORES = 2**27  # scores held at once: half a gigabyte


class BM25:
    """An index of passages.

    Robertson et al. 1994 in Lucene's form, ``k1 = 0.9``, ``b = 0.4``; words of two or more
    characters in lower case, no stemming, no stop words.

    Args:
        passages: texts.
    """

    def __init__(self, passages: Sequence[str]) -> None:
        import bm25s

        self._tokenize = bm25s.tokenize
        self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
        self._index.index(self._words(passages), show_progress=False)
        self.count = len(passages)

    def ranking(self, queries: Sequence[str], depth: int) -> np.ndarray:
        """Return the ``depth`` best passages of each query, ``(N, depth)`` int32, best first.

        Equal scores are ordered by position; a query with only unknown words gets the first
        passages of the collection.
        """
        from bench.models.search import ranked_positions

        rows = []
        chunk = max(1, min(CHUNK, SCORES // max(self.count, 1)))
        for at in range(0, len(queries), chunk):
            words = self._words(queries[at : at + chunk])
            scores = np.stack([self._scores(each) for each in words])
            best = ranked_positions(torch.from_numpy(scores), min(depth, self.count))
            rows.append(best.numpy().astype(np.int32))
        return np.concatenate(rows)

    def _scores(self, words: list[str]) -> np.ndarray:
        known = [word for word in words if word in self._index.vocab_dict]
        if not known:
            return np.zeros(self.count, dtype=np.float32)
        return np.asarray(self._index.get_scores(known), dtype=np.float32)

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        found: list[list[str]] = self._tokenize(
            list(texts), stopwords=None, return_ids=False, show_progress=False
        )
        return found
