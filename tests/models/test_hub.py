"""Checkpoints of the hub: the newest, or the revision that a name pins, from the local cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch

from bench import BenchError
from bench.models.hub import commits, hub_name
from bench.models.text import load_encoder, load_tokenizer
from bench.plan import make_plan
from bench.reproduce import differs_before
from bench.run_cell import run_cell
from bench.suites import Suite
from bench.teachers.train import ensure_teacher

OLD, NEW = "0" * 40, "1" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a tiny BERT of which the cache has two commits, the newer as main."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path / "models--someone--tiny"
    for commit, value in ((OLD, 0.25), (NEW, 0.5)):
        snapshot = folder / "snapshots" / commit
        config = BertConfig(
            vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=8, num_labels=1,
        )  # fmt: skip
        model = BertForSequenceClassification(config)
        for weight in model.parameters():
            torch.nn.init.constant_(weight, value)
        model.save_pretrained(snapshot)
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", f"word{commit[0]}"]
        vocabulary = tmp_path / f"{commit[0]}.txt"
        vocabulary.write_text("\n".join(words))
        BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(snapshot)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(NEW)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return "hub:someone/tiny"


def test_a_name_may_pin_a_revision() -> None:
    assert hub_name("hub:a/b") == ("a/b", "main")
    assert hub_name("hub:a/b@v1.0") == ("a/b", "v1.0")


def test_a_folder_whose_name_has_an_at_sign_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "mine@home").mkdir()
    assert hub_name(f"hub:{tmp_path}/mine@home") == (f"{tmp_path}/mine@home", "main")


@pytest.mark.parametrize(("pin", "value"), [("", 0.5), (f"@{OLD}", 0.25), (f"@{NEW}", 0.5)])
def test_the_pinned_commit_is_loaded(hub: str, pin: str, value: float) -> None:
    from bench.models.cross import build_cross

    encoder: Any = load_encoder(hub + pin)
    assert (encoder.embeddings.word_embeddings.weight == value).all()
    cross: Any = build_cross(hub + pin)
    assert (cross.network.classifier.weight == value).all()
    word = "word0" if value == 0.25 else "word1"
    assert word in load_tokenizer(hub + pin).get_vocab()


def test_a_revision_that_is_not_there_is_named_in_one_line(hub: str) -> None:
    with pytest.raises(BenchError, match="model 'hub:someone/tiny@v9' cannot be loaded") as caught:
        load_encoder(f"{hub}@v9")
    assert "\n" not in str(caught.value)


def test_commits_are_those_that_the_cache_holds(hub: str, tmp_path: Path) -> None:
    assert commits(hub) == {hub: NEW}
    assert commits(f"dual:{hub}@{OLD}+cls", hub) == {f"{hub}@{OLD}": OLD, hub: NEW}
    (tmp_path / "mine").mkdir()
    unknown = ["minilm:2", "resnet8", "timm:resnet10t", "hub:someone/other", f"{hub}@v9"]
    assert commits(*unknown, f"hub:{tmp_path}/mine", "timm:resnet10t@pretrained") == {}
    weights = tmp_path / f"models--timm--resnet10t.c3_in1k/snapshots/{OLD}/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    (weights.parents[2] / "refs").mkdir()
    (weights.parents[2] / "refs" / "main").write_text(OLD)
    assert commits("timm:resnet10t@pretrained") == {"timm:resnet10t@pretrained": OLD}


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b/c", "x" * 5000, "a\0b", "", "a@../b"])
def test_a_strangers_name_has_no_commit(name: str) -> None:
    assert commits(f"hub:{name}") == {}


def test_a_record_holds_the_commits_that_it_was_made_from(hub: str, tmp_path: Path) -> None:
    """The teacher's is that of its own training, whatever the branch holds by now."""
    overrides = {"student": f"{hub}@{OLD}", "teacher": hub, "train_limit": 64, "epochs": 1}
    suite = Suite(methods=("kd",), tasks=("amazon",), seeds=(0,), overrides=overrides)
    (cell,) = make_plan(suite, device="cpu").cells
    assert cell.teacher is not None
    ensure_teacher(cell.teacher)
    main = tmp_path / "models--someone--tiny/refs/main"
    main.write_text(OLD)
    record = run_cell(cell, tmp_path / "results")
    assert record["status"] == "ok", record["error"]
    assert record["model_revisions"] == {f"{hub}@{OLD}": OLD, hub: NEW}
    notes = differs_before(record, cell, torch.get_num_threads())
    assert notes == [f"{hub}: commit {NEW} then, {OLD} here"]
    main.write_text(NEW)
    assert differs_before(record, cell, torch.get_num_threads()) == []
