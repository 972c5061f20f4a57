"""The shared loss terms: identities that hold for any logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.losses import soft_cross_entropy, soft_kl

sizes = st.tuples(st.integers(1, 6), st.integers(2, 8))
temperatures = st.floats(0.5, 10.0)
numbers = st.integers(0, 10_000)
few = settings(max_examples=40, deadline=None)


def draw(size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(3 * torch.randn(size, generator=generator) for _ in range(2))  # type: ignore[return-value]


def entropy(logits: Tensor, temperature: float) -> float:
    return float(torch.distributions.Categorical(logits=logits / temperature).entropy().mean())


@given(sizes, temperatures, numbers)
@few
def test_divergence_is_cross_entropy_less_entropy(size, temperature: float, seed: int) -> None:
    student, teacher = draw(size, seed)
    both = {"student": student, "teacher": teacher, "temperature": temperature}
    cross = float(soft_cross_entropy(**both))
    expected = temperature**2 * (cross - entropy(teacher, temperature))
    assert float(soft_kl(**both)) == pytest.approx(expected, rel=1e-3, abs=1e-4)


@given(sizes, temperatures, numbers)
@few
def test_divergence_is_never_negative_and_zero_only_at_equality(
    size, temperature: float, seed: int
) -> None:
    student, teacher = draw(size, seed)
    assert float(soft_kl(student=student, teacher=teacher, temperature=temperature)) > 1e-6
    same = float(soft_kl(student=teacher, teacher=teacher, temperature=temperature))
    assert same == pytest.approx(0.0, abs=1e-6)


@given(sizes, temperatures, numbers)
@few
def test_temperature_divides_both_sides_and_is_squared_in_front(
    size, temperature: float, seed: int
) -> None:
    student, teacher = draw(size, seed)
    plain = float(soft_kl(student=student, teacher=teacher))
    scaled = soft_kl(
        student=temperature * student, teacher=temperature * teacher, temperature=temperature
    )
    assert float(scaled) == pytest.approx(temperature**2 * plain, rel=1e-3, abs=1e-4)
    cross = soft_cross_entropy(
        student=temperature * student, teacher=temperature * teacher, temperature=temperature
    )
    unscaled = float(soft_cross_entropy(student=student, teacher=teacher))
    assert float(cross) == pytest.approx(unscaled, rel=1e-3)  # no T² here


def test_high_temperature_matches_centred_logits() -> None:
    # Hinton et al. 2015, §2.1: T²·KL → ‖(z_t − mean) − (z_s − mean)‖² / 2C
    student, teacher = draw((3, 5), 1)
    gap = (teacher - teacher.mean(1, keepdim=True)) - (student - student.mean(1, keepdim=True))
    expected = float(gap.double().pow(2).sum(1).mean() / 10)
    found = float(soft_kl(student=student, teacher=teacher, temperature=100.0))
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("loss", [soft_kl, soft_cross_entropy])
def test_a_batch_is_the_mean_of_its_rows(loss) -> None:
    student, teacher = draw((6, 4), 2)
    rows = [float(loss(student=student[[row]], teacher=teacher[[row]])) for row in range(6)]
    assert float(loss(student=student, teacher=teacher)) == pytest.approx(sum(rows) / 6, rel=1e-5)


def test_a_sure_teacher_is_a_hard_label() -> None:
    student, _ = draw((5, 4), 3)
    labels = torch.tensor([0, 3, 1, 1, 2])
    sure = 200.0 * F.one_hot(labels, 4).float()  # the other probabilities underflow to 0
    expected = float(F.cross_entropy(student, labels))
    for loss in (soft_kl, soft_cross_entropy):
        assert float(loss(student=student, teacher=sure)) == pytest.approx(expected, rel=1e-5)


def test_soft_cross_entropy_has_the_gradient_of_the_divergence_without_the_square() -> None:
    logits, teacher = draw((4, 5), 4)
    student = logits.requires_grad_()
    (plain,) = torch.autograd.grad(
        soft_cross_entropy(student=student, teacher=teacher, temperature=3.0), student
    )
    (squared,) = torch.autograd.grad(
        soft_kl(student=student, teacher=teacher, temperature=3.0), student
    )
    torch.testing.assert_close(9.0 * plain, squared, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [soft_kl, soft_cross_entropy])
def test_the_sides_are_named_and_not_interchangeable(loss) -> None:
    student, teacher = draw((4, 5), 6)
    with pytest.raises(TypeError):
        loss(student, teacher)
    assert float(loss(student=student, teacher=teacher)) != pytest.approx(
        float(loss(student=teacher, teacher=student)), rel=1e-3
    )


@pytest.mark.parametrize("loss", [soft_kl, soft_cross_entropy])
def test_masked_classes_count_for_nothing(loss) -> None:
    logits, scores = draw((3, 5), 7)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[:, 3:] = True
    student = logits.masked_fill(mask, -torch.inf).requires_grad_()
    teacher = scores.masked_fill(mask, -torch.inf).requires_grad_()
    value = loss(student=student, teacher=teacher, temperature=2.0)
    value.backward()
    expected = float(loss(student=logits[:, :3], teacher=scores[:, :3], temperature=2.0))
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert (student.grad[mask] == 0).all()
    assert teacher.grad is None


@pytest.mark.parametrize("loss", [soft_kl, soft_cross_entropy])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(loss, dtype: torch.dtype) -> None:
    student, teacher = (value.to(dtype) for value in draw((4, 5), 8))
    value = loss(student=student, teacher=teacher)
    assert value.dtype == torch.float32
    assert float(value) == float(loss(student=student.float(), teacher=teacher.float()))
