"""GPD on dual encoders: embeddings repeated, scores and rankings the student's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from bench.errors import NotApplicable
from bench.models.dual import DualEncoder
from bench.models.retriever import build_retriever
from methods.gpd.dynamic import Shape, _stored, build_dynamic, student_weights
from methods.gpd.method import smoothed_cross_entropy

KINDS = ("dual:bert-L2-H32", "dual:bert-L1-H32+cls+dot+separate")


def make(name: str, dtype: torch.dtype = torch.float64) -> tuple[DualEncoder, dict[str, Tensor]]:
    """Return a dual encoder without dropout and a batch of three lists, one of them short."""
    torch.manual_seed(3)
    student: Any = build_retriever(name)
    still(student)
    real = torch.tensor([[True] * 4, [True] * 4, [True, True, True, False]])
    length = torch.arange(7)
    inputs = {
        "query_ids": torch.randint(5, 900, (3, 7)),
        "query_mask": length < torch.tensor([[7], [4], [5]]),
        "passage_ids": torch.randint(5, 900, (3, 4, 7)),
        "passage_mask": (length < torch.randint(2, 8, (3, 4, 1))),
        "real": real,
    }
    return student.to(dtype), inputs


def still(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def expand(student: DualEncoder, inputs: dict[str, Tensor], **shape: Any) -> Any:
    dynamic, places = build_dynamic(
        student, Shape(**shape), inputs=inputs, generator=torch.Generator().manual_seed(1)
    )
    still(dynamic)
    return dynamic, places


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_starts_with_the_students_scores(
    name: str, r: int, dtype: torch.dtype, training: bool
) -> None:
    student, inputs = make(name, dtype)
    dynamic, _ = expand(student, inputs, expansion=r, matched=r != 2)
    small, large = (each.train(training)(inputs) for each in (student, dynamic))
    limit = 1e-10 if dtype == torch.float64 else 2e-4
    there = inputs["real"]
    assert large.logits.isneginf().equal(~there) and small.logits.isneginf().equal(~there)
    assert large.logits.dtype == dtype
    assert float(small.logits[there].detach().std()) > 1e-2
    assert torch.allclose(large.logits[there], small.logits[there], rtol=limit, atol=limit)
    repeated = small.embedding.repeat(1, 1, r)
    if student.similarity == "cosine":
        repeated = repeated / r**0.5
    assert torch.allclose(large.embedding, repeated, rtol=limit, atol=limit)
    assert dynamic.width == r * student.width


def test_word_embeddings_alone_are_expanded() -> None:
    student, inputs = make("dual:minilm:0", torch.float32)
    dynamic, places = expand(student, inputs, expansion=2)
    there = inputs["real"]
    small, large = (each(inputs).logits[there] for each in (student, dynamic))
    assert torch.allclose(large, small, rtol=2e-4, atol=2e-4)
    found = student_weights(dynamic, student, places)
    assert all(found[each].equal(value) for each, value in student.named_parameters())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("r", [1, 2, 3])
def test_extracting_gives_the_student_back(name: str, r: int) -> None:
    student, inputs = make(name)
    dynamic, places = expand(student, inputs, expansion=r, noise=0.3)
    found = student_weights(dynamic, student, places)
    own = dict(student.named_parameters())
    assert found.keys() == own.keys()
    assert all(found[each].equal(value) for each, value in own.items())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("r", [1, 2, 3])
def test_slices_alias_the_dynamic_teachers_storage(name: str, r: int) -> None:
    student, inputs = make(name)
    dynamic, places = expand(student, inputs, expansion=r)
    for each, own in student.named_parameters():
        stored, _ = _stored(dynamic, each)
        block = places[each].take(stored)
        assert block.shape == own.shape
        assert block.untyped_storage().data_ptr() == stored.untyped_storage().data_ptr()
        with torch.no_grad():
            stored.zero_()
    assert all(not value.any() for value in student_weights(dynamic, student, places).values())


@pytest.mark.parametrize("name", KINDS)
def test_width_one_is_the_student_itself(name: str) -> None:
    student, inputs = make(name)
    dynamic, places = expand(student, inputs, expansion=1, noise=0.5)
    optimizer = torch.optim.SGD(dynamic.parameters(), lr=0.1)
    for _ in range(3):
        weights = student_weights(dynamic, student, places)
        small = functional_call(student, weights, (inputs,)).logits
        large = dynamic(inputs).logits
        assert small.equal(large)
        optimizer.zero_grad()
        F.cross_entropy(large, torch.zeros(3, dtype=torch.long)).backward()
        optimizer.step()
    moved = student_weights(dynamic, student, places)
    assert not all(moved[each].equal(own) for each, own in student.named_parameters())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("r", [2, 3])
@pytest.mark.parametrize("matched", [True, False], ids=["matched", "raw"])
def test_a_step_moves_the_student_as_far_as_alone_only_if_matched(
    name: str, r: int, matched: bool
) -> None:
    student, inputs = make(name)
    alone, _ = make(name)
    labels = torch.zeros(3, dtype=torch.long)
    F.cross_entropy(alone(inputs).logits, labels).backward()
    torch.optim.SGD([p for p in alone.parameters() if p.grad is not None], lr=1e-3).step()
    dynamic, places = expand(student, inputs, expansion=r, matched=matched)
    weights = student_weights(dynamic, student, places)
    F.cross_entropy(functional_call(student, weights, (inputs,)).logits, labels).backward()
    torch.optim.SGD([p for p in dynamic.parameters() if p.grad is not None], lr=1e-3).step()
    found, plain = student_weights(dynamic, student, places), dict(alone.named_parameters())
    divided = 0
    for each, before in student.named_parameters():
        moved, expected = (found[each] - before).detach(), (plain[each] - before).detach()
        times = 1 if matched else places[each].divisor ** 2
        divided += times > 1
        far = float(expected.abs().max())
        if far > 1e-12:
            assert float((moved - times * expected).abs().max()) <= 1e-6 * times * far, each
    assert bool(divided) != matched


def test_with_noise_the_teacher_departs_and_the_student_does_not() -> None:
    student, inputs = make("dual:bert-L2-H32")
    dynamic, _ = expand(student, inputs, expansion=2, noise=0.05)
    there = inputs["real"]
    apart = (dynamic(inputs).logits - student(inputs).logits)[there].detach().abs()
    assert float(apart.max()) > 1e-4


def test_a_cross_encoder_is_refused() -> None:
    student: Any = build_retriever("cross:minilm")
    with pytest.raises(NotApplicable, match="wider"):
        expand(student, {}, expansion=2)


def test_smoothing_is_spread_over_the_candidates_that_are_there() -> None:
    generator = torch.Generator().manual_seed(0)
    student, dynamic = (torch.randn(3, 4, generator=generator) for _ in range(2))
    whole = [
        smoothed_cross_entropy(student=s[None, :c], teacher=d[None, :c], smoothing=0.1)
        for s, d, c in zip(student, dynamic, (4, 2, 3), strict=True)
    ]
    gone = torch.tensor([[False] * 4, [False, False, True, True], [False] * 3 + [True]])
    short, asked = student.masked_fill(gone, -torch.inf), dynamic.masked_fill(gone, -torch.inf)
    short.requires_grad_()
    found = smoothed_cross_entropy(student=short, teacher=asked, smoothing=0.1)
    assert float(found.detach()) == pytest.approx(float(torch.stack(whole).mean()), rel=1e-6)
    (gradient,) = torch.autograd.grad(found, short)
    assert gradient.isfinite().all() and not gradient[gone].any() and gradient[~gone].all()
    full = smoothed_cross_entropy(student=student, teacher=dynamic, smoothing=0.1)
    target = 0.9 * dynamic.softmax(1) + 0.1 / 4
    assert float(full) == pytest.approx(float(F.cross_entropy(student, target)), rel=1e-6)
