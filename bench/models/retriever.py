"""What retrievers have in common, and their names.

A dual encoder embeds queries and passages apart, so that a whole collection can be searched; a
cross-encoder reads a query and a passage together, and can only rank a short list again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from bench.errors import BenchError, NotApplicable, nearest
from bench.models.base import Model
from bench.types import Batch

if TYPE_CHECKING:
    from bench.data.retrieval import SearchSplit

_NAME = re.compile(r"(?P<kind>dual|cross):(?P<encoder>[^+]+)(?P<options>(\+[a-z]+)*)")
OPTIONS = ("cls", "dot", "mean", "cosine", "separate", "shared")
KNOWN = (
    "dual:ENCODER[+cls][+dot][+separate] or cross:ENCODER, ENCODER as minilm:2 or "
    "hub:NAME[@REVISION]"
)


class Retriever(Model):
    """A model that scores passages for queries.

    Called with the inputs of :class:`bench.data.retrieval.ListSplit` it gives a query's scores over
    its candidates ``(N, K)``, −inf where there is none.
    """

    classifies = False

    def vectors(self, candidates: int) -> int:
        """Return how many embeddings an output holds for a list of ``candidates``."""
        raise NotImplementedError

    @property
    def config(self) -> Any:
        """Return the configuration of its transformer."""
        raise NotImplementedError

    def longest_input(self, query: int, passage: int) -> int:
        """Return the tokens it reads at once, of those that queries and passages are cut to."""
        return max(query, passage)

    def rank(self, search: SearchSplit, size: int, shared: dict[str, Any]) -> np.ndarray:
        """Return rankings ``(N, depth)`` int32 for the queries of ``search``.

        Args:
            search: the queries and their collection.
            size: sequences a forward pass.
            shared: keeps the collection's embeddings between splits.
        """
        raise NotImplementedError

    def server(self, search: SearchSplit) -> Callable[[Batch], object]:
        """Return what answers a batch of the queries of ``search`` in service."""
        raise NotImplementedError

    def serving_costs(self, search: SearchSplit, size: int) -> dict[str, Any]:
        """Return what serving costs beside latency and throughput."""
        raise NotImplementedError

    @property
    def head(self) -> nn.Linear:
        raise NotApplicable("a retriever has no last linear layer with one output a class")


def build_retriever(name: str) -> Retriever:
    """Build the retriever called ``name``.

    ``dual:minilm:2``: a dual encoder on the first two blocks of the packaged MiniLM; towers shared,
    mean pooling and cosine unless ``+separate``, ``+cls`` or ``+dot`` follow.  ``cross:minilm``: a
    cross-encoder with a fresh head; ``cross:hub:NAME``: a published one.  ``minilm:0`` is MiniLM's
    word embeddings alone.

    Raises:
        BenchError: for another name, or a checkpoint that cannot be had.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise BenchError(f"unknown retriever '{name}'", KNOWN)
    options = [each for each in match["options"].split("+") if each]
    for option in options:
        if option not in OPTIONS:
            raise BenchError(f"retriever '{name}': unknown '+{option}'", nearest(option, OPTIONS))
    if match["kind"] == "cross":
        from bench.models.cross import build_cross

        if options:
            raise BenchError(f"retriever '{name}': a cross-encoder has no options", KNOWN)
        return build_cross(match["encoder"])
    from bench.models.dual import DualEncoder
    from bench.models.text import load_encoder

    return DualEncoder(
        load_encoder(match["encoder"], least=0),
        pooling="cls" if "cls" in options else "mean",
        similarity="dot" if "dot" in options else "cosine",
        shared="separate" not in options,
    )


def encoder_name(name: str) -> str:
    """Return the name of the text encoder within a retriever's name.

    >>> encoder_name("dual:minilm:2+cls")
    'minilm:2'
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise BenchError(f"unknown retriever '{name}'", KNOWN)
    return match["encoder"]


def is_cross(name: str) -> bool:
    """Return whether ``name`` is that of a cross-encoder."""
    return name.startswith("cross:")
