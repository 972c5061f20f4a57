"""GPD through the real loop: the objective, what is exported, clipping, averaging, the record."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from bench.method import Progress
from bench.models.base import parameter_count
from bench.training.evaluate import predict
from bench.types import Batch, Output
from methods.dkd import dkd_loss
from methods.gpd.dynamic import student_weights
from methods.gpd.method import smoothed_cross_entropy

both = pytest.mark.parametrize("world", ["image", "text"], indirect=True)
PROGRESS = Progress("main", 5, 10)


def logits(seed: int, classes: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(6, classes, generator=generator)).requires_grad_()


def terms(
    method: Any, student: torch.Tensor, dynamic: torch.Tensor, teacher: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Return the loss terms for given logits of all three."""
    method._dynamic_output = Output(dynamic)
    batch = Batch({}, torch.arange(6) % student.shape[1], torch.arange(6))
    told = None if teacher is None else Output(teacher)
    return dict(method.loss(batch=batch, student=Output(student), teacher=told, progress=PROGRESS))


def log_softmax(value: np.ndarray) -> np.ndarray:
    shifted = value - value.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


# --- the objective ---


@pytest.mark.parametrize("static", ["kd", "dkd", "none"])
def test_golden_loss_of_every_configuration(new_method, static: str) -> None:
    student, dynamic, teacher = logits(0), logits(1), logits(2).detach()
    method = new_method("gpd", static=static, temperature=2.0, w_static=0.5, alpha=2.0, beta=3.0)
    found = {n: v.detach() for n, v in terms(method, student, dynamic, teacher).items()}
    labels = np.arange(6) % 5
    numbers = [each.detach().double().numpy() for each in (student, dynamic, teacher)]
    ours, theirs, _ = (log_softmax(each) for each in numbers)
    assert float(found["ce"]) == pytest.approx(-ours[np.arange(6), labels].mean(), rel=1e-5)
    assert float(found["dynamic_ce"]) == pytest.approx(
        -theirs[np.arange(6), labels].mean(), rel=1e-5
    )
    target = 0.9 * np.exp(theirs) + 0.1 / 5
    assert float(found["gap"]) == pytest.approx(-3 * (target * ours).sum(axis=1).mean(), rel=1e-5)
    if static == "none":
        assert found.keys() == {"ce", "dynamic_ce", "gap"}
        return
    for name, own in (("static", numbers[0]), ("dynamic_static", numbers[1])):
        if static == "kd":
            small, large = log_softmax(own / 2), log_softmax(numbers[2] / 2)
            expected = 4 * (np.exp(large) * (large - small)).sum(axis=1).mean()
        else:
            options = {"alpha": 2.0, "beta": 3.0, "temperature": 2.0}
            expected = float(
                dkd_loss(torch.tensor(own), teacher.double(), torch.tensor(labels), **options)
            )
        assert float(found[name]) == pytest.approx(0.5 * expected, rel=1e-5)


def test_dkd_warms_up_as_it_does_alone(new_method) -> None:
    student, dynamic, teacher = logits(0), logits(1), logits(2).detach()
    whole, half = (
        terms(new_method("gpd", static="dkd", warmup=share), student, dynamic, teacher)
        for share in (0.5, 1.0)
    )
    assert float(half["static"]) == pytest.approx(0.5 * float(whole["static"]), rel=1e-6)
    assert half["ce"].equal(whole["ce"])


def test_the_student_pulls_nothing_of_the_dynamic_teachers_output(new_method) -> None:
    student, dynamic = logits(0), logits(1)
    found = terms(new_method("gpd_scratch"), student, dynamic, None)
    pulled = torch.autograd.grad(found["gap"], [student, dynamic], allow_unused=True)
    assert pulled[0].any() and pulled[1] is None


def test_without_smoothing_the_pull_is_that_of_kd() -> None:
    student, dynamic = logits(0), logits(1)
    found = smoothed_cross_entropy(student=student, teacher=dynamic, smoothing=0.0)
    (gradient,) = torch.autograd.grad(found, student)
    expected = (student.softmax(1) - dynamic.softmax(1)) / len(student)
    assert torch.allclose(gradient, expected, atol=1e-6)
    even = smoothed_cross_entropy(student=student, teacher=torch.zeros(6, 5), smoothing=0.3)
    assert float(even) == pytest.approx(float(-student.log_softmax(1).mean()), rel=1e-5)


def test_weights_of_zero_leave_their_terms_out(new_method) -> None:
    found = terms(new_method("gpd", w_gap=0, w_static=0), logits(0), logits(1), logits(2))
    assert found.keys() == {"ce", "dynamic_ce"}


# --- through the loop ---


@both
def test_no_static_loss_is_gpd_without_a_teacher(world, differing) -> None:
    options = {"branches": 2}
    one = world.run("gpd_scratch", options=options)
    other = world.run("gpd", options={**options, "static": "none"})
    assert one.teacher is None and other.teacher is not None
    assert differing(one.trained.best_state, other.trained.best_state) == []
    assert differing(one.method.state_dict(), other.method.state_dict()) == []


