"""Text models that cannot read what a task gives them are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertForSequenceClassification, BertModel

from bench import TASKS, BenchError
from bench.models.cross import build_cross
from bench.models.fit import check_length, check_vocabulary
from bench.models.text import build_text, load_encoder, minilm_path


def saved(folder: Path, *, tokens: int = 0, precision: torch.dtype = torch.float32) -> str:
    """Write a compact BERT with MiniLM's tokenizer and so many further ``tokens``."""
    encoder: Any = load_encoder("bert-L1-H32")
    BertModel(encoder.config).to(precision).save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(minilm_path())
    tokenizer.add_tokens([f"further{at}" for at in range(tokens)])
    tokenizer.save_pretrained(folder)
    return f"hub:{folder}"


def test_a_student_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    same, other = saved(tmp_path / "same"), saved(tmp_path / "other", tokens=2)
    check_vocabulary(same, "minilm")
    check_vocabulary("bert-L1-H32", same)
    text = TASKS.get("amazon")("quick", overrides={"student": other})
    with pytest.raises(BenchError, match="does not have the vocabulary of 'minilm'"):
        text.build_model(text.preset.student)
    assert text.build_model(same).depth == 1
    # retrieval has three: the packaged student and miner cannot read another teacher's ids
    search = TASKS.get("msmarco")("quick", overrides={"teacher": f"dual:{other}"})
    search.build_model(search.preset.teacher)
    for name in (search.preset.student, search.preset.miner):
        with pytest.raises(BenchError, match="student, teacher and miner must share one"):
            search.build_model(name)


def test_texts_longer_than_a_model_reads_are_refused(tmp_path: Path) -> None:
    lengths = {"query_length": "200", "max_length": "400", "frozen_teacher": "false"}
    task = TASKS.get("msmarco-cross")("small", source="mirror", overrides=lengths)
    with pytest.raises(BenchError, match="'cross:minilm' reads 512 tokens, and texts may have 599"):
        task.build_model("cross:minilm")
    task.build_model("dual:minilm:1")  # reads one text at a time
    config: Any = load_encoder("bert-L1-H32").config
    config.max_position_embeddings = 66
    check_length(config, 66, "short")
    with pytest.raises(BenchError, match="'short' reads 66 tokens"):
        check_length(config, 67, "short")
    config.model_type, config.pad_token_id = "roberta", 1  # positions count from 2
    with pytest.raises(BenchError, match="'short' reads 64 tokens"):
        check_length(config, 65, "short")


def test_a_checkpoint_in_half_precision_is_trained_in_full(tmp_path: Path) -> None:
    model = build_text(saved(tmp_path / "half", precision=torch.bfloat16), num_classes=2)
    assert {value.dtype for value in model.state_dict().values() if value.is_floating_point()} == {
        torch.float32
    }


def test_a_published_cross_encoder_has_a_head_of_one_output(tmp_path: Path) -> None:
    config: Any = load_encoder("bert-L1-H32").config
    for outputs in (1, 3):
        config.num_labels = outputs
        BertForSequenceClassification(config).save_pretrained(tmp_path / str(outputs))
    first, second = (build_cross(f"hub:{tmp_path / '1'}").state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in (minilm_path(), tmp_path / "3"):  # no head, and three outputs
        with pytest.raises(BenchError, match="no usable classifier"):
            build_cross(f"hub:{name}")
