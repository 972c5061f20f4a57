"""Dual encoders and cross-encoders: what their scores may depend on, and what is kept of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench import BenchError
from bench.data.retrieval import SearchSplit, TokenTable
from bench.errors import Diverged, NotApplicable
from bench.models.base import parameter_count
from bench.models.cross import CrossEncoder, joined_pairs
from bench.models.dual import DualEncoder
from bench.models.encode import encode
from bench.models.retriever import build_retriever, encoder_name
from bench.training.evaluate import predict, predict_all

TINY = "bert-L1-H32"


def table(count: int, seed: int, *, longest: int = 9) -> TokenTable:
    generator = np.random.default_rng(seed)
    rows = [
        np.array([101, *generator.integers(1000, 1060, generator.integers(1, longest)), 102])
        for _ in range(count)
    ]
    return TokenTable(rows, pad=0)


def inputs(queries: int = 3, candidates: int = 4, seed: int = 0) -> dict[str, Tensor]:
    cpu = torch.device("cpu")
    asked, passages = table(queries, seed), table(queries * candidates, seed + 1)
    query_ids, query_mask = asked.batch(np.arange(queries), cpu)
    ids, mask = passages.batch(np.arange(queries * candidates), cpu)
    return {
        "query_ids": query_ids,
        "query_mask": query_mask,
        "passage_ids": ids.view(queries, candidates, -1),
        "passage_mask": mask.view(queries, candidates, -1),
        "real": torch.ones(queries, candidates, dtype=torch.bool),
    }


def dual(options: str = "") -> DualEncoder:
    torch.manual_seed(0)
    model = build_retriever(f"dual:{TINY}{options}").eval()
    assert isinstance(model, DualEncoder)
    return model


def tiny_cross() -> CrossEncoder:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=64,
        num_labels=1,
    )
    return CrossEncoder(BertForSequenceClassification(config)).eval()


def search(queries: int = 7, passages: int = 30, **changes: Any) -> SearchSplit:
    first = np.stack([np.random.default_rng(at).permutation(passages) for at in range(queries)])
    values = {"depth": 20, "rerank": 6, "first_stage": lambda: first[:, :20], **changes}
    relevant = np.arange(queries)[:, None]
    return SearchSplit(table(queries, 5), table(passages, 6), relevant, **values)


RETRIEVERS = [dual, tiny_cross]
each_kind = pytest.mark.parametrize("make", RETRIEVERS, ids=["dual", "cross"])


@pytest.mark.parametrize("options", ["", "+cls", "+dot", "+separate", "+cls+dot+separate"])
def test_score_is_the_scaled_inner_product_of_the_embeddings(options: str) -> None:
    model = dual(options)
    output = model(inputs())
    assert output.embedding.shape == (3, 5, 32) and output.scores.shape == (3, 4)
    query, passages = output.embedding[:, 0], output.embedding[:, 1:]
    scale = 1.0 if "dot" in options else 20.0
    torch.testing.assert_close(
        output.scores, scale * torch.einsum("nd,nkd->nk", query, passages), rtol=1e-5, atol=1e-4
    )
    lengths = output.embedding.norm(dim=-1)
    assert torch.allclose(lengths, torch.ones_like(lengths)) == ("dot" not in options)


def test_options_change_what_they_say() -> None:
    shared, separate = dual(), dual("+separate")
    assert parameter_count(separate) == 2 * parameter_count(shared)
    given = inputs()
    plain = shared(given)
    # towers start equal, and are trained apart
    torch.testing.assert_close(separate(given).scores, plain.scores)
    separate(given).scores.sum().backward()
    assert all(p.grad is not None for p in separate.query_encoder.parameters())
    assert not torch.allclose(dual("+cls")(given).embedding, plain.embedding)


def test_mean_pooling_is_over_real_tokens() -> None:
    model, given = dual(), inputs(1, 2)
    states = model.encoder(
        input_ids=given["query_ids"], attention_mask=given["query_mask"]
    ).last_hidden_state[0]
    mean = states[given["query_mask"][0]].mean(dim=0)
    torch.testing.assert_close(model(given).embedding[0, 0], mean / mean.norm())


@each_kind
def test_a_candidates_place_says_nothing(make: Any) -> None:
    """The positive is candidate 0 in every list: a score must not depend on where it stands."""
    model, given = make(), inputs(2, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = {
        name: value[:, order] if name in ("passage_ids", "passage_mask", "real") else value
        for name, value in given.items()
    }
    scores = model(given).scores
    assert scores.std() > 1e-6
    torch.testing.assert_close(model(moved).scores, scores[:, order], rtol=1e-4, atol=1e-5)


@each_kind
def test_padding_changes_nothing(make: Any) -> None:
    model, given = make(), inputs()
    longer = dict(given)
    for name in ("query", "passage"):
        ids, mask = given[f"{name}_ids"], given[f"{name}_mask"]
        longer[f"{name}_ids"] = torch.cat([ids, torch.zeros_like(ids[..., :3])], dim=-1)
        longer[f"{name}_mask"] = torch.cat([mask, torch.zeros_like(mask[..., :3])], dim=-1)
    one, other = model(given), model(longer)
    torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.embedding, other.embedding, rtol=1e-4, atol=1e-5)


@each_kind
def test_a_place_that_only_fills_up_is_masked_and_gets_no_gradient(make: Any) -> None:
    model, given = make(), inputs()
    given["real"] = torch.tensor([[True, True, True, False]] * 3)
    scores = model(given).scores
    assert torch.isneginf(scores[:, 3]).all() and torch.isfinite(scores[:, :3]).all()
    loss = torch.nn.functional.cross_entropy(scores, torch.zeros(3, dtype=torch.long))
    gradient = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    three = {
        name: value[:, :3] if name.startswith("passage") or name == "real" else value
        for name, value in given.items()
    }
    loss = torch.nn.functional.cross_entropy(model(three).scores, torch.zeros(3, dtype=torch.long))
    expected = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    for one, other in zip(gradient, expected, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_in_batch_negatives_follow_the_lists_own() -> None:
    model, given = dual(), inputs(2, 3)
    foreign = torch.tensor([[0, 0, 0, 1, 0, 1], [1, 1, 0, 0, 0, 0]], dtype=torch.bool)
    plain, output = model(given), model({**given, "foreign": foreign})
    torch.testing.assert_close(output.scores[:, :3], plain.scores)
    every = 20.0 * plain.embedding[:, 0] @ plain.embedding[:, 1:].flatten(0, 1).T
    torch.testing.assert_close(output.scores[:, 3:][foreign], every[foreign])
    assert torch.isneginf(output.scores[:, 3:][~foreign]).all()


@each_kind
def test_no_hidden_layers_and_no_head(make: Any) -> None:
    model = make()
    for asked in ({"hidden": [0]}, {"until": 0}):
        with pytest.raises(NotApplicable):
            model(inputs(), **asked)
    with pytest.raises(NotApplicable):
        _ = model.head
    assert not model.classifies


def test_pairs_are_what_bert_was_trained_on() -> None:
    """Padding between query and passage must be invisible: positions and kinds as without it."""
    model, given = tiny_cross(), inputs(2, 3)
    scores = model(given).scores
    for row in range(2):
        asked = given["query_ids"][row][given["query_mask"][row]]
        for column in range(3):
            mask = given["passage_mask"][row, column]
            passage = given["passage_ids"][row, column][mask][1:]
            ids = torch.cat([asked, passage])[None]
            kinds = torch.cat([torch.zeros(len(asked)), torch.ones(len(passage))])[None].long()
            expected = model.network(input_ids=ids, token_type_ids=kinds).logits
            torch.testing.assert_close(scores[row, column], expected[0, 0], rtol=1e-4, atol=1e-5)
    assert joined_pairs(given)["input_ids"].shape[0] == 6


def test_a_dual_encoder_ranks_the_whole_collection() -> None:
    model, split = dual(), search()
    ranking = predict(model, split, batch_size=4, precision="float32")
    assert ranking.shape == (7, 20) and ranking.dtype == np.int32
    with torch.no_grad():
        asked, passages = (
            encode(model, t, w, 3)
            for t, w in ((split.queries, "query"), (split.passages, "passage"))
        )
    expected = np.argsort(-(asked @ passages.T).numpy(), axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(ranking, expected)


def test_splits_share_one_pass_over_the_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    model, one = dual(), search()
    other = SearchSplit(
        table(4, 9), one.passages, np.zeros((4, 1)), depth=20, rerank=6, first_stage=lambda: None
    )
    alone = {
        name: predict(model, split, batch_size=4, precision="float32")
        for name, split in (("one", one), ("other", other))
    }
    passages: list[int] = []
    whole = DualEncoder.encode

    def counted(self: DualEncoder, ids: Tensor, mask: Tensor, tower: Any) -> Tensor:
        if tower == "passage":
            passages.append(len(ids))
        return whole(self, ids, mask, tower)

    monkeypatch.setattr(DualEncoder, "encode", counted)
    both = predict_all(model, {"one": one, "other": other}, batch_size=4, precision="float32")
    assert sum(passages) == 30
    for name, value in alone.items():
        np.testing.assert_array_equal(both[name], value)


def test_a_collection_too_large_to_keep_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = dual(), search()
    kept = predict(model, split, batch_size=4, precision="float32")
    monkeypatch.setattr("bench.models.encode.KEPT_BYTES", 8 * 32 * 4)
    monkeypatch.setattr("bench.models.encode.TILE", 8)
    np.testing.assert_array_equal(predict(model, split, batch_size=4, precision="float32"), kept)


def test_a_cross_encoder_ranks_the_first_again_and_keeps_the_rest() -> None:
    model, split = tiny_cross(), search()
    ranking = predict(model, split, batch_size=12, precision="float32")
    first = split.first_stage
    assert ranking.shape == (7, 20)
    np.testing.assert_array_equal(ranking[:, 6:], first[:, 6:])
    np.testing.assert_array_equal(np.sort(ranking[:, :6]), np.sort(first[:, :6]))
    scores = model(model._inputs(split, np.arange(7))).scores.detach().numpy()
    best = np.take_along_axis(first[:, :6], scores.argmax(axis=1)[:, None], axis=1)
    np.testing.assert_array_equal(ranking[:, :1], best)


def test_a_model_that_has_diverged_ranks_nothing() -> None:
    model = dual()
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight.fill_(float("nan"))
    with pytest.raises(Diverged, match="not finite"):
        predict(model, search(), batch_size=4, precision="float32")


def test_embeddings_of_a_fixed_model_are_kept_and_follow_its_weights(own_cache: Path) -> None:
    model, texts = dual().fix(), table(12, 3)
    fresh = encode(model, texts, "passage", 5)
    (kept,) = (own_cache / "embeddings").glob("*.npy")
    written = kept.stat().st_mtime_ns
    assert encode(model, texts, "passage", 4).equal(fresh)
    assert kept.stat().st_mtime_ns == written
    with torch.no_grad():  # other weights, other texts: other files
        model.encoder.embeddings.word_embeddings.weight[1000:1060].mul_(-1.0)
    assert not torch.allclose(encode(model, texts, "passage", 5), fresh)
    encode(model, table(12, 4), "passage", 5)
    assert len(list((own_cache / "embeddings").glob("*.npy"))) == 3


def test_embeddings_of_another_precision_are_others(own_cache: Path) -> None:
    model, texts = dual().fix(), table(12, 3)
    fresh = encode(model, texts, "passage", 5)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encode(model, texts, "passage", 5)
    assert not rounded.equal(fresh)
    assert encode(model, texts, "passage", 5).equal(fresh)


def test_damaged_embeddings_are_made_again(own_cache: Path) -> None:
    model, texts = dual().fix(), table(12, 3)
    fresh = encode(model, texts, "passage", 5)
    (kept,) = (own_cache / "embeddings").glob("*.npy")
    content = bytearray(kept.read_bytes())
    content[-5] ^= 64
    kept.write_bytes(content)
    assert encode(model, texts, "passage", 5).equal(fresh)
    assert kept.read_bytes() != bytes(content)


def test_embeddings_of_a_model_in_training_are_not_kept(own_cache: Path) -> None:
    encode(dual(), table(4, 3), "passage", 5)
    # as GPD's student is: trained through another module
    encode(dual().requires_grad_(False), table(4, 3), "passage", 5)
    assert not (own_cache / "embeddings").exists()


def test_what_a_server_answers_is_what_a_split_predicts() -> None:
    split = search()
    answer = dual().server(split)(split.batch(np.array([2, 4])))
    assert answer.shape == (2, 20)
    costs = dual().serving_costs(split, 16)["index"]
    assert costs["passages"] == 30 and costs["bytes"] == 30 * 32 * 4
    assert costs["build"]["samples_per_s"] > 0
    model = tiny_cross()
    assert model.serving_costs(split, 16) == {"reranked": 6}
    assert model.server(split)(split.batch(np.array([2]))).scores.shape == (1, 6)


def test_a_server_of_a_large_collection_holds_a_part_and_counts_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split = search()
    monkeypatch.setattr("bench.models.dual.KEPT_BYTES", 7 * 32 * 4)  # seven of thirty passages
    (answer,) = dual().server(split)(split.batch(np.array([2]))).tolist()
    assert len(answer) == 20 == len(set(answer)) and max(answer) in range(7, 30)


def test_word_embeddings_alone_are_a_student() -> None:
    model = build_retriever("dual:minilm:0")
    assert (model.depth, model.width) == (0, 384)
    assert parameter_count(model) < 12_200_000
    assert model(inputs()).scores.shape == (3, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minilm", "unknown retriever 'minilm'"),
        ("dual:minilm:7", "MiniLM has no 7 layers"),
        ("dual:bert", "unknown text model 'bert'"),
        ("dual:minilm+sum", "unknown '\\+sum'"),
        ("cross:minilm+cls", "a cross-encoder has no options"),
        ("cross:bert-L2-H32", "unknown cross-encoder 'bert-L2-H32'"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        build_retriever(name)


def test_the_encoder_within_a_name() -> None:
    hub = "dual:hub:sentence-transformers/msmarco-distilbert-base-tas-b+cls+dot"
    assert encoder_name(hub) == "hub:sentence-transformers/msmarco-distilbert-base-tas-b"
    assert encoder_name("cross:minilm") == "minilm"
    with pytest.raises(BenchError):
        encoder_name("bert")
