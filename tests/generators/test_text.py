"""Text generators: a compact BART over word pieces, a BART read from a folder as from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import BenchError
from bench.generators.base import check_fits
from bench.generators.text import CompactBart, closed, load_hub_bart

SENTENCES = ["a good camera", "the battery is bad", "no picture at all", "i love it", "not good"]


def compact(split: Any, **changes: Any) -> CompactBart:
    torch.manual_seed(3)
    return CompactBart(
        1,
        32,
        tokens=torch.from_numpy(np.unique(np.concatenate(split.tokens))),
        vocabulary_size=30522,
        max_length=16,
        **changes,
    )


@pytest.fixture
def trained(text_world) -> CompactBart:
    """A compact BART that has seen the training sequences often enough to repeat some."""
    made = compact(text_world.train)
    optimizer = torch.optim.AdamW(made.parameters(), lr=5e-3)
    torch.manual_seed(0)
    for epoch in range(60):
        for index in text_world.train.training_order(0, epoch, 12):
            loss = made.objective(text_world.train.batch(index).inputs).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return made.eval()


def test_it_speaks_the_task_s_own_word_pieces(text_world) -> None:
    made = compact(text_world.train).eval()
    batch = text_world.train.batch(np.arange(6))
    code = made.encode(batch.inputs)
    assert code.values.shape == (*batch.inputs["input_ids"].shape, 32)
    assert code.mask is not None and code.mask.equal(batch.mask)
    with torch.no_grad():
        found = made.decode(code)
    known = set(np.concatenate(text_world.train.tokens)) | {0, 100, 101, 102, 103}
    assert set(found["input_ids"].flatten().tolist()) <= known
    assert found["attention_mask"].dtype == torch.bool
    assert found["input_ids"].shape[1] <= 16
    check_fits(made, batch.inputs, "words")


def test_it_learns_to_repeat_and_a_perturbed_code_reads_differently(text_world, trained) -> None:
    batch = text_world.train.batch(np.arange(24))
    with torch.no_grad():
        code = trained.encode(batch.inputs)
        again = trained.decode(code)
        assert trained.decode(code)["input_ids"].equal(again["input_ids"])
        noise = torch.randn(code.values.shape, generator=torch.Generator().manual_seed(0))
        moved = trained.decode(code.with_values(code.values + 2.0 * code.values.std() * noise))
    width = min(again["input_ids"].shape[1], batch.inputs["input_ids"].shape[1])
    same = again["input_ids"][:, :width] == batch.inputs["input_ids"][:, :width]
    assert float(same[batch.mask[:, :width]].float().mean()) > 0.5
    assert not (
        moved["input_ids"].shape == again["input_ids"].shape
        and moved["input_ids"].equal(again["input_ids"])
    )


def test_padding_changes_no_loss(text_world) -> None:
    made = compact(text_world.train).eval()
    short = int(text_world.train.lengths.argmin())
    longest = int(text_world.train.lengths.argmax())
    alone = made.objective(text_world.train.batch(np.array([short])).inputs)
    padded = made.objective(text_world.train.batch(np.array([short, longest])).inputs)
    torch.testing.assert_close(alone[0], padded[0], rtol=1e-4, atol=1e-5)


def test_unknown_words_are_read_as_unknown(text_world) -> None:
    made = compact(text_world.train).eval()
    inputs = {
        "input_ids": torch.tensor([[101, 29999, 102]]),
        "attention_mask": torch.ones(1, 3, dtype=torch.bool),
    }
    unknown = {**inputs, "input_ids": torch.tensor([[101, 100, 102]])}
    assert made.encode(inputs).values.equal(made.encode(unknown).values)


def test_word_vectors_start_at_their_principal_directions(text_world) -> None:
    vectors = torch.randn(30522, 40, generator=torch.Generator().manual_seed(1))
    vectors[1005] = vectors[1004] + 0.01
    made = compact(text_world.train, embeddings=vectors)
    weight = made.bart.get_input_embeddings().weight.detach()
    near = weight[made.table[1004]] @ weight[made.table[1005]]
    assert float(near) > 0.99
    assert float((weight[made.table[1004]] @ weight[made.table[1010]]).abs()) < 0.9


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([[101, 7, 102, 0, 0]], [[101, 7, 102]]),
        ([[101, 7, 8, 9, 9]], [[101, 7, 8, 9, 102]]),  # cut at the longest length
        ([[101, 102, 7, 102, 5], [101, 7, 8, 102, 0]], [[101, 102, 0, 0], [101, 7, 8, 102]]),
    ],
)
def test_every_decoded_row_ends_once(ids: list[list[int]], expected: list[list[int]]) -> None:
    found = closed(torch.tensor(ids))
    assert found["input_ids"].tolist() == expected
    assert found["attention_mask"].equal(found["input_ids"] != 0)


@pytest.fixture
def bart_folder(tmp_path: Path) -> Path:
    """A BART with random weights and its own tokenizer, as a hub repository would hold them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(SENTENCES, trainers.WordLevelTrainer(special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=tokenizer.get_vocab_size(), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, max_position_embeddings=32, forced_eos_token_id=2,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(tmp_path)
    return tmp_path


def test_a_hub_bart_gives_the_task_s_word_pieces(bart_folder: Path) -> None:
    from bench.models.text import load_tokenizer

    made = load_hub_bart(str(bart_folder), vocabulary="minilm", max_length=12).eval()
    tokenizer = load_tokenizer("minilm")
    read = tokenizer(SENTENCES, return_tensors="pt", padding=True)
    inputs = {"input_ids": read["input_ids"], "attention_mask": read["attention_mask"].bool()}
    with torch.no_grad():
        code = made.encode(inputs)
        found = made.decode(code)
    assert code.values.shape[0] == 5 and code.values.shape[2] == 16
    assert code.mask is not None and code.mask.sum(dim=1).tolist() == [5, 6, 6, 5, 4]
    assert found["attention_mask"].dtype == torch.bool
    assert (found["input_ids"][:, 0] == 101).all()
    assert found["input_ids"].shape[1] <= 12
    assert not made.differentiable
    check_fits(made, inputs, "words")


def test_a_model_that_cannot_be_had_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cannot be loaded") as caught:
        load_hub_bart(str(tmp_path / "nothing"), vocabulary="minilm", max_length=12)
    assert "\n" not in str(caught.value)
