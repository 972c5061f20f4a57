"""Whether a text model can read what a task gives it: its vocabulary, and its number of tokens."""

from __future__ import annotations

import functools
from typing import Any

from bench.errors import BenchError
from bench.models.text import load_tokenizer

# their first position comes after that of padding
_SHIFTED = ("camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "xlm-roberta")


def check_vocabulary(model: str, vocabulary: str) -> None:
    """Refuse a ``model`` that would read other words than were written.

    Texts are turned into token ids once, with the tokenizer of the task's teacher.

    Args:
        model: name of an encoder, see :func:`bench.models.text.build_text`.
        vocabulary: name of the model whose tokenizer made the ids.

    Raises:
        BenchError: when the two have different tokens, or a tokenizer cannot be loaded.
    """
    own = model if model.startswith("hub:") else "minilm"
    if own != vocabulary and not _same_tokens(own, vocabulary):
        raise BenchError(
            f"'{model}' does not have the vocabulary of '{vocabulary}', whose token ids it would "
            "get",
            "student, teacher and miner must share one",
        )


@functools.lru_cache(maxsize=16)
def _same_tokens(model: str, other: str) -> bool:
    first, second = load_tokenizer(model), load_tokenizer(other)
    pads = first.pad_token_id == second.pad_token_id
    return pads and bool(first.get_vocab() == second.get_vocab())


def check_length(config: Any, tokens: int, name: str) -> None:
    """Refuse texts of ``tokens`` tokens where a transformer of ``config`` has fewer positions.

    Raises:
        BenchError: naming the model and how many it can read.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return
    if getattr(config, "model_type", "") in _SHIFTED:
        positions -= int(config.pad_token_id or 0) + 1
    if 0 < positions < tokens:
        raise BenchError(
            f"'{name}' reads {positions} tokens, and texts may have {tokens}",
            "lower max_length (and query_length for a cross-encoder)",
        )
