"""Text generators: a compact BART over the task's own word pieces, or a BART from the hub."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError
from bench.generators.base import Code, GeneratorModule, Inputs

HEAD = 32  # width of an attention head
MASKED = 0.15  # share of tokens that are hidden from the encoder in training
# uncased BERT's own numbers
PAD, UNKNOWN, FIRST, LAST, MASK = 0, 100, 101, 102, 103
SPECIAL = (PAD, UNKNOWN, FIRST, LAST, MASK)


class CompactBart(GeneratorModule):
    """A small BART (Lewis et al. 2020, arXiv 1910.13461) trained to restore hidden tokens.

    It reads and writes the task's word pieces; only those that occur in the training split have an
    embedding, since most of a small model's work is its output layer.  A code is the encoder's
    output states ``(N, L, D)``; decoding is greedy.

    Args:
        layers: blocks of the encoder, and of the decoder.
        width: ``D``, a multiple of 32.
        tokens: the ids that occur in training, ``(K,)``, any order.
        vocabulary_size: of the task's tokenizer.
        max_length: the longest sequence, special tokens included.
        embeddings: word vectors ``(vocabulary_size, E)``, ``E ≥ D``, whose principal components
            initialise the embedding, so that neighbours in it mean alike; random without.
    """

    differentiable = False
    table: Tensor
    ids: Tensor

    def __init__(
        self,
        layers: int,
        width: int,
        *,
        tokens: Tensor,
        vocabulary_size: int,
        max_length: int,
        embeddings: Tensor | None = None,
    ) -> None:
        super().__init__()
        if width % HEAD or layers < 1:
            raise BenchError(f"no compact BART of {layers} layers and width {width}", "width 32 …")
        special = torch.tensor(SPECIAL)
        ids = torch.cat([special, torch.unique(tokens[~torch.isin(tokens, special)])])
        table = torch.full((vocabulary_size,), SPECIAL.index(UNKNOWN))
        table[ids] = torch.arange(len(ids))
        self.register_buffer("ids", ids)
        self.register_buffer("table", table)
        self.register_buffer("scale", torch.ones(width))
        self.max_length = max_length
        self.bart = _bart(layers, width, len(ids), max_length)
        _start_as_copier(self.bart, width, max_length)
        if embeddings is not None:
            with torch.no_grad():
                self.bart.get_input_embeddings().weight.copy_(
                    _principal(embeddings[ids].float(), width)
                )

    def encode(self, inputs: Inputs) -> Code:
        states = self._states(self.table[inputs["input_ids"]], inputs["attention_mask"])
        return Code(states.float(), inputs["attention_mask"])

    def decode(self, code: Code) -> dict[str, Tensor]:
        written = written_from(self.bart, code, self.max_length)
        return closed(self.ids[written])

    def objective(self, inputs: Inputs) -> Tensor:
        mask = inputs["attention_mask"]
        tokens = self.table[inputs["input_ids"]]
        read = tokens
        if self.training:
            hidden = (torch.rand(tokens.shape, device=tokens.device) < MASKED) & mask
            hidden &= tokens >= len(SPECIAL)
            read = tokens.masked_fill(hidden, SPECIAL.index(MASK))
        output = self.bart(
            encoder_outputs=(self._states(read, mask),),
            attention_mask=mask,
            decoder_input_ids=tokens[:, :-1],
            use_cache=False,
        )
        loss = F.cross_entropy(
            output.logits.float().transpose(1, 2), tokens[:, 1:], reduction="none"
        )
        real = mask[:, 1:]
        return (loss * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)

    def _states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        found = self.bart.get_encoder()(input_ids=tokens, attention_mask=mask)
        return cast(Tensor, found.last_hidden_state)


class HubBart(GeneratorModule):
    """A pretrained BART from the hub: sentences are decoded to strings and tokenised again.

    Args:
        model: a ``BartForConditionalGeneration``.
        own: its tokenizer.
        task: the task's tokenizer.
        max_length: the longest sequence of the task.
    """

    differentiable = False

    def __init__(self, model: Any, *, own: Any, task: Any, max_length: int) -> None:
        super().__init__()
        self.bart = model
        self.own, self.task, self.max_length = own, task, max_length
        self.register_buffer("scale", torch.ones(int(model.config.d_model)))

    def encode(self, inputs: Inputs) -> Code:
        device = inputs["input_ids"].device
        texts = self.task.batch_decode(inputs["input_ids"], skip_special_tokens=True)
        read = self.own(
            texts, return_tensors="pt", padding=True, truncation=True, max_length=self.max_length
        ).to(device)
        found = self.bart.get_encoder()(
            input_ids=read["input_ids"], attention_mask=read["attention_mask"]
        )
        return Code(found.last_hidden_state.float(), read["attention_mask"].bool())

    def decode(self, code: Code) -> dict[str, Tensor]:
        written = written_from(self.bart, code, self.max_length)
        texts = self.own.batch_decode(written, skip_special_tokens=True)
        read = self.task(
            texts, return_tensors="pt", padding=True, truncation=True, max_length=self.max_length
        ).to(code.values.device)
        return {"input_ids": read["input_ids"], "attention_mask": read["attention_mask"].bool()}


def load_hub_bart(name: str, *, vocabulary: str, max_length: int) -> HubBart:
    """Load ``hub:NAME[@REVISION]`` from the hub or a folder, weights from safetensors only.

    Raises:
        BenchError: when it cannot be loaded or is not an encoder–decoder.
    """
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    from bench.models.hub import hub_name, unreachable
    from bench.models.text import load_tokenizer

    repository, revision = hub_name(name)
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(
            repository, revision=revision, use_safetensors=True
        ).float()
        own = AutoTokenizer.from_pretrained(repository, revision=revision)
    except Exception as error:
        raise unreachable(f"generator '{name}'", error) from error
    task = load_tokenizer(vocabulary)
    return HubBart(model, own=own, task=task, max_length=max_length)


def written_from(bart: Any, code: Code, max_length: int) -> Tensor:
    """Return the ids ``(N, L)`` that ``bart`` decodes greedily from encoder states."""
    from transformers.modeling_outputs import BaseModelOutput

    ids: Tensor = bart.generate(
        encoder_outputs=BaseModelOutput(cast(Any, code.values)),
        attention_mask=code.mask,
        max_length=max_length,
        do_sample=False,
        num_beams=1,
    )
    return ids


def closed(ids: Tensor) -> dict[str, Tensor]:
    """Return decoded ids ``(N, L)`` as inputs: each row ends with one [SEP], then padding."""
    ended = (ids == LAST).cumsum(dim=1)
    real = (ended == 0) | ((ended == 1) & (ids == LAST))
    ids = ids.masked_fill(~real, PAD)
    cut = real.all(dim=1) & (ids[:, -1] != LAST)  # reached the longest length without an end
    ids[cut, -1] = LAST
    longest = int(real.sum(dim=1).max())
    return {"input_ids": ids[:, :longest], "attention_mask": real[:, :longest]}


def _bart(layers: int, width: int, tokens: int, max_length: int) -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    first, last = SPECIAL.index(FIRST), SPECIAL.index(LAST)
    config = BartConfig(
        vocab_size=tokens,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=width // HEAD,
        decoder_attention_heads=width // HEAD,
        encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width,
        max_position_embeddings=max_length,
        dropout=0.0,
        pad_token_id=SPECIAL.index(PAD),
        bos_token_id=first,
        eos_token_id=last,
        decoder_start_token_id=first,
        forced_eos_token_id=None,
    )
    return BartForConditionalGeneration(config)


@torch.no_grad()
def _start_as_copier(bart: Any, width: int, max_length: int) -> None:
    """Initialise ``bart`` so that the decoder finds its place in the sentence at once.

    Sinusoidal positions that encoder and decoder share, and cross-attention that starts as the
    identity.  From random weights a small BART on a few thousand sentences learns what is frequent
    long before it learns to look at its input.
    """
    rate = torch.exp(-math.log(200.0) * torch.arange(0, width, 2) / width)
    angle = torch.arange(max_length + 2)[:, None] * rate
    positions = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1) * (2 / width) ** 0.5
    nn.init.normal_(bart.get_input_embeddings().weight, std=width**-0.5)
    for part in (bart.model.encoder, bart.model.decoder):
        part.embed_positions.weight.copy_(positions[: len(part.embed_positions.weight)])
    for layer in bart.model.decoder.layers:
        attention = layer.encoder_attn
        for each in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
            nn.init.eye_(each.weight)


def _principal(vectors: Tensor, width: int) -> Tensor:
    """Return ``vectors`` ``(K, E)`` on their first ``width`` principal directions, unit length."""
    centred = vectors - vectors.mean(dim=0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    return F.normalize(centred @ directions[:, -width:], dim=1)
