"""Token ids of a list of texts, made once and cached."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.config import content_hash
from bench.data.cache import cache_dir
from bench.store import DAMAGED, write_atomically

log = logging.getLogger(__name__)


def cached_tokens(
    texts: Sequence[str], model: str, max_length: int
) -> tuple[list[np.ndarray], int]:
    """Return each text's token ids, special tokens included, and the padding id.

    Args:
        texts: the texts.
        model: whose tokenizer to use.
        max_length: longer sequences are cut.

    A damaged cache file is made again.
    """
    path = cache_dir() / "tokens" / f"{_key(texts, model, max_length)}.npz"
    kept = _load(path, len(texts))
    if kept is None:
        kept = _tokenise(texts, model, max_length)
        buffer = io.BytesIO()
        np.savez(buffer, **kept)  # type: ignore[arg-type]
        write_atomically(path, buffer.getvalue())
    bounds = np.cumsum(kept["lengths"])[:-1]
    return np.split(kept["ids"].astype(np.int64), bounds), int(kept["pad"])


def beginnings(texts: Sequence[str], model: str, max_length: int) -> list[str]:
    """Return the part of each text that a model reads: its first ``max_length`` tokens.

    Args:
        texts: the texts.
        model: whose tokenizer to use; its special tokens count.
        max_length: as in :func:`cached_tokens`.
    """
    read, _ = _read(texts, model, max_length, return_offsets_mapping=True)
    ends = [max(end for _, end in offsets) for offsets in read["offset_mapping"]]
    return [text[:end] for text, end in zip(texts, ends, strict=True)]


def _key(texts: Sequence[str], model: str, max_length: int) -> str:
    import tokenizers

    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return content_hash([digest.hexdigest(), model, max_length, tokenizers.__version__])[:32]


def _tokenise(texts: Sequence[str], model: str, max_length: int) -> dict[str, np.ndarray]:
    read, pad = _read(texts, model, max_length)
    rows = read["input_ids"]
    return {
        "ids": np.concatenate([np.asarray(row, dtype=np.int32) for row in rows]),
        "lengths": np.array([len(row) for row in rows], dtype=np.int64),
        "pad": np.array(pad),
    }


def _read(
    texts: Sequence[str], model: str, max_length: int, **asked: bool
) -> tuple[Mapping[str, Any], int]:
    """Return the tokenizer's output for the texts, all cut alike, and its padding id."""
    from bench.models.text import load_tokenizer

    tokenizer = load_tokenizer(model)
    read = tokenizer(list(texts), truncation=True, max_length=max_length, **asked)
    return read, tokenizer.pad_token_id


def _load(path: Path, count: int) -> dict[str, np.ndarray] | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:  # the archive checks each member's CRC
            kept = {name: arrays[name] for name in ("ids", "lengths", "pad")}
        whole = len(kept["lengths"]) == count and kept["lengths"].sum() == len(kept["ids"])
    except (TypeError, *DAMAGED):
        whole = False
    if not whole:
        log.warning("cached tokens %s are damaged and are made again", path.name)
    return kept if whole else None
