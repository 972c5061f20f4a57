"""Text models: hidden layers, padding that changes nothing, and the packaged MiniLM."""

from __future__ import annotations

import pytest
import torch

from bench import BenchError
from bench.models.base import parameter_count
from bench.models.text import TextModel, build_text

IDS = torch.tensor([[101, 2023, 2003, 102, 0, 0], [101, 2009, 2573, 2092, 999, 102]])
MASK = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])


def inputs(extra: int = 0, fill: int = 0) -> dict[str, torch.Tensor]:
    """Return two sentences with ``extra`` more padding positions."""
    ids = torch.cat([IDS, torch.full((2, extra), 0)], dim=1)
    mask = torch.cat([MASK, torch.zeros(2, extra, dtype=torch.bool)], dim=1)
    return {"input_ids": ids.masked_fill(~mask, fill), "attention_mask": mask}


@pytest.fixture(scope="module")
def compact() -> TextModel:
    torch.manual_seed(0)
    model = build_text("bert-L2-H64", num_classes=3).eval()
    torch.nn.init.normal_(model.classifier.weight)  # logits of a size that shows differences
    return model


@pytest.fixture(scope="module")
def minilm() -> TextModel:
    return build_text("minilm", num_classes=2).eval()


def test_hidden_layers_are_the_outputs_of_the_blocks(compact: TextModel) -> None:
    assert (compact.depth, compact.width) == (2, 64)
    with torch.no_grad():
        output = compact(inputs(), hidden=[0, 1])
    assert {layer: tuple(value.shape) for layer, value in output.hidden.items()} == {
        0: (2, 6, 64),
        1: (2, 6, 64),
    }
    assert output.embedding.shape == (2, 64)
    assert output.logits.shape == (2, 3)
    assert not output.hidden[0].equal(output.hidden[1])
    # the embedding is the mean of the last block's outputs at real tokens
    last = output.hidden[1]
    expected = torch.stack([last[0, :4].mean(dim=0), last[1].mean(dim=0)])
    torch.testing.assert_close(output.embedding, expected)


def test_the_head_turns_the_embedding_into_logits(compact: TextModel) -> None:
    with torch.no_grad():
        output = compact(inputs())
        assert compact.head.weight.shape == (3, 64)
        assert compact.head(output.embedding).equal(output.logits)


@pytest.mark.parametrize(("extra", "fill"), [(1, 0), (20, 0), (0, 5), (7, 2000)])
def test_padding_changes_nothing(compact: TextModel, extra: int, fill: int) -> None:
    with torch.no_grad():
        plain, padded = compact(inputs(), hidden=[0]), compact(inputs(extra, fill), hidden=[0])
    torch.testing.assert_close(padded.logits, plain.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded.embedding, plain.embedding, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        padded.hidden[0][:, :6][MASK], plain.hidden[0][MASK], rtol=1e-4, atol=1e-5
    )


def test_a_real_token_does_change_something(compact: TextModel) -> None:
    other = inputs()
    other["input_ids"][0, 2] = 2001
    with torch.no_grad():
        plain, changed = compact(inputs()), compact(other)
    assert not torch.allclose(plain.logits[0], changed.logits[0], atol=1e-3)
    torch.testing.assert_close(plain.logits[1], changed.logits[1])


def test_until_stops_the_gradient_at_the_layer() -> None:
    model = build_text("bert-L2-H32", num_classes=3).train()
    output = model(inputs(), hidden=[0], until=0)
    assert output.logits is None and output.embedding is None
    output.hidden[0].sum().backward()
    above = ("encoder.encoder.layer.1.", "classifier.")
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith(above), name


def test_dropout_is_on_in_training_only(compact: TextModel) -> None:
    with torch.no_grad():
        assert compact(inputs()).logits.equal(compact(inputs()).logits)
        compact.train()
        try:
            assert not compact(inputs()).logits.equal(compact(inputs()).logits)
        finally:
            compact.eval()


def test_minilm_comes_from_the_package(minilm: TextModel) -> None:
    assert (minilm.depth, minilm.width) == (6, 384)
    assert parameter_count(minilm) == 22_565_376 + 2 * 385
    again = build_text("minilm", num_classes=2)
    assert again.encoder.embeddings.word_embeddings.weight.equal(
        minilm.encoder.embeddings.word_embeddings.weight
    )


def test_two_blocks_of_minilm_are_its_first_two(minilm: TextModel) -> None:
    short = build_text("minilm:2", num_classes=2).eval()
    assert short.depth == 2
    assert len(short.encoder.encoder.layer) == 2
    with torch.no_grad():
        whole, part = minilm(inputs(), hidden=[0, 1]), short(inputs(), hidden=[0, 1])
    for layer in (0, 1):
        torch.testing.assert_close(part.hidden[layer], whole.hidden[layer])
    torch.testing.assert_close(part.embedding[1], whole.hidden[1][1].mean(dim=0))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("minilm:9", "1 to 6"),
        ("minilm:0", "1 to 6"),
        ("minilm:22", "minilm:LAYERS"),
        ("bert-L2-H65", "width 32"),
        ("bert-L0-H64", "width 32"),
        ("bert", "minilm"),
        ("resnet20", "minilm"),
    ],
)
def test_unknown_names_are_refused_with_what_is_allowed(name: str, hint: str) -> None:
    with pytest.raises(BenchError) as caught:
        build_text(name, num_classes=2)
    assert hint in caught.value.hint
