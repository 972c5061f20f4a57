"""RKD (Park et al. 2019): what the relations must not see, and the losses against plain loops."""

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
from bench.models.base import parameter_count
from bench.types import Batch, Output
from methods.rkd import RKD, RKDConfig, cosines, differences, relative_distances

PROGRESS = Progress("main", 0, 10)
numbers = st.integers(0, 10_000)


def draw(rows: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64)


def terms(student: Tensor, teacher: Tensor, **options: object) -> dict[str, Tensor]:
    rows = len(student)
    batch = Batch({}, torch.arange(rows) % 3, torch.arange(rows))
    return dict(
        RKD(RKDConfig(**options)).loss(
            batch=batch,
            student=Output(draw(rows, 3, 8), student),
            teacher=Output(draw(rows, 3, 9), teacher),
            progress=PROGRESS,
        )
    )


def huber(difference: float) -> float:
    size = abs(difference)
    return 0.5 * size**2 if size <= 1 else size - 0.5


def distance_by_loops(student: np.ndarray, teacher: np.ndarray) -> float:
    rows = len(student)

    def normalised(points: np.ndarray) -> dict[tuple[int, int], float]:
        found = {
            (i, j): float(np.sqrt(((points[i] - points[j]) ** 2).sum()))
            for i in range(rows)
            for j in range(rows)
        }
        mean = sum(found.values()) / (rows * (rows - 1))
        return {pair: value / mean for pair, value in found.items()}

    ours, theirs = normalised(student), normalised(teacher)
    return sum(huber(ours[pair] - theirs[pair]) for pair in ours) / rows**2


def angle_by_loops(student: np.ndarray, teacher: np.ndarray) -> float:
    rows, total = len(student), 0.0

    def cosine(points: np.ndarray, i: int, j: int, k: int) -> float:
        one, two = points[i] - points[j], points[k] - points[j]
        size = np.sqrt((one**2).sum()) * np.sqrt((two**2).sum())
        return float(one @ two / size) if size else 0.0

    for j in range(rows):
        for i in range(rows):
            for k in range(rows):
                total += huber(cosine(student, i, j, k) - cosine(teacher, i, j, k))
    return total / rows**3


@given(st.integers(2, 6), st.integers(1, 5), st.integers(1, 7), st.floats(0, 40), numbers)
@settings(max_examples=30, deadline=None)
def test_golden_losses(rows: int, width: int, wider: int, weight: float, seed: int) -> None:
    ours, theirs = draw(rows, width, seed), 3 * draw(rows, wider, seed + 1)
    found = terms(ours, theirs, w_distance=weight, w_angle=2 * weight)
    distance = weight * distance_by_loops(ours.numpy(), theirs.numpy())
    angle = 2 * weight * angle_by_loops(ours.numpy(), theirs.numpy())
    assert float(found.get("distance", 0.0)) == pytest.approx(distance, rel=1e-6, abs=1e-12)
    assert float(found.get("angle", 0.0)) == pytest.approx(angle, rel=1e-6, abs=1e-12)


def test_a_triangle_by_hand() -> None:
    # legs 3 and 4, hypotenuse 5, mean 4; cosines 0, 3/5, 4/5 and 1 of a side with itself
    triangle = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    relative = relative_distances(differences(triangle))
    expected = torch.tensor([[0, 3, 4], [3, 0, 5], [4, 5, 0]], dtype=torch.float64) / 4
    assert torch.allclose(relative, expected)
    angle = cosines(differences(triangle))
    assert float(angle[0, 1, 2]) == pytest.approx(0.0)
    assert float(angle[1, 0, 2]) == pytest.approx(3 / 5)
    assert float(angle[2, 0, 1]) == pytest.approx(4 / 5)
    assert float(angle[0, 1, 1]) == pytest.approx(1.0)
    assert float(angle[1, 1, 0]) == 0.0


