"""Cached token ids."""

from __future__ import annotations

import numpy as np

from bench.data import tokens
from bench.data.cache import cache_dir
from bench.data.tokens import cached_tokens
from bench.models.text import load_tokenizer

TEXTS = ["a good phone", "", "terrible battery , never again !" * 20, "Ünïcode ☂"]


def test_equal_to_the_tokenizer_and_kept(monkeypatch) -> None:
    rows, pad = cached_tokens(TEXTS, "minilm", 16)
    tokenizer = load_tokenizer("minilm")
    expected = tokenizer(TEXTS, truncation=True, max_length=16)["input_ids"]
    assert [row.tolist() for row in rows] == expected
    assert pad == tokenizer.pad_token_id
    assert max(len(row) for row in rows) == 16
    monkeypatch.setattr(tokens, "_tokenise", None)  # a second time nothing is tokenised
    again, _ = cached_tokens(TEXTS, "minilm", 16)
    assert all(np.array_equal(left, right) for left, right in zip(rows, again, strict=True))


def test_texts_and_length_are_part_of_the_key() -> None:
    short, _ = cached_tokens(TEXTS, "minilm", 8)
    long, _ = cached_tokens(TEXTS, "minilm", 16)
    assert len(short[2]) == 8
    assert len(long[2]) == 16
    # the same bytes cut elsewhere are other texts
    cached_tokens(["ab", "c"], "minilm", 8)
    cached_tokens(["a", "bc"], "minilm", 8)
    assert len(list((cache_dir() / "tokens").glob("*.npz"))) == 4


def test_a_damaged_file_is_made_again() -> None:
    rows, _ = cached_tokens(TEXTS, "minilm", 16)
    (path,) = (cache_dir() / "tokens").glob("*.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    again, _ = cached_tokens(TEXTS, "minilm", 16)
    assert all(np.array_equal(left, right) for left, right in zip(rows, again, strict=True))
    path.write_bytes(path.read_bytes()[:50])
    assert len(cached_tokens(TEXTS, "minilm", 16)[0]) == len(TEXTS)
