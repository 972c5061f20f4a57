"""Builds generators by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.generators.base import GeneratorModule
    from bench.tasks.base import Data, Task

_IMAGE = re.compile(r"autoencoder-w(?P<width>\d+)-z(?P<latent>\d+)")
_TEXT = re.compile(r"bart-L(?P<layers>\d+)-H(?P<width>\d+)")
_BARTS = "bart-LLAYERS-HWIDTH or hub:NAME[@REVISION]"
KNOWN = {"image": "autoencoder-wWIDTH-zCHANNELS", "text": _BARTS, "retrieval": _BARTS}


def build_generator(
    name: str, task: Task, data: Data, kept: Mapping[str, Tensor] | None = None
) -> GeneratorModule:
    """Build the generator called ``name`` for ``task``, hub models apart with random weights.

    ``kept`` is the state of a finished generator, to be loaded into this one: its vocabulary may be
    that of more texts than ``data`` has labels for.

    ``autoencoder-w32-z16``: a convolutional autoencoder, 32 channels at half resolution, 16 in
    the code; ``bart-L1-H64``: a compact BART of one block each side and width 64;
    ``hub:facebook/bart-base``: a pretrained BART.

    Raises:
        BenchError: for another name, or one that is not for the task's family.
    """
    known = KNOWN.get(task.family)
    if known is None:
        raise BenchError(f"there is no generator for {task.family} tasks", ", ".join(KNOWN))
    image, text = _IMAGE.fullmatch(name), _TEXT.fullmatch(name)
    hub = name.startswith("hub:")
    if not (image or text or hub):
        raise BenchError(f"unknown generator '{name}'", known)
    if bool(image) != (task.family == "image"):
        kind = "images" if image else "text"
        raise BenchError(
            f"generator '{name}' makes {kind}, but '{task.name}' is a task of {task.family}", known
        )
    if image:
        made = _autoencoder(int(image["width"]), int(image["latent"]), data)
    elif text:
        made = _compact_bart(int(text["layers"]), int(text["width"]), task, data, kept or {})
    else:
        from bench.generators.text import load_hub_bart

        made = load_hub_bart(
            name,
            vocabulary=task.vocabulary(),
            max_length=task.text_length,
        )
    made.name = name
    return made


def pretrained(name: str) -> bool:
    """Return whether the generator called ``name`` comes with weights and is not trained here."""
    return name.startswith("hub:")


def _autoencoder(width: int, latent: int, data: Data) -> GeneratorModule:
    from bench.data.splits import ImageSplit
    from bench.generators.image import ConvAutoencoder

    if width < 8 or width % 8 or latent < 1:
        raise BenchError(f"no autoencoder of width {width}, {latent} channels", "width 8, 16, …")
    split = data.train
    if not isinstance(split, ImageSplit):
        raise BenchError("an image autoencoder needs images")
    low, high = split.value_range()
    height, breadth = split.images.shape[1:3]
    return ConvAutoencoder(width, latent, size=(height, breadth), low=low, high=high)


def _compact_bart(
    layers: int, width: int, task: Task, data: Data, kept: Mapping[str, Tensor]
) -> GeneratorModule:
    from bench.generators.text import CompactBart
    from bench.models.text import load_tokenizer, word_embeddings

    vocabulary, split = task.vocabulary(), data.train.texts()
    if split is None:
        raise BenchError("a BART needs texts")
    if vocabulary != "minilm":
        raise BenchError(
            f"a compact BART cannot write the vocabulary of '{vocabulary}'",
            "--set generator=hub:facebook/bart-base, or a teacher of uncased BERT's vocabulary",
        )
    tokens = kept.get("ids")
    if tokens is None:
        tokens = torch.from_numpy(np.unique(np.concatenate(split.tokens)))
    return CompactBart(
        layers,
        width,
        tokens=tokens,
        vocabulary_size=len(load_tokenizer(vocabulary)),
        max_length=task.text_length,
        embeddings=word_embeddings(),
    )