@both
@pytest.mark.parametrize("static", ["kd", "dkd"])
def test_the_static_teacher_changes_both_networks(world, static: str, differing) -> None:
    alone = world.run("gpd_scratch")
    taught = world.run("gpd", options={"static": static})
    assert len(differing(alone.trained.best_state, taught.trained.best_state)) > 10
    losses = taught.trained.epochs[-1]["losses"]
    assert losses.keys() == {"ce", "dynamic_ce", "gap", "static", "dynamic_static"}


@both
@pytest.mark.parametrize("r", [1, 2, 3])
def test_the_export_is_the_student_in_training_bit_for_bit(
    world, r: int, differing, snapshot
) -> None:
    check_export(world, r, differing, snapshot)


@pytest.mark.parametrize(
    ("name", "r"),
    [
        ("wrn-10-1", 2),
        ("wrn-10-1", 3),
        pytest.param("timm:mobilenetv3_small_050", 2, marks=pytest.mark.slow),
        pytest.param("timm:mobilenetv3_small_050", 3, marks=pytest.mark.slow),
    ],
)
def test_the_export_of_other_families(image_world, name: str, r: int, differing, snapshot) -> None:
    check_export(replace(image_world, student_name=name), r, differing, snapshot)


def check_export(world: Any, r: int, differing: Any, snapshot: Any) -> None:
    started = snapshot(world.student())
    options = {"r": r, "branches": 6 if r == 2 else 2, "step": "raw" if r == 3 else "matched"}
    run = world.run("gpd", options=options)
    student, method = run.trained.model, run.method
    plain = world.student()
    # nothing but the plain student: the same names, shapes, modules and number of parameters
    assert student is run.student and type(student) is type(plain)
    assert [type(module) for module in student.modules()] == [type(m) for m in plain.modules()]
    state, own = student.state_dict(), plain.state_dict()
    assert list(state) == list(own)
    assert all(state[name].shape == own[name].shape for name in own)
    assert all(state[name].stride() == own[name].stride() for name in own)
    assert parameter_count(student) == parameter_count(plain)
    assert len(differing(state, started)) > 10
    # the same parameters as in the dynamic teacher, and the same outputs
    weights = student_weights(method.dynamic, student, method.places)
    assert weights.keys() == dict(student.named_parameters()).keys()
    assert all(state[name].equal(value) for name, value in weights.items())
    inputs = world.validation.batch(np.arange(16)).inputs
    for training in (False, True):
        for precision in (torch.float32, torch.bfloat16):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, precision != torch.float32):
                outputs = []
                for call in (student, partial(functional_call, student, weights)):
                    torch.manual_seed(0)  # dropout
                    student.train(training)
                    outputs.append(call(inputs).scores)
            assert outputs[0].equal(outputs[1])
    # and loaded into a plain student it is what was deployed
    plain.load_state_dict(run.trained.best_state)


def test_the_students_batch_statistics_are_its_own(image_world) -> None:
    run = image_world.run("gpd_scratch")
    name = "network.stages.0.0.conv1_kxk.bn.running_mean"
    mine, theirs = run.student.get_buffer(name), run.method.dynamic.get_buffer(name)
    assert int(run.student.get_buffer(name.replace("running_mean", "num_batches_tracked"))) == 8
    assert mine.any() and not torch.allclose(mine, theirs[: len(mine)], rtol=1e-3, atol=1e-4)


def test_only_the_dynamic_teacher_is_optimised(image_world) -> None:
    from bench.training.stage import build_optimizer

    run = image_world.run("gpd_scratch", options={"ema": 0.5})
    assert not any(parameter.requires_grad for parameter in run.student.parameters())
    optimizer = build_optimizer(image_world.setting().recipe, run.student, run.method)
    found = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert found == {id(p) for p in run.method.dynamic.parameters()}


def test_the_student_learns_and_so_does_the_dynamic_teacher(image_world) -> None:
    run = image_world.run("gpd", epochs=12, learning_rate=0.1)
    first, last = run.trained.epochs[0], run.trained.epochs[-1]
    assert last["losses"]["ce"] < first["losses"]["ce"] - 0.3
    assert last["losses"]["dynamic_ce"] < first["losses"]["dynamic_ce"] - 0.3


@both
def test_companions_are_scored_on_validation_each_epoch_and_select_nothing(world) -> None:
    entries: list[dict[str, Any]] = []
    run = world.run("gpd_scratch", epochs=3, report=entries.append)
    assert len(entries) == 3
    for entry in entries:
        (score,) = entry["companions"].values()
        assert entry["companions"].keys() == {"dynamic teacher"}
        assert score.keys() == entry["validation"].keys()
    # the last epoch's is that of the dynamic teacher as it stands
    setting = world.setting()
    found = predict(run.method.dynamic, setting.validation, batch_size=16, precision="float32")
    expected = setting.score(found, setting.validation.labels.numpy())
    assert entries[-1]["companions"]["dynamic teacher"] == pytest.approx(expected)
    best = max(entries, key=lambda entry: entry["validation"]["accuracy"])
    assert run.trained.best_epoch == best["epoch"]
    assert run.method.dynamic.training and run.student.training
    assert "companions" not in world.run("scratch").trained.epochs[0]


