"""LELP's exact identities (Loo et al. 2024), on random tensors and on a trained teacher."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench import METHODS, Method
from bench.config import Config, build
from bench.errors import BenchError, NotApplicable
from bench.losses import soft_kl
from bench.method import Progress
from bench.models.subclasses import class_logits
from bench.supervised import Supervised
from bench.teachers.signals import LiveTeacher
from bench.types import Output
from methods import subspaces
from methods.lelp import (
    LELPConfig,
    places_in_class,
    split_classes,
    subclass_kl,
    subclass_targets,
    true_split,
)
from methods.subspaces import (
    Subspaces,
    class_directions,
    fit_subspaces,
    null_space_projector,
    project,
    random_rotations,
)


def data(classes: int = 3, width: int = 12, rows: int = 90, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    values = torch.randn(rows, width, generator=generator, dtype=torch.float64) @ mixing
    labels = torch.arange(rows) % classes
    head = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    return values + labels[:, None], labels, head


def fitted(
    config: LELPConfig, *, classes: int = 3, seed: int = 1
) -> tuple[Subspaces, torch.Tensor]:
    values, labels, head = data(classes)
    projector = null_space_projector(head)
    spaces = fit_subspaces(
        lambda: [(values[:50] @ projector, labels[:50]), (values[50:] @ projector, labels[50:])],
        num_classes=classes,
        width=12,
        rank=12 - classes,
        config=config,
        generator=torch.Generator().manual_seed(seed),
    )
    return spaces, projector


@pytest.mark.parametrize("rotation", [False, True])
@pytest.mark.parametrize("projection", ["pca", "random"])
def test_directions_are_orthonormal_and_off_the_head(rotation: bool, projection: str) -> None:
    config = LELPConfig(subclasses=3, rotation=rotation, projection=projection)  # type: ignore[arg-type]
    spaces, _ = fitted(config)
    _, _, head = data()
    gram = spaces.directions @ spaces.directions.transpose(1, 2)
    assert torch.allclose(gram, torch.eye(3, dtype=torch.float64).expand(3, 3, 3), atol=1e-9)
    assert (spaces.directions @ head.T).abs().max() < 1e-9


def test_pca_agrees_with_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    values, labels, _ = data()
    spaces, projector = fitted(LELPConfig(subclasses=3, rotation=False))
    for label in range(3):
        own = (values[labels == label] @ projector).numpy()
        reference = PCA(n_components=3).fit(own)
        cosine = np.abs((spaces.directions[label].numpy() * reference.components_).sum(axis=1))
        assert np.allclose(cosine, 1.0, atol=1e-8)
        biased = reference.explained_variance_ * (len(own) - 1) / len(own)
        assert float(spaces.scale[label]) ** 2 == pytest.approx(biased.mean())
        assert np.allclose(spaces.mean[label].numpy(), reference.mean_)


def test_rotation_keeps_the_total_variance_and_evens_it_out() -> None:
    values = torch.diag(torch.tensor([9.0, 4.0, 1.0, 0.5], dtype=torch.float64))[None]
    plain, variance = class_directions(values, LELPConfig(subclasses=3, rotation=False), _seeded())
    turned, same = class_directions(values, LELPConfig(subclasses=3), _seeded())
    spread = torch.einsum("ksd,kde,kse->ks", turned, values, turned)
    assert torch.allclose(spread.sum(), torch.tensor(14.0, dtype=torch.float64))
    assert torch.allclose(variance, same)
    assert float(variance) == pytest.approx(14 / 3)
    means = []
    for seed in range(400):
        each, _ = class_directions(values, LELPConfig(subclasses=3), _seeded(seed))
        means.append(torch.einsum("ksd,kde,kse->ks", each, values, each)[0])
    assert torch.allclose(
        torch.stack(means).mean(dim=0), torch.full((3,), 14 / 3, dtype=torch.float64), atol=0.4
    )
    assert plain.shape == turned.shape == (1, 3, 4)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rotations_are_orthonormal_and_of_both_signs() -> None:
    turned = random_rotations(50, 4, _seeded())
    assert torch.allclose(
        turned @ turned.transpose(1, 2), torch.eye(4, dtype=torch.float64).expand(50, 4, 4)
    )
    assert {round(float(value)) for value in torch.linalg.det(turned)} == {-1, 1}


def test_targets_split_the_class_probability() -> None:
    logits, z = torch.randn(8, 3), torch.randn(8, 3, 4)
    targets = subclass_targets(logits=logits, projections=z, beta=0.7, temperature=2.0)
    assert torch.allclose(targets.sum(dim=2), F.softmax(logits / 2, dim=1))
    even = subclass_targets(logits=logits, projections=z, beta=1e9, temperature=2.0)
    assert torch.allclose(even, (F.softmax(logits / 2, dim=1) / 4)[:, :, None].expand(8, 3, 4))


def test_one_subclass_is_kd_in_loss_and_gradient() -> None:
    logits = torch.randn(6, 5)
    ours = torch.randn(6, 5, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_(True)
    targets = subclass_targets(
        logits=logits, projections=torch.randn(6, 5, 1), beta=1.0, temperature=3.0
    )
    left = subclass_kl(student=ours, targets=targets, temperature=3.0)
    right = soft_kl(student=theirs, teacher=logits, temperature=3.0)
    left.backward()
    right.backward()
    assert torch.allclose(left, right, atol=1e-6)
    assert ours.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


def test_cross_entropy_is_the_class_term_plus_the_weighted_split_terms() -> None:
    logits, z = torch.randn(8, 3).double(), torch.randn(8, 3, 4).double()
    student = torch.randn(8, 12).double()
    targets = subclass_targets(logits=logits, projections=z, beta=1.0, temperature=1.0)
    log_student = F.log_softmax(student, dim=1)
    whole = -(targets.flatten(1) * log_student).sum(dim=1)
    classes = F.softmax(logits, dim=1)
    class_term = -(classes * F.log_softmax(class_logits(student, 3), dim=1)).sum(dim=1)
    within = F.log_softmax(student.view(8, 3, 4), dim=2)
    split = -(F.softmax(z, dim=2) * within).sum(dim=2)
    assert torch.allclose(whole, class_term + (classes * split).sum(dim=1))


def test_what_the_head_reads_changes_nothing() -> None:
    spaces, projector = fitted(LELPConfig(subclasses=3))
    values, _, head = data()
    shifted = values + torch.randn(len(values), 3, dtype=torch.float64) @ head
    before = project(values @ projector, spaces)
    assert torch.allclose(before, project(shifted @ projector, spaces), atol=1e-8)


def test_projections_are_centred_and_of_unit_variance_on_average() -> None:
    spaces, projector = fitted(LELPConfig(subclasses=3))
    values, labels, _ = data()
    z = project(values @ projector, spaces)
    for label in range(3):
        own = z[labels == label, label]
        assert own.mean(dim=0).abs().max() < 1e-9
        assert float(own.var(dim=0, unbiased=False).mean()) == pytest.approx(1.0)


def test_classes_in_several_passes_are_the_same(monkeypatch) -> None:
    whole, _ = fitted(LELPConfig(subclasses=2, rotation=False))
    monkeypatch.setattr(subspaces, "MEMORY_BYTES", 1)  # one class a pass
    each, _ = fitted(LELPConfig(subclasses=2, rotation=False))
    assert torch.allclose(whole.directions, each.directions)
    assert torch.allclose(whole.scale, each.scale)


def test_clear_errors() -> None:
    with pytest.raises(BenchError, match=r"10 subclasses.*leave 9 dimensions"):
        fitted(LELPConfig(subclasses=10))
    with pytest.raises(NotApplicable, match="12 classes read all 12 dimensions"):
        fitted(LELPConfig(), classes=12)
    values, labels, _ = data()
    odd = labels.clone()
    odd[odd == 2] = 0
    odd[0] = 2

    def fit(rows: torch.Tensor, classes: torch.Tensor) -> Subspaces:
        return fit_subspaces(
            lambda: [(rows, classes)],
            num_classes=3,
            width=12,
            rank=12,
            config=LELPConfig(subclasses=2),
            generator=_seeded(),
        )

    with pytest.raises(BenchError, match=r"class 2 has 1 training samples.*subclasses ≤ 0"):
        fit(values, odd)
    broken = values.clone()
    broken[1] = float("nan")
    with pytest.raises(BenchError, match="class 1 is not finite"):
        fit(broken, labels)
    with pytest.raises(BenchError, match="subclass"):
        build(LELPConfig, {"subclases": 2}, "method 'lelp'")
    with pytest.raises(BenchError, match="greater than or equal to 1"):
        build(LELPConfig, {"subclasses": 0}, "method 'lelp'")


@pytest.mark.parametrize("world", ["image_world", "text_world"])
def test_training_on_a_trained_teacher(world: str, request: pytest.FixtureRequest) -> None:
    """Through the real loop: class scores come out, extra outputs are counted, nothing leaks."""
    from bench.models.base import parameter_count

    here = request.getfixturevalue(world)
    teacher = here.teacher()
    here.run(Supervised(Config()), student=teacher, epochs=3)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    run = here.run(
        "lelp",
        options={"subclasses": 2},
        source=LiveTeacher(teacher, "float32"),
    )
    deployed = run.trained.model
    batch = here.validation.batch(np.arange(4))
    deployed.eval()
    with torch.no_grad():
        logits = deployed(batch.inputs).scores
        inner = run.student(batch.inputs).scores
    assert logits.shape == (4, here.num_classes)
    assert inner.shape == (4, 2 * here.num_classes)
    assert torch.allclose(logits, class_logits(inner, here.num_classes), atol=1e-5)
    extra = parameter_count(deployed) - parameter_count(here.student())
    assert extra == here.num_classes * (here.student().width + 1)
    assert parameter_count(run.method) == 0
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])


def test_one_subclass_trains_the_same_student_as_kd(image_world) -> None:
    teacher = image_world.teacher()
    ours = image_world.run(
        "lelp", options={"subclasses": 1, "temperature": 4.0}, teacher=teacher
    ).student
    theirs = image_world.run(
        "kd", options={"w_ce": 0.0, "w_kd": 1.0, "temperature": 4.0}, teacher=teacher
    ).student
    for name, value in ours.state_dict().items():
        assert torch.allclose(value, theirs.state_dict()[name], atol=1e-4), name


def test_oracle_puts_a_sample_in_its_true_subclass_and_splits_other_classes_evenly() -> None:
    fine = torch.tensor([7, 2, 4, 2, 9, 7])  # 2 and 4 are of class 0; 7 and 9 and 5 of class 1
    labels = torch.tensor([1, 0, 0, 0, 1, 1])
    places, sizes = places_in_class(fine, labels, 2)
    assert places.tolist() == [0, 0, 1, 0, 1, 0]
    assert sizes.tolist() == [2, 2]
    elsewhere = torch.tensor([[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    split = true_split(torch.tensor([1, 2]), torch.tensor([0, 1]), elsewhere)
    assert split[0].tolist() == [[0, 1, 0], elsewhere[1].tolist()]
    assert split[1].tolist() == [elsewhere[0].tolist(), [0, 0, 1]]
    logits = torch.randn(2, 2)
    targets = split_classes(logits=logits, split=split, temperature=2.0)
    assert torch.allclose(targets.sum(dim=2), F.softmax(logits / 2, dim=1))
    loss = subclass_kl(student=torch.randn(2, 6), targets=targets, temperature=1.0)
    assert torch.isfinite(loss)  # empty places of a smaller class count as 0·log 0 = 0


def test_finer_labels_lie_within_a_class() -> None:
    with pytest.raises(BenchError, match=r"finer label 3 occurs in classes \[0, 1\]"):
        places_in_class(torch.tensor([3, 3, 1]), torch.tensor([0, 1, 1]), 2)


def test_oracle_without_finer_labels_is_not_applicable(image_world) -> None:
    with pytest.raises(NotApplicable, match="needs a task with finer true labels"):
        image_world.run("lelp", options={"split": "oracle"})


def test_oracle_trains_on_the_finer_labels_and_only_there(image_world, monkeypatch) -> None:
    """Digits 0 to 3 by parity: the head has two outputs a class, and those follow the digit."""
    fine = image_world.train.labels.clone()
    world = dataclasses.replace(image_world, num_classes=2)
    monkeypatch.setattr(world.train, "labels", fine % 2)
    monkeypatch.setattr(world.validation, "labels", world.validation.labels % 2)
    asked = carry_finer_labels(monkeypatch, type(world), fine)
    run = world.run("lelp", options={"split": "oracle"}, epochs=30, learning_rate=0.1)
    assert asked == ["asked"]
    assert run.student.head.out_features == 4
    run.student.eval()
    with torch.no_grad():
        scores = run.student(world.train.batch(np.arange(64)).inputs).scores
    own = scores.view(64, 2, 2)[torch.arange(64), fine % 2].argmax(dim=1)
    assert float((own == fine // 2).float().mean()) > 0.85


def carry_finer_labels(monkeypatch, cls, fine):
    """Let the world's context carry the finer labels."""
    asked: list[str] = []
    original = cls.context

    def context(self, *arguments):
        asked.append("asked")
        return dataclasses.replace(original(self, *arguments), subclasses=fine)

    monkeypatch.setattr(cls, "context", context)
    return asked


