"""CRD (Tian et al. 2020): the objective against plain loops, its negatives and its banks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench import BenchError
from bench.config import build
from bench.method import Progress
from bench.models.base import parameter_count
from bench.teachers.signals import LiveTeacher
from bench.types import Batch, Output
from methods.crd import (
    CRD,
    CRDConfig,
    choose_negatives,
    draw_pool,
    initial_bank,
    largest_class,
    log_normaliser,
    moved,
    nce_loss,
    training_labels,
)


def draw(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def ready(world, **options: object) -> CRD:
    source = LiveTeacher(world.teacher(), "float32")
    method = CRD(CRDConfig(**options))
    method.setup(world.context(world.student(), source, ()))
    return method


def terms(method: CRD, batch: Batch, *, step: int = 0, seed: int = 0) -> dict[str, Tensor]:
    rows, teacher_width = len(batch.labels), method.teacher_head.in_features
    student = draw(rows, method.student_head.in_features, seed=seed).float()
    return dict(
        method.loss(
            batch=batch,
            student=Output(draw(rows, 4, seed=seed + 1).float(), student),
            teacher=Output(None, draw(rows, teacher_width, seed=seed + 2).float()),
            progress=Progress("main", step, 10),
        )
    )


# --- the loss ---


def by_loops(
    anchors: np.ndarray,
    bank: np.ndarray,
    index: list[int],
    negatives: list[list[int]],
    temperature: float,
) -> float:
    """Compute one direction as published: exp scores over Z, then eq. 18, term by term."""
    rows = len(bank)
    scores = [
        [float(np.exp(anchor @ bank[k] / temperature)) for k in [own, *others]]
        for anchor, own, others in zip(anchors, index, negatives, strict=True)
    ]
    every = [score for row in scores for score in row]
    normaliser = sum(every) / len(every) * rows
    total = 0.0
    for row in scores:
        noise = (len(row) - 1) / rows
        positive, *rest = (score / normaliser for score in row)
        total -= np.log(positive / (positive + noise))
        total -= sum(np.log(noise / (score + noise)) for score in rest)
    return total / len(scores)


@pytest.mark.parametrize("count", [3, 100])
def test_the_loss_is_the_published_one(image_world, count: int) -> None:
    method = ready(image_world, negatives=count, w_crd=0.5).double()
    batch = image_world.train.batch(np.array([3, 10, 40, 41, 7]))
    ours, theirs = (F.normalize(draw(5, 128, seed=seed), dim=1) for seed in (1, 2))
    found = method._contrast(batch, ours, theirs, 0)
    # the negatives that were used, by the seed they are a function of
    from bench.training.streams import stream_seed

    pool = draw_pool(64, count + method.largest, stream_seed(method.seed, "negatives", 0))
    chosen = choose_negatives(method.labels[pool], batch.labels, count)
    negatives = [pool[row].tolist() for row in chosen]
    for own, others in zip(batch.labels.tolist(), negatives, strict=True):
        labels = method.labels[others]
        assert len(set(others)) == len(others) == min(count, int((method.labels != own).sum()))
        assert (labels != own).all()
    index = batch.index.tolist()
    banks = method.teacher_bank.numpy(), method.student_bank.numpy()
    expected = sum(
        by_loops(anchors.numpy(), bank, index, negatives, 0.07)
        for anchors, bank in zip((ours, theirs), banks, strict=True)
    )
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_the_gradient_is_the_slope() -> None:
    positive, negative = draw(3).requires_grad_(), draw(3, 6, seed=1).requires_grad_()
    chosen = draw(3, 6, seed=2) > -0.5
    assert torch.autograd.gradcheck(lambda p, n: nce_loss(p, n, chosen, 9), (positive, negative))
    nce_loss(positive, negative, chosen, 9).backward()
    assert positive.grad is not None and (positive.grad < 0).all()
    assert negative.grad is not None
    assert (negative.grad[chosen] > 0).all() and (negative.grad[~chosen] == 0).all()


def test_extreme_scores_stay_finite() -> None:
    positive, negative = torch.tensor([-300.0, 300.0]), torch.tensor([[300.0], [-300.0]])
    chosen = torch.ones(2, 1, dtype=torch.bool)
    # the first is wrong by 300 in both terms, the second right in both
    assert float(nce_loss(positive, negative, chosen, 1)) == pytest.approx(300.0)


def test_the_normaliser_makes_the_mean_score_one_in_n() -> None:
    positive, negative, chosen = draw(4), draw(4, 7, seed=1), draw(4, 7, seed=2) > 0
    log_z = log_normaliser(positive, negative, chosen, 50)
    scores = torch.cat([positive, negative[chosen]])
    assert float((scores - log_z).exp().mean()) == pytest.approx(1 / 50)


def test_the_normaliser_is_kept_after_the_first_step(image_world) -> None:
    method = ready(image_world)
    batch = image_world.train.batch(np.arange(16))
    assert method.log_z.isnan().all()
    terms(method, batch)
    first = method.log_z.clone()
    assert first.isfinite().all()
    terms(method, batch, step=1, seed=5)
    assert torch.equal(method.log_z, first)


# --- negatives ---


def test_negatives_are_drawn_uniformly_and_without_replacement() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2] * 3)
    times = torch.zeros(12)
    draws = 3000
    for seed in range(draws):
        pool = draw_pool(12, 2 + largest_class(labels), seed)
        assert len(pool.unique()) == len(pool) == 8
        chosen = choose_negatives(labels[pool], torch.tensor([0, 2]), 2)
        assert chosen.sum(dim=1).tolist() == [2, 2]
        times[pool[chosen[0]]] += 1
    assert (times[:6] == 0).all()
    expected = draws * 2 / 6
    assert ((times[6:] - expected).abs() < 5 * expected**0.5).all()


def test_all_others_where_there_are_fewer_than_asked_for() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2] * 3)
    pool = draw_pool(12, 16384 + 6, 0)
    chosen = choose_negatives(labels[pool], torch.tensor([0, 1]), 16384)
    assert torch.equal(chosen, labels[None, pool] != torch.tensor([[0], [1]]))


def test_another_step_draws_other_negatives(image_world) -> None:
    method = ready(image_world, negatives=2, momentum=0.0)
    batch = image_world.train.batch(np.arange(8))
    start = method.student_bank.clone(), method.teacher_bank.clone()
    method.log_z.zero_()

    def at(step: int) -> float:
        method.student_bank.copy_(start[0])
        method.teacher_bank.copy_(start[1])
        return float(terms(method, batch, step=step)["crd"].detach())

    assert at(0) == at(0) != at(1)


# --- banks ---


def test_the_banks_move_by_momentum_and_only_where_the_batch_is(image_world) -> None:
    method = ready(image_world, momentum=0.25)
    batch = image_world.train.batch(np.array([5, 9, 60]))
    before = method.student_bank.clone()
    terms(method, batch)
    ours = F.normalize(method.student_head(draw(3, method.student_head.in_features).float()))
    expected = F.normalize(0.25 * before[batch.index] + 0.75 * ours)
    assert torch.allclose(method.student_bank[batch.index], expected, atol=1e-6)
    others = torch.ones(64, dtype=torch.bool)
    others[batch.index] = False
    assert torch.equal(method.student_bank[others], before[others])
    assert not method.student_bank.requires_grad
    assert torch.allclose(moved(before[:2], -before[:2], 0.49).norm(dim=1), torch.ones(2))


def test_initial_entries_are_of_unit_length_on_average() -> None:
    bank = initial_bank(2000, 128, torch.Generator().manual_seed(0))
    assert float(bank.square().sum(dim=1).mean()) == pytest.approx(1.0, abs=0.01)
    assert float(bank.abs().max()) <= (3 / 128) ** 0.5


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_labels_are_kept_by_index_whatever_order_they_come_in(world) -> None:
    context = world.context(world.student(), None, ())
    assert torch.equal(training_labels(context), world.train.labels)


def test_one_class_alone_and_no_sample_are_named(image_world) -> None:
    source = LiveTeacher(image_world.teacher(), "float32")
    context = image_world.context(image_world.student(), source, ())
    batch = image_world.train.batch(np.arange(8))
    same = replace(batch, labels=torch.full((8,), 3))
    with pytest.raises(BenchError, match="all 8 training samples are of class 3"):
        CRD(CRDConfig()).setup(replace(context, training_batches=lambda: [same]))
    with pytest.raises(BenchError, match="training samples"):
        CRD(CRDConfig()).setup(replace(context, training_batches=lambda: []))


# --- in the loop ---


def test_defaults_are_the_published_ones() -> None:
    config = CRDConfig()
    assert (config.negatives, config.nce_temperature, config.momentum) == (16384, 0.07, 0.5)
    assert (config.dimensions, config.w_ce, config.w_crd, config.w_kd) == (128, 1.0, 0.8, 0.0)


@pytest.mark.parametrize(
    "options", [{"negatives": 0}, {"momentum": 1}, {"nce_temperature": 0}, {"nce_k": 4}]
)
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(BenchError, match=next(iter(options))):
        build(CRDConfig, options, "method 'crd'")


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_without_its_term_it_is_the_plain_student_bit_for_bit(world, differing) -> None:
    plain = world.run("scratch")
    off = world.run("crd", options={"w_crd": 0.0})
    assert differing(plain.student.state_dict(), off.student.state_dict()) == []


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_training_tells_samples_apart(world, differing, snapshot) -> None:
    teacher = world.teacher()
    before = snapshot(teacher)
    options = {"negatives": 20, "w_ce": 0.0}
    run = world.run("crd", options=options, teacher=teacher, epochs=8, learning_rate=0.2)
    losses = [entry["losses"]["crd"] for entry in run.trained.epochs]
    assert losses[-1] < 0.95 * losses[0]
    assert differing(before, teacher.state_dict()) == []
    student = world.student()
    assert parameter_count(run.trained.model) == parameter_count(student)
    heads = (student.width + 1) * 128 + (teacher.width + 1) * 128
    assert parameter_count(run.method) == heads
    again = world.run("crd", options=options, teacher=teacher, epochs=8, learning_rate=0.2)
    assert differing(run.student.state_dict(), again.student.state_dict()) == []
