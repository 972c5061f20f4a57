"""DKD (Zhao et al. 2022): held against KD where the two must agree, and against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench import BenchError
from bench.config import build
from bench.losses import soft_kl
from bench.method import Progress
from bench.types import Batch, Output
from methods.dkd import DKD, DKDConfig, decoupled, dkd_loss, warmup_weight

sizes = st.tuples(st.integers(1, 6), st.integers(2, 8))
temperatures = st.floats(0.5, 10.0)
numbers = st.integers(0, 10_000)


def draw(size: tuple[int, int], seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """Return student logits, teacher logits (float64) and labels."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        scale * torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    return student, teacher, torch.randint(size[1], (size[0],), generator=generator)


def terms(
    student: Tensor, teacher: Tensor, labels: Tensor, *, step: int = 9, **options: object
) -> dict[str, Tensor]:
    method = DKD(DKDConfig(**options))
    batch = Batch({}, labels, torch.arange(len(labels)))
    progress = Progress("main", step, 10)
    return dict(
        method.loss(
            batch=batch, student=Output(student), teacher=Output(teacher), progress=progress
        )
    )


def by_numpy(
    student: Tensor, teacher: Tensor, labels: Tensor, alpha: float, beta: float, temperature: float
) -> float:
    """Compute the published form, eq. 7, one sample after the other."""
    total = 0.0
    for ours, theirs, label in zip(student.numpy(), teacher.numpy(), labels.tolist(), strict=True):
        q = np.exp(ours / temperature) / np.exp(ours / temperature).sum()
        p = np.exp(theirs / temperature) / np.exp(theirs / temperature).sum()
        rest_p, rest_q = np.delete(p, label), np.delete(q, label)
        target = p[label] * np.log(p[label] / q[label])
        target += rest_p.sum() * np.log(rest_p.sum() / rest_q.sum())
        rest_p, rest_q = rest_p / rest_p.sum(), rest_q / rest_q.sum()
        total += alpha * target + beta * (rest_p * np.log(rest_p / rest_q)).sum()
    return temperature**2 * total / len(labels)


@given(sizes, temperatures, st.floats(0, 3), st.floats(0, 10), numbers)
@settings(max_examples=60, deadline=None)
def test_golden_loss_of_every_configuration(
    size: tuple[int, int], temperature: float, alpha: float, beta: float, seed: int
) -> None:
    student, teacher, labels = draw(size, seed)
    found = dkd_loss(student, teacher, labels, alpha=alpha, beta=beta, temperature=temperature)
    expected = by_numpy(student, teacher, labels, alpha, beta, temperature)
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(sizes, temperatures, numbers)
@settings(max_examples=40, deadline=None)
def test_with_kds_own_weights_it_is_kd_in_loss_and_gradient(
    size: tuple[int, int], temperature: float, seed: int
) -> None:
    ours, teacher, labels = draw(size, seed)
    ours = ours.float().requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    teacher = teacher.float()
    target = F.softmax(teacher / temperature, dim=1).gather(1, labels[:, None])[:, 0]
    left = dkd_loss(ours, teacher, labels, alpha=1.0, beta=1 - target, temperature=temperature)
    right = soft_kl(student=theirs, teacher=teacher, temperature=temperature)
    left.backward()
    right.backward()
    assert left.item() == pytest.approx(right.item(), rel=1e-4, abs=1e-5)
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)  # type: ignore[arg-type]


@given(st.integers(1, 6), temperatures, numbers)
@settings(max_examples=30, deadline=None)
def test_two_classes_leave_nothing_to_distribute(rows: int, temperature: float, seed: int) -> None:
    student, teacher, labels = draw((rows, 2), seed)
    student.requires_grad_()
    target, others = decoupled(student, teacher, labels, temperature=temperature)
    assert (others == 0).all()
    (gradient,) = torch.autograd.grad(others.sum(), student, retain_graph=True)
    assert (gradient == 0).all()
    # and what is left is KD, whatever β
    kd = soft_kl(student=student, teacher=teacher, temperature=temperature)
    whole = dkd_loss(student, teacher, labels, alpha=1.0, beta=8.0, temperature=temperature)
    assert whole.item() == pytest.approx(kd.item(), rel=1e-4, abs=1e-5)
    assert (target >= -1e-12).all()


@pytest.mark.parametrize("size", [(4, 2), (3, 5)])
def test_the_gradient_is_the_slope(size: tuple[int, int]) -> None:
    student, teacher, labels = draw(size, 1)
    teacher.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda value: dkd_loss(value, teacher, labels, alpha=0.7, beta=3.0, temperature=2.0),
        student.requires_grad_(),
    )
    dkd_loss(student, teacher, labels, alpha=0.7, beta=3.0, temperature=2.0).backward()
    assert teacher.grad is None


@given(sizes, temperatures, st.floats(-20, 20), numbers)
@settings(max_examples=30, deadline=None)
def test_constants_per_row_and_equal_logits(
    size: tuple[int, int], temperature: float, constant: float, seed: int
) -> None:
    student, teacher, labels = draw(size, seed)
    options = {"alpha": 1.0, "beta": 8.0, "temperature": temperature}
    plain = float(dkd_loss(student, teacher, labels, **options))
    assert float(dkd_loss(student + constant, teacher, labels, **options)) == pytest.approx(
        plain, rel=1e-6, abs=1e-8
    )
    assert float(dkd_loss(student, teacher + constant, labels, **options)) == pytest.approx(
        plain, rel=1e-6, abs=1e-8
    )
    assert float(dkd_loss(teacher, teacher, labels, **options)) == pytest.approx(0.0, abs=1e-9)


