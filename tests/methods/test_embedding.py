"""Embedding distillation: both distances by hand, their invariances, and the real loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import BenchError
from bench.config import build
from bench.losses import soft_kl
from bench.method import Progress
from bench.models.base import parameter_count
from bench.teachers.signals import LiveTeacher
from bench.types import Batch, Output
from methods.embedding import (
    EmbeddingConfig,
    EmbeddingDistillation,
    cosine_distance,
    embedding_variance,
    linear_projector,
)

PROGRESS = Progress("main", 0, 10)


def draw(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def ready(projector: nn.Module, scale: float = 1.0, **options: object) -> EmbeddingDistillation:
    """Return the method as ``setup`` leaves it, with a projector of the test's own."""
    method = EmbeddingDistillation(EmbeddingConfig(**options))
    method.projector = projector
    method.register_buffer("scale", torch.tensor(scale))
    return method


def terms(
    method: EmbeddingDistillation, student: Tensor, teacher: Tensor, seed: int = 1
) -> dict[str, Tensor]:
    rows = len(student)
    batch = Batch({}, torch.arange(rows) % 3, torch.arange(rows))
    return dict(
        method.loss(
            batch=batch,
            student=Output(draw(rows, 3, seed=seed), student),
            teacher=Output(draw(rows, 3, seed=seed + 1), teacher),
            progress=PROGRESS,
        )
    )


def test_values_by_hand() -> None:
    ours, theirs = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    # cosines 24/25 and 0; squared errors (1 + 1 + 1 + 4) / 4
    assert float(cosine_distance(ours, theirs)) == pytest.approx((1 / 25 + 1) / 2)
    found = terms(ready(nn.Identity(), w_embedding=3.0), ours, theirs)
    assert float(found["embedding"]) == pytest.approx(3 * (1 / 25 + 1) / 2)
    found = terms(ready(nn.Identity(), scale=2.0, distance="mse", w_embedding=3.0), ours, theirs)
    assert float(found["embedding"]) == pytest.approx(3 * (7 / 4) / 2)


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_equal_embeddings_give_no_loss_and_no_gradient(distance: str) -> None:
    theirs = draw(5, 7)
    ours = theirs.clone().requires_grad_()
    found = terms(ready(nn.Identity(), distance=distance), ours, theirs)["embedding"]
    found.backward()
    assert found.item() == pytest.approx(0.0, abs=1e-6)
    assert ours.grad is not None and float(ours.grad.abs().max()) < 1e-6


def test_only_the_direction_matters_to_the_cosine() -> None:
    ours, theirs = draw(5, 7), draw(5, 7, seed=1)
    plain = cosine_distance(ours, theirs)
    assert torch.allclose(plain, cosine_distance(3.0 * ours, 0.2 * theirs), atol=1e-6)
    assert float(cosine_distance(ours, -ours)) == pytest.approx(2.0, abs=1e-5)
    assert float(plain) == pytest.approx(
        float(F.cosine_embedding_loss(ours, theirs, torch.ones(5)))
    )


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_gradients_reach_student_and_projector_but_not_the_teacher(distance: str) -> None:
    ours, theirs = draw(5, 4).requires_grad_(), draw(5, 7, seed=1).requires_grad_()
    projector = linear_projector(4, 7, generator=torch.Generator().manual_seed(0))
    terms(ready(projector, distance=distance), ours, theirs)["embedding"].backward()
    assert ours.grad is not None and float(ours.grad.abs().max()) > 0
    assert projector.weight.grad is not None and projector.bias.grad is not None
    assert theirs.grad is None


def test_the_kd_term_is_kds() -> None:
    method = ready(nn.Identity(), w_kd=0.7, temperature=3.0)
    found = terms(method, draw(4, 5), draw(4, 5, seed=3), seed=8)
    kd = soft_kl(student=draw(4, 3, seed=8), teacher=draw(4, 3, seed=9), temperature=3.0)
    assert torch.equal(found["kd"], 0.7 * kd)
    assert set(terms(ready(nn.Identity()), draw(4, 5), draw(4, 5))) == {"ce", "embedding"}


