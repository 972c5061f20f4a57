"""KD: the exact properties of Hinton et al. 2015, and the losses held against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench import BenchError
from bench.config import build
from bench.method import Progress
from bench.types import Batch, Output
from methods.kd import KD, KDConfig, margin_mse

PROGRESS = Progress("main", 0, 10)
sizes = st.tuples(st.integers(1, 6), st.integers(2, 8))
temperatures = st.floats(0.5, 10.0)
weights = st.floats(0.0, 3.0)
numbers = st.integers(0, 10_000)


def draw(size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return student logits, teacher logits and labels."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(size, generator=generator) for _ in range(2))
    return student, teacher, torch.randint(size[1], (size[0],), generator=generator)


def terms(student: Tensor, teacher: Tensor, labels: Tensor, **options: object) -> dict[str, Tensor]:
    method = KD(KDConfig(**options))
    batch = Batch({}, labels, torch.arange(len(labels)))
    return dict(
        method.loss(
            batch=batch, student=Output(student), teacher=Output(teacher), progress=PROGRESS
        )
    )


def log_softmax(value: np.ndarray) -> np.ndarray:
    shifted = value - value.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def kd_by_numpy(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """Compute T²·mean_i Σ_c p_t (log p_t − log p_s) in float64."""
    ours = log_softmax(student.double().numpy() / temperature)
    theirs = log_softmax(teacher.double().numpy() / temperature)
    return float(temperature**2 * (np.exp(theirs) * (theirs - ours)).sum(axis=1).mean())


def ce_by_numpy(student: Tensor, labels: Tensor) -> float:
    rows = log_softmax(student.double().numpy())
    return float(-rows[np.arange(len(rows)), labels.numpy()].mean())


@given(sizes, temperatures, weights, weights, numbers)
@settings(max_examples=60, deadline=None)
def test_golden_loss_of_every_configuration(
    size: tuple[int, int], temperature: float, w_ce: float, w_kd: float, seed: int
) -> None:
    student, teacher, labels = draw(size, seed)
    found = terms(student, teacher, labels, temperature=temperature, w_ce=w_ce, w_kd=w_kd)
    assert float(found["ce"]) == pytest.approx(
        w_ce * ce_by_numpy(student, labels), rel=1e-4, abs=1e-5
    )
    expected = w_kd * kd_by_numpy(student, teacher, temperature)
    assert float(found.get("kd", 0.0)) == pytest.approx(expected, rel=1e-3, abs=3e-5)


def test_a_value_worked_out_by_hand() -> None:
    # p_t = (3/4, 1/4), p_s = (1/2, 1/2): 0.75·ln 1.5 + 0.25·ln 0.5
    teacher, student = torch.tensor([[np.log(3.0), 0.0]]), torch.zeros(1, 2)
    found = terms(student, teacher, torch.tensor([0]), temperature=1.0, w_ce=0.0, w_kd=1.0)
    assert float(found["kd"]) == pytest.approx(0.1308120, abs=1e-6)
    # the same pair softened from logits twice as large at T = 2: four times as much
    found = terms(student, 2 * teacher, torch.tensor([0]), temperature=2.0, w_ce=0.0, w_kd=1.0)
    assert float(found["kd"]) == pytest.approx(4 * 0.1308120, abs=1e-6)


def test_defaults_are_the_cifar_settings_of_the_field() -> None:
    config = KDConfig()
    assert (config.temperature, config.w_ce, config.w_kd, config.loss) == (4.0, 0.1, 0.9, "kl")


@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"temperature": -1}, {"w_kd": -0.1}, {"loss": "mse"}]
)
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(BenchError, match=next(iter(options))):
        build(KDConfig, options, "method 'kd'")


@given(sizes, temperatures, numbers)
@settings(max_examples=40, deadline=None)
def test_equal_logits_give_no_loss_and_no_gradient(
    size: tuple[int, int], temperature: float, seed: int
) -> None:
    logits, _, labels = draw(size, seed)
    student = logits.clone().requires_grad_()
    loss = terms(student, logits, labels, temperature=temperature)["kd"]
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-6


@given(sizes, temperatures, st.floats(-20, 20), numbers)
@settings(max_examples=40, deadline=None)
def test_a_constant_per_row_changes_nothing(
    size: tuple[int, int], temperature: float, constant: float, seed: int
) -> None:
    student, teacher, labels = draw(size, seed)
    shift = constant * torch.linspace(-1, 1, size[0])[:, None] + constant
    plain = terms(student, teacher, labels, temperature=temperature)
    for moved in (
        terms(student + shift, teacher, labels, temperature=temperature),
        terms(student, teacher + shift, labels, temperature=temperature),
    ):
        for name, value in plain.items():
            assert float(moved[name]) == pytest.approx(float(value), rel=2e-3, abs=2e-4)


@given(sizes, temperatures, weights, numbers)
@settings(max_examples=40, deadline=None)
def test_gradient_is_temperature_over_n_times_the_difference(
    size: tuple[int, int], temperature: float, w_kd: float, seed: int
) -> None:
    logits, teacher, labels = draw(size, seed)
    student = logits.clone().requires_grad_()
    found = terms(student, teacher, labels, temperature=temperature, w_kd=w_kd)
    gradient = torch.zeros(size)
    if "kd" in found:
        (gradient,) = torch.autograd.grad(found["kd"], student)
    ours = np.exp(log_softmax(logits.double().numpy() / temperature))
    theirs = np.exp(log_softmax(teacher.double().numpy() / temperature))
    expected = w_kd * temperature / size[0] * (ours - theirs)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher, labels = draw((4, 5), 0)
    student.requires_grad_()
    teacher.requires_grad_()
    for loss in ("kl", "margin_mse"):
        sum(terms(student, teacher, labels, loss=loss).values()).backward()
    assert student.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_without_its_term_it_is_the_plain_student_bit_for_bit(world, differing) -> None:
    plain = world.run("scratch")
    kd = world.run("kd", options={"w_ce": 1.0, "w_kd": 0.0})
    assert differing(plain.student.state_dict(), kd.student.state_dict()) == []
    full = world.run("kd", options={"w_ce": 1.0, "w_kd": 0.9})
    assert differing(plain.student.state_dict(), full.student.state_dict())


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_training_changes_nothing_in_the_teacher(world, differing, snapshot) -> None:
    teacher = world.teacher().train()  # as somebody may hand it over: trainable, in train mode
    before = snapshot(teacher)
    world.run("kd", teacher=teacher)
    assert differing(before, teacher.state_dict()) == []  # batch statistics included
    assert all(parameter.grad is None for parameter in teacher.parameters())


# --- retrieval: logits are a query's scores over its candidates, column 0 the positive ---


@given(sizes, temperatures, numbers)
@settings(max_examples=30, deadline=None)
def test_the_order_of_candidates_does_not_matter(
    size: tuple[int, int], temperature: float, seed: int
) -> None:
    student, teacher, _ = draw(size, seed)
    labels = torch.zeros(size[0], dtype=torch.long)
    order = torch.randperm(size[1], generator=torch.Generator().manual_seed(seed))
    plain = terms(student, teacher, labels, temperature=temperature)["kd"]
    moved = terms(student[:, order], teacher[:, order], labels, temperature=temperature)["kd"]
    assert float(moved) == pytest.approx(float(plain), rel=1e-4, abs=1e-5)
    negatives = torch.cat([torch.tensor([0]), order[order > 0]])
    plain = margin_mse(student=student, teacher=teacher)
    moved = margin_mse(student=student[:, negatives], teacher=teacher[:, negatives])
    assert float(moved) == pytest.approx(float(plain), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("loss", ["kl", "margin_mse"])
def test_a_constant_per_query_on_the_teacher_changes_nothing(loss: str) -> None:
    student, teacher, _ = draw((5, 4), 3)
    labels = torch.zeros(5, dtype=torch.long)
    shift = torch.tensor([[-9.0], [4.0], [0.0], [2.5], [11.0]])
    plain = terms(student, teacher, labels, loss=loss)["kd"]
    moved = terms(student, teacher + shift, labels, loss=loss)["kd"]
    assert float(moved) == pytest.approx(float(plain), rel=1e-4)


@pytest.mark.parametrize("loss", ["kl", "margin_mse"])
def test_padded_candidates_get_no_gradient_and_change_nothing(loss: str) -> None:
    logits, teacher, _ = draw((4, 6), 5)
    padding = torch.zeros(4, 6, dtype=torch.bool)
    padding[0, 4:] = padding[2, 1:] = True  # the third query is left with its positive alone
    student = logits.masked_fill(padding, -torch.inf).requires_grad_()
    labels = torch.zeros(4, dtype=torch.long)
    found = terms(student, teacher.masked_fill(padding, -torch.inf), labels, loss=loss)
    sum(found.values()).backward()
    assert all(torch.isfinite(value) for value in found.values())
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert (student.grad[padding] == 0).all()
    assert (student.grad[~padding][:4] != 0).all()
    # the first query alone: the same value as with its padding cut off
    short = {"student": logits[:1, :4], "teacher": teacher[:1, :4], "labels": labels[:1]}
    long = {
        "student": student.detach()[:1],
        "teacher": teacher.masked_fill(padding, -torch.inf)[:1],
        "labels": labels[:1],
    }
    assert float(terms(**long, loss=loss)["kd"]) == pytest.approx(
        float(terms(**short, loss=loss)["kd"]), rel=1e-5
    )


def test_margin_mse_by_hand() -> None:
    student = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, -torch.inf]])
    teacher = torch.tensor([[5.0, 1.0, 4.0], [0.0, -3.0, -torch.inf]])
    # margins 2, 3, −1 against 4, 1, 3
    assert float(margin_mse(student=student, teacher=teacher)) == pytest.approx((4 + 4 + 16) / 3)
    found = terms(student, teacher, torch.zeros(2, dtype=torch.long), loss="margin_mse", w_kd=0.5)
    assert float(found["kd"]) == pytest.approx(0.5 * 8)


@given(sizes, weights, numbers)
@settings(max_examples=30, deadline=None)
def test_golden_margin_mse(size: tuple[int, int], w_kd: float, seed: int) -> None:
    student, teacher, labels = draw(size, seed)
    total, count = 0.0, 0
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        for column in range(1, size[1]):
            total += ((ours[0] - ours[column]) - (theirs[0] - theirs[column])) ** 2
            count += 1
    found = terms(student, teacher, labels, loss="margin_mse", w_kd=w_kd)
    assert float(found.get("kd", 0.0)) == pytest.approx(w_kd * total / count, rel=1e-4, abs=1e-5)
