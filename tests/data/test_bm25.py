"""BM25 against its formula, and rankings that are never short."""

from __future__ import annotations

import numpy as np
from judged_mirror import texts

from bench.data.bm25 import BM25


def test_bm25_is_bm25() -> None:
    """Against Robertson's formula in Lucene's form, written out."""
    passages = texts(40)
    query = "river stone item3 nowhere"
    counts = [text.split() for text in passages]
    mean = np.mean([len(words) for words in counts])
    expected = np.zeros(40)
    for word in query.split():
        have = sum(word in words for words in counts)
        idf = np.log(1 + (40 - have + 0.5) / (have + 0.5))
        for at, words in enumerate(counts):
            often = words.count(word)
            expected[at] += idf * often / (often + 0.9 * (1 - 0.4 + 0.4 * len(words) / mean))
    found = BM25(passages).ranking([query], 40)[0]
    scores = np.round(expected, 5)
    np.testing.assert_allclose(scores[found], np.sort(scores)[::-1], atol=2e-5)
    assert found[0] == 3


def test_bm25_has_an_answer_to_every_query() -> None:
    found = BM25(["one passage", "another one"]).ranking(["", "?!", "unheard of", "another"], 5)
    assert found.tolist() == [[0, 1], [0, 1], [0, 1], [1, 0]]
