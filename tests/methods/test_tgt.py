"""TGT: the exact properties of Zaheer et al. 2022's objective, and its way through the loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import BenchError
from bench.config import build
from bench.errors import NotApplicable
from bench.generators.base import Code
from bench.method import Generation, Progress
from bench.source_code import code_hash
from bench.teachers.signals import LiveTeacher
from bench.training.generation import Generated
from bench.training.loop import train
from bench.types import Batch, Output
from methods.kd import KD
from methods.tgt import TGT, TGTConfig, entropy
from methods.tgt.perturb import at_random, divergence, up_the_divergence

PROGRESS = Progress("main", 0, 10)


class Linear(nn.Module):
    """An invertible image generator: the code is the image turned by a fixed matrix."""

    name, fingerprint, differentiable = "linear", "0" * 64, True

    def __init__(self, split: Any, *, identity: bool = False) -> None:
        super().__init__()
        torch.manual_seed(11)
        turn = torch.eye(3) if identity else torch.linalg.qr(torch.randn(3, 3))[0]
        self.register_buffer("turn", turn)
        images = torch.cat([split.batch(i).inputs["image"] for i in split.evaluation_order(32)])
        self.register_buffer("scale", self.encode({"image": images}).values.std(dim=0))

    def encode(self, inputs: Any) -> Code:
        return Code(torch.einsum("ij,njhw->nihw", self.turn, inputs["image"]))

    def decode(self, code: Code) -> dict[str, Tensor]:
        return {"image": torch.einsum("ji,njhw->nihw", self.turn, code.values)}


class Words(nn.Module):
    """A text generator that cannot be differentiated."""

    name, fingerprint, differentiable = "words", "1" * 64, False
    scale = torch.ones(1)


def tgt(**options: Any) -> TGT:
    return TGT(build(TGTConfig, options, "method 'tgt'"))


def run(
    world: Any,
    method: Any,
    generator: Any = None,
    watch: Any = lambda student: None,
    **changes: Any,
) -> Any:
    """Train a student through the real loop; returns (student, trained, teacher, setting)."""
    from dataclasses import replace

    setting = world.setting(**changes)
    student, teacher = world.student(setting.seed), world.teacher()
    source = LiveTeacher(teacher, setting.recipe.precision)
    method.setup(replace(world.context(student, source, setting.pairs), generator_model=generator))
    if method.generates:
        made = Generated(
            train=setting.train,
            source=source,
            seed=setting.seed,
            precision=setting.recipe.precision,
            generator=generator,
        )
        setting = replace(setting, generated=made)
    watch(student)
    trained = train(student=student, method=method, teacher=source, setting=setting)
    return student, trained, teacher, setting


def context(generator: Any, teacher: Any, student: Any = None, seed: int = 0) -> Generation:
    return Generation(
        generator=generator,
        teacher=LiveTeacher(teacher, "float32").respond,
        student=student,
        another_view=lambda index: None,
        random=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("world", ["image", "text"], indirect=True)
def test_without_the_generated_term_it_is_kd_bit_for_bit(world, differing) -> None:
    kd, kept, _, _ = run(world, KD(KD.Config()))
    student, trained, _, setting = run(world, tgt(w_gen=0.0))
    assert setting.generated is None
    assert differing(kd.state_dict(), student.state_dict()) == []
    pairs = zip(kept.epochs, trained.epochs, strict=True)
    assert all(one["losses"] == other["losses"] for one, other in pairs)
    assert "notes" not in trained.epochs[0]
    assert "generate" not in setting.phases.seconds


def test_generating_moves_no_stream_of_the_real_half(image_world) -> None:
    """The first step's loss on real inputs is KD's: same batch, same view, same weights."""
    _, kept, _, _ = run(image_world, KD(KD.Config()), epochs=1, batch_size=64)
    generator = Linear(image_world.train)
    _, trained, _, _ = run(image_world, tgt(), generator, epochs=1, batch_size=64)
    for name in ("ce", "kd"):
        assert trained.epochs[0]["losses"][name] == kept.epochs[0]["losses"][name]
    assert trained.epochs[0]["losses"]["gen"] > 0


def test_with_an_identity_generator_the_generated_term_is_the_kd_term(image_world) -> None:
    generator = Linear(image_world.train, identity=True)
    method = tgt(sigma=0.0, w_kd=0.7, w_gen=0.7)
    _, trained, _, _ = run(image_world, method, generator)
    for entry in trained.epochs:
        assert entry["losses"]["gen"] == entry["losses"]["kd"] > 0
        assert entry["notes"]["entropy_real"] == entry["notes"]["entropy_generated"]


@pytest.mark.parametrize(
    "options",
    [
        {"sigma": 0.0},
        {"source": "reconstruction", "sigma": 0.5},
        {"mode": "gradient", "steps": 0},
    ],
)
def test_no_perturbation_is_the_reconstruction(image_world, options: dict[str, Any]) -> None:
    generator, batch = Linear(image_world.train), image_world.train.batch(np.arange(8))
    student = image_world.student().eval()
    made = tgt(**options).generate(
        batch=batch,
        context=context(generator, image_world.teacher(), lambda given: student(given).float()),
        progress=PROGRESS,
    )
    assert made["image"].equal(generator.decode(generator.encode(batch.inputs))["image"])


def test_the_spread_of_a_random_perturbation_is_sigma() -> None:
    values, scale = torch.randn(400, 3, 5, 5), torch.rand(3, 5, 5) + 0.5
    for sigma in (0.1, 1.0):
        random = torch.Generator().manual_seed(3)
        moved = at_random(values, scale=scale, sigma=sigma, random=random) - values
        assert float((moved / scale).std()) == pytest.approx(sigma, rel=0.02)
        assert float((moved / scale).mean()) == pytest.approx(0.0, abs=0.03 * sigma)
        # dimension by dimension, not overall
        assert (moved.std(dim=0) / scale).sub(sigma).abs().max() < 0.2 * sigma


def test_a_small_gradient_step_does_not_decrease_the_divergence(image_world) -> None:
    generator, student = Linear(image_world.train), image_world.student().eval()
    teacher = image_world.teacher().eval()
    for model in (student, teacher):
        nn.init.normal_(model.head.weight, std=0.5)
    batch = image_world.train.batch(np.arange(32))

    def apart(inputs: Any) -> Tensor:
        return divergence(
            student=student(inputs).scores, teacher=teacher(inputs).scores, temperature=4.0
        )

    code = generator.encode(batch.inputs)
    moved = up_the_divergence(
        code.values,
        scale=generator.scale,
        divergence=lambda values: apart(generator.decode(code.with_values(values))),
        steps=1,
        step_size=1e-3,
        radius=1.0,
    )
    with torch.no_grad():
        before, after = apart(batch.inputs), apart(generator.decode(code.with_values(moved)))
    assert (after >= before).all()
    assert (after > before).any()


@pytest.mark.parametrize(("steps", "expected"), [(1, 0.2), (3, 0.5)])
def test_ascent_steps_have_their_length_and_stay_within_the_radius(
    steps: int, expected: float
) -> None:
    values, scale = torch.randn(6, 40), torch.rand(40) + 0.1
    moved = up_the_divergence(
        values,
        scale=scale,
        divergence=lambda z: (z / scale).sum(dim=1),  # the same direction at every step
        steps=steps,
        step_size=0.2,
        radius=0.5,
    )
    length = ((moved - values) / scale).square().mean(dim=1).sqrt()
    torch.testing.assert_close(length, torch.full((6,), expected), rtol=1e-5, atol=1e-6)


def test_a_flat_divergence_moves_nothing() -> None:
    values = torch.randn(4, 7)
    moved = up_the_divergence(
        values,
        scale=torch.ones(7),
        divergence=lambda z: 0.0 * z.sum(dim=1),
        steps=3,
        step_size=0.5,
        radius=1.0,
    )
    assert moved.equal(values)


def test_divergence_is_the_loss_but_lets_both_sides_learn() -> None:
    from bench.losses import soft_kl

    student, teacher = (torch.randn(5, 4, requires_grad=True) for _ in range(2))
    found = divergence(student=student, teacher=teacher, temperature=3.0)
    expected = soft_kl(student=student, teacher=teacher, temperature=3.0)
    assert found.mean().item() == pytest.approx(expected.item(), rel=1e-5)
    found.sum().backward()
    assert float(teacher.grad.abs().sum()) > 0
    assert float(student.grad.abs().sum()) > 0


@pytest.mark.parametrize("mode", ["random", "gradient"])
def test_generator_and_labeler_stay_as_they_were(image_world, snapshot, differing, mode) -> None:
    generator = Linear(image_world.train)
    before = snapshot(generator), snapshot(image_world.teacher())
    _, _, teacher, _ = run(image_world, tgt(mode=mode), generator)
    assert differing(before[0], generator.state_dict()) == []
    assert differing(before[1], teacher.state_dict()) == []
    assert all(p.grad is None for p in teacher.parameters())


def test_the_inner_ascent_leaves_the_student_as_it_was(image_world, snapshot, differing) -> None:
    generator, student = Linear(image_world.train), image_world.student()
    student.train()
    before = snapshot(student)
    source = LiveTeacher(image_world.teacher(), "float32")
    made = Generated(
        train=image_world.train, source=source, seed=0, precision="float32", generator=generator
    )
    method = tgt(mode="gradient", steps=2)
    batch = image_world.train.batch(np.arange(16))
    from bench.data.splits import View

    found, _ = made(method, student, batch, view=View(0, 0), epoch=0, at=0, progress=PROGRESS)
    assert not found.inputs["image"].equal(batch.inputs["image"])
    assert differing(before, student.state_dict()) == []  # running statistics among them
    assert all(p.grad is None and p.requires_grad for p in student.parameters())
    assert student.training
    assert all(module.training for module in student.modules())


def test_labels_never_reach_the_generated_term(image_world) -> None:
    generator, seen = Linear(image_world.train), []

    class Watched(TGT):
        def generated_loss(self, *, batch: Batch, **rest: Any) -> Any:
            seen.append(batch)
            return super().generated_loss(batch=batch, **rest)

    method = Watched(TGTConfig(w_ce=0.0))
    one, _, _, _ = run(image_world, method, generator)
    assert all((batch.labels == -1).all() and (batch.index == -1).all() for batch in seen)
    image_world.train.labels.copy_((image_world.train.labels + 1) % 4)
    other, _, _, _ = run(image_world, tgt(w_ce=0.0), generator)
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(ours.equal(theirs) for ours, theirs in pairs)


def test_running_statistics_are_those_of_real_inputs(image_world, differing) -> None:
    """A student that does not learn keeps the statistics that KD alone would leave."""
    frozen = {"learning_rate": 1e-30, "weight_decay": 0.0}
    kd, _, _, _ = run(image_world, KD(KD.Config()), **frozen)
    generator = Linear(image_world.train)
    ours, trained, _, _ = run(image_world, tgt(sigma=1.0), generator, **frozen)
    assert trained.epochs[0]["losses"]["gen"] > 0
    kept, found = dict(kd.named_buffers()), dict(ours.named_buffers())
    assert any("running_var" in name for name in kept)
    assert differing(kept, found) == []


def test_the_same_seed_gives_the_same_bits(image_world, differing) -> None:
    generator = Linear(image_world.train)
    first, _, _, _ = run(image_world, tgt(), generator)
    again, _, _, _ = run(image_world, tgt(), generator)
    assert differing(first.state_dict(), again.state_dict()) == []


def test_every_step_and_epoch_draws_anew(image_world) -> None:
    from bench.data.splits import View

    generator, student = Linear(image_world.train), image_world.student()
    source = LiveTeacher(image_world.teacher(), "float32")
    made = Generated(
        train=image_world.train, source=source, seed=0, precision="float32", generator=generator
    )
    batch = image_world.train.batch(np.arange(8))
    state = torch.get_rng_state()
    images = [
        made(tgt(), student, batch, view=View(0, 0), epoch=e, at=a, progress=PROGRESS)[0]
        for e, a in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert torch.get_rng_state().equal(state)
    values = [each.inputs["image"] for each in images]
    assert values[0].equal(values[3])
    assert not values[0].equal(values[1])
    assert not values[0].equal(values[2])


def test_balanced_seeds_draw_all_classes_alike_from_a_long_tail(image_world) -> None:
    labels = image_world.train.labels
    labels[:] = 0
    labels[-3:] = 1  # 61 of one class and 3 of the other
    method = tgt(seeds="balanced")
    student, source = image_world.student(), LiveTeacher(image_world.teacher(), "float32")
    from dataclasses import replace

    ready = replace(
        image_world.context(student, source, ()), generator_model=Linear(image_world.train)
    )
    method.setup(ready)
    batch = image_world.train.batch(np.arange(60))
    random = np.random.default_rng(0)
    drawn = np.concatenate([method.choose_seeds(batch, random) for _ in range(20)])
    assert float((labels.numpy()[drawn] == 1).mean()) == pytest.approx(0.5, abs=0.05)
    assert set(drawn[labels.numpy()[drawn] == 1]) == {61, 62, 63}
    assert tgt().choose_seeds(batch, random) is None


@pytest.mark.parametrize("source", ["augment", "mixup", "data"])
def test_controls_need_no_generator_and_train(image_world, source: str) -> None:
    method = tgt(source=source)
    assert method.generates
    assert not method.needs_generator
    _, trained, _, setting = run(image_world, method)
    assert trained.epochs[-1]["losses"]["gen"] > 0
    assert setting.phases.seconds["generate"] > 0


@pytest.mark.parametrize("source", ["augment", "data"])
def test_controls_for_text(text_world, source: str) -> None:
    _, trained, _, _ = run(text_world, tgt(source=source))
    assert trained.epochs[-1]["losses"]["gen"] > 0
    assert np.isfinite(trained.epochs[-1]["notes"]["entropy_generated"])


def test_controls_are_what_they_say(image_world, text_world) -> None:
    batch = image_world.train.batch(np.arange(16))
    ready = context(None, image_world.teacher())
    mixed = tgt(source="mixup").generate(batch=batch, context=ready, progress=PROGRESS)["image"]
    low, high = batch.inputs["image"].amin(dim=0), batch.inputs["image"].amax(dim=0)
    assert ((mixed >= low - 1e-5) & (mixed <= high + 1e-5)).all()
    assert not mixed.equal(batch.inputs["image"])
    same = tgt(source="data").generate(batch=batch, context=ready, progress=PROGRESS)
    assert same is batch.inputs
    words = text_world.train.batch(np.arange(16))
    dropped = tgt(source="augment").generate(batch=words, context=ready, progress=PROGRESS)
    kept = dropped["attention_mask"]
    assert dropped["input_ids"].equal(words.inputs["input_ids"])
    assert (kept <= words.mask).all()
    assert kept[:, 0].all()
    assert 0 < int(words.mask.sum() - kept.sum()) < 0.3 * int(words.mask.sum())


def test_training_samples_as_they_are_are_looked_up_not_run(image_world) -> None:
    """source=data gives real samples: what the cache holds of them is right."""
    from bench.data.splits import View

    asked = []

    class Source:
        live = LiveTeacher(image_world.teacher(), "float32")

        def __call__(self, batch: Batch, hidden: Any, view: Any) -> Output:
            asked.append((batch.index.tolist(), view))
            return Output(torch.zeros(len(batch.index), 4))

    method = tgt(source="data")
    method._members = [np.arange(64)]
    made = Generated(train=image_world.train, source=Source(), seed=0, precision="float32")
    batch = image_world.train.batch(np.arange(8), View(0, 2))
    found, _ = made(
        method, image_world.student(), batch, view=View(0, 2), epoch=2, at=0, progress=PROGRESS
    )
    assert Source.live.samples == 0
    assert [view for _, view in asked] == [View(0, 2)]
    assert (found.labels == -1).all()
    expected = image_world.train.batch(np.array(asked[0][0]), View(0, 2))
    assert found.inputs["image"].equal(expected.inputs["image"])


def test_what_cannot_be_is_refused_in_one_line(image_world, text_world) -> None:
    from dataclasses import replace

    def setup(world: Any, generator: Any = None, **options: Any) -> None:
        source = LiveTeacher(world.teacher(), "float32")
        ready = world.context(world.student(), source, ())
        tgt(**options).setup(replace(ready, generator_model=generator))

    with pytest.raises(BenchError, match="needs a generator"):
        setup(image_world)
    with pytest.raises(NotApplicable, match="'words' writes tokens"):
        setup(text_world, Words(), mode="gradient")
    with pytest.raises(NotApplicable, match="cannot be mixed"):
        setup(text_world, source="mixup")
    with pytest.raises(BenchError, match="mode=gradient"):
        tgt(mode="gradient", source="mixup")
    for wrong in ({"sigma": -1}, {"steps": -1}, {"source": "gan"}, {"radius": 0}):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            tgt(**wrong)


def test_the_entropy_is_logged_beside_the_losses(image_world) -> None:
    generator = Linear(image_world.train)
    _, trained, _, _ = run(image_world, tgt(sigma=2.0), generator, epochs=1)
    notes = trained.epochs[0]["notes"]
    assert set(notes) == {"entropy_real", "entropy_generated"}
    assert 0 < notes["entropy_real"] <= np.log(4)
    assert notes["entropy_real"] != notes["entropy_generated"]
    uniform = entropy(torch.zeros(3, 4))
    assert float(uniform) == pytest.approx(np.log(4))
    probability = F.softmax(torch.tensor([[2.0, 0.0]]), dim=1)
    expected = -(probability * probability.log()).sum()
    assert float(entropy(torch.tensor([[2.0, 0.0]]))) == pytest.approx(float(expected))


def test_options_that_shape_nothing_generated_do_not_make_variants_again() -> None:
    assert tgt(w_gen=0.5).generation_options() == tgt(temperature=2).generation_options()
    assert tgt(sigma=0.1).generation_options() != tgt(sigma=0.2).generation_options()
    same = tgt(source="reconstruction", sigma=0.5).generation_options()
    assert same == tgt(sigma=0.0).generation_options()


def test_the_code_of_every_module_of_the_package_is_part_of_the_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import inspect

    before = code_hash(TGT)
    real = inspect.getsource
    for name in ("methods.tgt", "methods.tgt.perturb", "methods.tgt.controls", "methods.kd"):

        def edited(thing: Any, name: str = name) -> str:
            source = real(thing)
            return source + "\nCHANGED = 1\n" if thing.__name__ == name else source

        monkeypatch.setattr(inspect, "getsource", edited)
        assert code_hash(TGT) != before, name
    monkeypatch.undo()
    assert code_hash(TGT) == before


def moves(world: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """Return by how far ``generate`` moves codes, in standard deviations of ``Enc(x)``, and by how
    much more student and teacher differ there."""
    generator, teacher = Linear(world.train), world.teacher().eval()
    student = world.student().eval()
    for model in (student, teacher):
        torch.manual_seed(4)
        nn.init.normal_(model.head.weight, std=0.5)
    batch = world.train.batch(np.arange(64))
    made = tgt(**options).generate(
        batch=batch,
        context=context(generator, teacher, lambda given: student(given).float()),
        progress=PROGRESS,
    )
    codes = [generator.encode(inputs).values for inputs in (batch.inputs, made)]
    with torch.no_grad():
        apart = [
            divergence(student=student(x).scores, teacher=teacher(x).scores, temperature=4.0)
            for x in (batch.inputs, made)
        ]
    alive = generator.scale > 1e-3  # the corners of all digits are black
    moved = torch.where(alive, (codes[1] - codes[0]) / generator.scale, 0.0)
    return moved, apart[1] - apart[0]


def test_the_method_perturbs_as_it_is_configured(image_world) -> None:
    moved, _ = moves(image_world, sigma=0.4)
    assert float(moved[moved != 0].std()) == pytest.approx(0.4, rel=0.02)
    root_mean_square = lambda value: value.square().mean(dim=(1, 2, 3)).sqrt()  # noqa: E731
    gradient = {"mode": "gradient", "step_size": 0.02, "radius": 0.03}
    for steps, length in ((1, 0.02), (4, 0.03)):
        moved, apart = moves(image_world, steps=steps, **gradient)
        assert root_mean_square(moved) == pytest.approx(np.full(64, length), rel=0.05)
        assert (apart > 0).float().mean() > 0.9  # up, not down


def test_controls_give_other_inputs(image_world) -> None:
    """Another view, a weighted mean of two images, other samples."""
    from bench.data.splits import View

    batch = image_world.train.batch(np.arange(16), View(0, 0))
    ready = replace(
        context(None, image_world.teacher()),
        another_view=lambda index: image_world.train.batch(index, View(1, 0)),
    )
    image = batch.inputs["image"]
    seen = tgt(source="augment").generate(batch=batch, context=ready, progress=PROGRESS)
    assert seen["image"].equal(image_world.train.batch(np.arange(16), View(1, 0)).inputs["image"])
    mixed = tgt(source="mixup").generate(batch=batch, context=ready, progress=PROGRESS)["image"]
    whole = (mixed[:, None] == image[None]).flatten(2).all(dim=2)
    assert not whole.any()  # no image alone
    method = tgt(source="data")
    method._members = [np.arange(64)]
    drawn = method.choose_seeds(batch, np.random.default_rng(0))
    assert drawn.tolist() != batch.index.tolist() and len(set(drawn.tolist())) == 16