@given(st.integers(3, 7), st.integers(2, 5), st.floats(0.05, 30), numbers)
@settings(max_examples=30, deadline=None)
def test_a_similarity_is_seen_by_neither(rows: int, width: int, scale: float, seed: int) -> None:
    """Turned, mirrored, moved, scaled and put into a wider space: the relations are the same."""
    theirs = draw(rows, width, seed)
    turn, _ = torch.linalg.qr(draw(width + 2, width, seed + 1))
    ours = (scale * theirs @ turn.T + draw(1, width + 2, seed + 2)).requires_grad_()
    found = terms(ours, theirs)
    (found["distance"] + found["angle"]).backward()
    assert float(found["distance"].detach()) == pytest.approx(0.0, abs=1e-9)
    assert float(found["angle"].detach()) == pytest.approx(0.0, abs=1e-9)
    assert ours.grad is not None and float(ours.grad.abs().max()) < 1e-5


def test_stretching_one_axis_is_seen_by_both() -> None:
    theirs = draw(6, 4)
    found = terms(theirs * torch.tensor([3.0, 1.0, 1.0, 1.0]), theirs)
    assert float(found["distance"]) > 0.1
    assert float(found["angle"]) > 0.1


def test_the_order_of_the_batch_does_not_matter() -> None:
    ours, theirs, order = draw(6, 4), draw(6, 5, 1), torch.tensor([3, 0, 5, 1, 4, 2])
    plain, moved = terms(ours, theirs), terms(ours[order], theirs[order])
    for name in ("distance", "angle"):
        assert float(plain[name]) == pytest.approx(float(moved[name]))


def test_the_gradient_is_the_slope_and_none_reaches_the_teacher() -> None:
    ours, theirs = draw(4, 3).requires_grad_(), draw(4, 5, 1).requires_grad_()

    def loss(value: Tensor) -> Tensor:
        found = terms(value, theirs)
        return found["distance"] + found["angle"]

    assert torch.autograd.gradcheck(loss, ours)
    loss(ours).backward()
    assert theirs.grad is None


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_samples_that_coincide_leave_everything_finite(rows: int) -> None:
    theirs = draw(rows, 3, 1)
    ours = draw(1, 3).expand(rows, 3).float().clone()  # a student that has collapsed
    if rows == 4:
        ours[0] += 1.0
    ours.requires_grad_()
    found = terms(ours, theirs.float())
    total = found["distance"] + found["angle"]
    total.backward()
    assert torch.isfinite(total)
    assert ours.grad is not None and torch.isfinite(ours.grad).all()
    assert float(ours.grad.abs().max()) < 1e3


def test_the_kd_term_is_kds_and_the_label_term_plain() -> None:
    found = terms(draw(4, 5), draw(4, 5, 3), w_kd=0.7, temperature=3.0, w_ce=0.5)
    logits, labels = draw(4, 3, 8), torch.arange(4) % 3
    kd = soft_kl(student=logits, teacher=draw(4, 3, 9), temperature=3.0)
    assert torch.equal(found["kd"], 0.7 * kd)
    assert torch.equal(found["ce"], 0.5 * F.cross_entropy(logits, labels))


def test_defaults_are_the_published_weights() -> None:
    config = RKDConfig()
    assert (config.w_ce, config.w_distance, config.w_angle, config.w_kd) == (1.0, 25.0, 50.0, 0.0)


@pytest.mark.parametrize("options", [{"w_angle": -1}, {"temperature": 0}, {"w_angel": 1}])
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(BenchError, match=next(iter(options))):
        build(RKDConfig, options, "method 'rkd'")


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_without_its_terms_it_is_the_plain_student_bit_for_bit(world, differing) -> None:
    plain = world.run("scratch")
    off = world.run("rkd", options={"w_distance": 0.0, "w_angle": 0.0})
    assert differing(plain.student.state_dict(), off.student.state_dict()) == []


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_training_brings_the_relations_together(world, differing, snapshot) -> None:
    teacher = world.teacher()
    before = snapshot(teacher)
    run = world.run("rkd", options={"w_ce": 0.0}, teacher=teacher, epochs=6)
    losses = [sum(entry["losses"].values()) for entry in run.trained.epochs]
    assert losses[-1] < 0.9 * losses[0]
    assert differing(before, teacher.state_dict()) == []
    assert parameter_count(run.method) == 0
    assert parameter_count(run.trained.model) == parameter_count(world.student())