def test_the_projector_comes_from_its_own_stream() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = linear_projector(4, 7, generator=torch.Generator().manual_seed(3))
    assert torch.equal(before, torch.random.get_rng_state())
    other = linear_projector(4, 7, generator=torch.Generator().manual_seed(3))
    assert torch.equal(one.weight, other.weight)
    assert one.weight.abs().max().item() <= 4**-0.5 and not one.bias.any()


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_the_scale_is_the_teachers_variance(world) -> None:
    teacher = world.teacher().eval()
    source = LiveTeacher(teacher, "float32")
    student = world.student()
    context = world.context(student, source, ())
    with torch.no_grad():
        rows = torch.cat([teacher(batch.inputs).embedding for batch in context.training_batches()])
    expected = rows.var(dim=0, unbiased=False).mean()
    assert torch.allclose(embedding_variance(context), expected, rtol=1e-4)
    # a teacher that speaks a hundred times as loud is matched no differently
    method = EmbeddingDistillation(EmbeddingConfig(distance="mse"))
    method.setup(context)
    plain = F.mse_loss(torch.zeros_like(rows), rows) / method.scale
    loud = replace(
        context,
        teacher=lambda batch, hidden: Output(None, 100 * source(batch, hidden).embedding),
    )
    method.setup(loud)
    assert torch.allclose(
        F.mse_loss(torch.zeros_like(rows), 100 * rows) / method.scale, plain, rtol=1e-4
    )
    assert method.projector.weight.shape == (teacher.width, student.width)


def test_a_teacher_that_says_nothing_is_named(image_world) -> None:
    source = LiveTeacher(image_world.teacher(), "float32")
    context = image_world.context(image_world.student(), source, ())

    def teaching(value: float):
        silent = lambda batch, hidden: Output(None, torch.full((len(batch.labels), 6), value))  # noqa: E731
        return replace(context, teacher=silent)

    method = EmbeddingDistillation(EmbeddingConfig(distance="mse"))
    for value in (1.5, float("nan")):
        with pytest.raises(BenchError, match=r"variance .* over 64 samples"):
            method.setup(teaching(value))
    EmbeddingDistillation(EmbeddingConfig(distance="mse", relative=False)).setup(teaching(1.5))
    blind = replace(context, teacher=lambda batch, hidden: Output(torch.zeros(8, 4)))
    with pytest.raises(BenchError, match="no embedding"):
        method.setup(blind)


@pytest.mark.parametrize(
    "options", [{"distance": "l1"}, {"w_embedding": -1}, {"temperature": 0}, {"weight": 1}]
)
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(BenchError, match=next(iter(options))):
        build(EmbeddingConfig, options, "method 'embedding'")


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_without_its_term_it_is_the_plain_student_bit_for_bit(world, differing) -> None:
    plain = world.run("scratch")
    off = world.run("embedding", options={"w_embedding": 0.0})
    assert differing(plain.student.state_dict(), off.student.state_dict()) == []


@pytest.mark.parametrize("distance", ["cosine", "mse"])
@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_training_brings_the_embeddings_together(world, distance, differing, snapshot) -> None:
    teacher = world.teacher()
    before = snapshot(teacher)
    options = {"distance": distance, "w_ce": 0.0, "w_embedding": 5.0}
    run = world.run("embedding", options=options, teacher=teacher, epochs=6)
    losses = [entry["losses"]["embedding"] for entry in run.trained.epochs]
    assert losses[-1] < 0.9 * losses[0]
    assert differing(before, teacher.state_dict()) == []
    # what is deployed is the plain student; the projector is counted beside it
    student = world.student()
    assert parameter_count(run.trained.model) == parameter_count(student)
    assert parameter_count(run.method) == (student.width + 1) * teacher.width
    batch = world.validation.batch(np.arange(4))
    assert run.trained.model(batch.inputs).scores.shape == (4, world.num_classes)