# --- clipping ---


@pytest.mark.parametrize(
    ("own", "recipe", "limit"),
    [(5.0, None, 5.0), (5.0, 1.0, 1.0), (2.0, 5.0, 2.0), (0.0, 5.0, 5.0), (0.0, None, None)],
)
def test_the_smaller_limit_clips(
    new_method, own: float, recipe: float | None, limit: float | None
) -> None:
    assert new_method("gpd", clip=own).clip(recipe) == limit
    assert new_method("kd").clip(recipe) == recipe


@pytest.mark.parametrize("clip", [0.0, 0.25])
def test_gradients_are_clipped_over_all_that_is_trained(
    image_world, clip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = []
    step = torch.optim.SGD.step

    def noting(self: Any, *arguments: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", noting)
    image_world.run("gpd", options={"clip": clip, "branches": 2}, clip=None, epochs=1)
    assert len(norms) == 4
    if clip:
        assert norms == pytest.approx([clip] * 4, rel=1e-4)
    else:
        assert min(norms) > 0.3


# --- the moving average ---


def test_the_average_is_what_is_deployed(image_world, differing) -> None:
    decay = 0.8
    seen: list[dict[str, torch.Tensor]] = []

    def keep(method: Any, student: nn.Module) -> None:
        weights = student_weights(method.dynamic, student, method.places)
        buffers = dict(student.named_buffers())
        seen.append({n: v.detach().clone() for n, v in (weights | buffers).items()})

    from methods.gpd.method import GPDScratch

    class Watched(GPDScratch):
        def after_step(self, student: Any) -> None:
            super().after_step(student)
            keep(self, student)

    from bench.config import build

    method = Watched(build(GPDScratch.Config, {"ema": decay, "branches": 2}, "gpd_scratch"))
    run = image_world.run(method)
    average = image_world.student().state_dict()
    for step, state in enumerate(seen, start=1):
        kept = min(decay, (1 + step) / (10 + step))
        for name, value in average.items():
            average[name] = (
                kept * value + (1 - kept) * state[name]
                if value.is_floating_point()
                else state[name]
            )
    deployed = run.trained.model.state_dict()
    assert list(deployed) == list(image_world.student().state_dict())
    for name, value in average.items():
        assert torch.allclose(deployed[name], value, rtol=1e-4, atol=1e-6), name
    assert run.trained.model is not run.student
    assert differing(deployed, seen[-1])
    # training itself does not see the average
    plain = image_world.run("gpd_scratch", options={"branches": 2})
    dynamic = plain.method.dynamic.state_dict()
    assert differing(dynamic, run.method.dynamic.state_dict()) == []
    assert plain.method.average is None


# --- bfloat16, memory, cost ---


def test_nothing_of_a_step_is_kept(image_world) -> None:
    run = image_world.run("gpd", precision="bfloat16")
    assert run.method._dynamic_output is None


def test_the_cost_of_training_is_counted_and_deployment_costs_nothing(image_world) -> None:
    from bench.measure.flops import count_flops

    batch = image_world.train.batch(np.arange(16))

    def pass_through(name: str, **options: Any) -> int:
        run = image_world.run(name, options=options, epochs=1)
        return count_flops(lambda: run.method.student_output(run.student, batch, ()).scores)

    plain = pass_through("scratch")
    assert pass_through("gpd_scratch", r=1, branches=1) == 2 * plain
    wide = pass_through("gpd_scratch", r=2, branches=1)
    assert 4 * plain < wide < 5 * plain  # 1 + r², less the first and last layers' other axis
    assert pass_through("gpd_scratch", r=2, branches=6) > wide  # merging kernels costs too
    deployed = image_world.run("gpd", epochs=1).trained.model
    assert count_flops(lambda: deployed(batch.inputs)) == plain
    assert count_flops(lambda: F.relu(batch.inputs["image"])) == 0


@pytest.mark.parametrize("step", ["matched", "raw"])
def test_options_shape_the_dynamic_teacher(image_world, new_method, step: str) -> None:
    """Without the noise its copies would stay equal for ever."""
    from methods.gpd.dynamic import _stored

    student = image_world.student()
    name = "network.stages.1.0.conv1_kxk.conv.weight"
    own = student.get_parameter(name).detach().clone()
    for noise in (0.0, 0.1):
        method = new_method("gpd_scratch", branches=1, step=step, noise=noise)
        method.setup(image_world.context(image_world.student(), None, ()))
        stored = _stored(method.dynamic, name)[0].detach() * (2 if step == "raw" else 1)
        block = stored[: len(own), : own.shape[1]]
        assert torch.allclose(block, own) and stored.shape[:2] == (2 * len(own), 2 * own.shape[1])
        apart = float((stored - own.repeat(2, 2, 1, 1)).std() / own.std())
        assert apart == pytest.approx(noise * 0.75**0.5, rel=0.1)
    assert new_method("gpd").config.noise > 0