def test_the_target_part_ignores_the_others_shares_and_the_other_part_the_target() -> None:
    student, teacher, labels = draw((6, 5), 2)
    target, others = decoupled(student, teacher, labels, temperature=2.0)
    rows = torch.arange(6)
    raised = student.clone()
    raised[rows, labels] += 3.0
    moved = decoupled(raised, teacher, labels, temperature=2.0)
    assert torch.allclose(moved[1], others)
    assert not torch.allclose(moved[0], target, atol=1e-2)
    # permute the others' logits: the target's share stays
    shuffled = student.clone()
    for row in range(6):
        rest = [column for column in range(5) if column != labels[row]]
        shuffled[row, rest] = student[row, rest[::-1]]
    moved = decoupled(shuffled, teacher, labels, temperature=2.0)
    assert torch.allclose(moved[0], target)
    assert not torch.allclose(moved[1], others, atol=1e-2)


def test_a_teacher_that_is_sure_leaves_everything_finite() -> None:
    student = torch.tensor([[-90.0, 60.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[200.0, -200.0, 0.0]])
    loss = dkd_loss(student, teacher, torch.tensor([0]), alpha=1.0, beta=8.0, temperature=0.5)
    loss.backward()
    assert torch.isfinite(loss)
    assert student.grad is not None and torch.isfinite(student.grad).all()
    assert float(student.grad[0, 0]) < 0  # pulled towards the target
    half = dkd_loss(
        student.bfloat16(), teacher, torch.tensor([0]), alpha=1.0, beta=8.0, temperature=0.5
    )
    assert half.dtype == torch.float32


def test_padded_candidates_get_no_gradient_and_change_nothing() -> None:
    logits, teacher, _ = draw((4, 6), 5)
    labels = torch.zeros(4, dtype=torch.long)
    padding = torch.zeros(4, 6, dtype=torch.bool)
    padding[0, 4:] = padding[2, 1:] = True  # the third query is left with its positive alone
    options = {"alpha": 1.0, "beta": 8.0, "temperature": 2.0}
    student = logits.masked_fill(padding, -torch.inf).requires_grad_()
    masked = teacher.masked_fill(padding, -torch.inf)
    loss = dkd_loss(student, masked, labels, **options)
    loss.backward()
    assert torch.isfinite(loss)
    assert student.grad is not None and torch.isfinite(student.grad).all()
    assert (student.grad[padding] == 0).all()
    assert (student.grad[2] == 0).all()
    short = dkd_loss(logits[:1, :4], teacher[:1, :4], labels[:1], **options)
    long = dkd_loss(student.detach()[:1], masked[:1], labels[:1], **options)
    assert float(long) == pytest.approx(float(short), rel=1e-9)


def test_the_warm_up_rises_to_one_and_stays() -> None:
    weights = [warmup_weight(Progress("main", step, 24), 1 / 12) for step in range(24)]
    assert weights[:4] == [0.0, 0.5, 1.0, 1.0]
    assert weights[4:] == [1.0] * 20
    assert warmup_weight(Progress("main", 0, 24), 0.0) == 1.0
    student, teacher, labels = draw((3, 4))
    full = terms(student, teacher, labels, step=9, warmup=0.4)["dkd"]
    assert float(terms(student, teacher, labels, step=0, warmup=0.4)["dkd"]) == 0.0
    assert float(terms(student, teacher, labels, step=3, warmup=0.4)["dkd"]) == pytest.approx(
        0.75 * float(full)
    )
    assert float(full) == pytest.approx(by_numpy(student, teacher, labels, 1.0, 8.0, 4.0))


def test_the_label_term_is_plain_cross_entropy() -> None:
    student, teacher, labels = draw((5, 4))
    found = terms(student, teacher, labels, w_ce=0.3, step=0)
    assert torch.equal(found["ce"], 0.3 * F.cross_entropy(student, labels))
    assert set(terms(student, teacher, labels, alpha=0.0, beta=0.0)) == {"ce"}


def test_defaults_are_the_released_ones() -> None:
    config = DKDConfig()
    assert (config.temperature, config.alpha, config.beta, config.w_ce) == (4.0, 1.0, 8.0, 1.0)
    assert config.warmup * 240 == pytest.approx(20)


@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"beta": -1}, {"warmup": 1.5}, {"gamma": 1}]
)
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(BenchError, match=next(iter(options))):
        build(DKDConfig, options, "method 'dkd'")


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_without_its_term_it_is_the_plain_student_bit_for_bit(world, differing) -> None:
    plain = world.run("scratch")
    off = world.run("dkd", options={"alpha": 0.0, "beta": 0.0})
    assert differing(plain.student.state_dict(), off.student.state_dict()) == []
    full = world.run("dkd")
    assert differing(plain.student.state_dict(), full.student.state_dict())


def test_on_two_classes_it_trains_the_same_student_as_kd(text_world) -> None:
    teacher = text_world.teacher()
    torch.nn.init.normal_(teacher.head.weight)
    ours = text_world.run("dkd", options={"warmup": 0.0, "beta": 5.0}, teacher=teacher).student
    theirs = text_world.run("kd", options={"w_ce": 1.0, "w_kd": 1.0}, teacher=teacher).student
    for name, value in ours.state_dict().items():
        assert torch.allclose(value, theirs.state_dict()[name], atol=2e-4), name