@pytest.mark.parametrize(("options", "oracle"), [({}, False), ({"split": "oracle"}, True)])
def test_an_oracle_says_so(options: dict[str, str], oracle: bool) -> None:
    assert make("lelp", **options).oracle is oracle
    assert not make("kd").oracle


def make(name: str, **options: str) -> Method:
    cls = METHODS.get(name)
    return cls(build(cls.Config, options, name))


# --- the method itself, through ``setup`` and ``loss`` ---


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subclasses": "3", "beta": "0.3", "temperature": "2", "w_ce": "0.5"},
        *({name: "false"} for name in ("null_space", "rotation", "centre", "normalise")),
        {"projection": "random"},
    ],
    ids=str,
)
def test_golden_loss_of_every_configuration(image_world, options: dict[str, str]) -> None:
    teacher = image_world.teacher().eval()
    source = LiveTeacher(teacher, "float32")
    method = make("lelp", **options)
    context = image_world.context(image_world.student(), source, ())
    method.setup(context)
    config, head = method.config, teacher.head.weight.detach().double()
    batches = list(context.training_batches())
    labels = torch.cat([batch.labels for batch in batches])
    rows = torch.cat([source(batch, ()).embedding for batch in batches]).double()
    if config.null_space:
        rows = rows @ null_space_projector(head)
    v = method.directions.double()
    off = float((v @ head.T).abs().max())
    assert (off < 1e-5) == config.null_space
    z = torch.empty(len(rows), 4, config.subclasses, dtype=torch.float64)
    for label in range(4):
        own = rows[labels == label]
        covariance = torch.cov(own.T, correction=0)
        along = v[label] @ covariance @ v[label].T
        variance = along.diagonal().mean()
        turned = float((along - along.diagonal().diag()).abs().max() / variance) > 1e-3
        assert turned == (config.rotation or config.projection == "random")
        largest = torch.linalg.eigvalsh(covariance)[-config.subclasses :].mean()
        assert (abs(variance / largest - 1) < 1e-3) == (config.projection == "pca")
        centre = own.mean(dim=0) if config.centre else 0.0
        scale = variance.sqrt() if config.normalise else 1.0
        z[:, label] = (rows - centre) @ v[label].T / scale
    first, tau = batches[0], config.temperature
    guide, count = source(first, ()), len(first.labels)
    student = torch.randn(count, 4 * config.subclasses, generator=_seeded()).double()
    found = method.loss(
        batch=first, student=Output(student), teacher=guide, progress=Progress("main", 0, 1)
    )
    targets = F.softmax(guide.scores.double() / tau, 1)[:, :, None] * F.softmax(
        z[:count] / config.beta, 2
    )
    apart = targets.flatten(1) * (targets.flatten(1).log() - F.log_softmax(student / tau, 1))
    assert float(found["kl"]) == pytest.approx(tau**2 * float(apart.sum(1).mean()), rel=1e-3)
    if config.w_ce:
        expected = F.cross_entropy(class_logits(student, 4), first.labels)
        assert float(found["ce"]) == pytest.approx(config.w_ce * float(expected), rel=1e-5)
    else:
        assert set(found) == {"kl"}
