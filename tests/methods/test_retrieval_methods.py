"""Methods on retrieval: KD over lists, the embedding form of FitNets, and our LELP over lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench import BASELINES, METHODS
from bench.config import build
from bench.data.retrieval import ListSplit, SearchSplit, TokenTable
from bench.errors import NotApplicable
from bench.losses import soft_kl
from bench.method import Method, Progress, Setup
from bench.metrics.retrieval import retrieval_metrics
from bench.models.base import Model
from bench.models.retriever import build_retriever
from bench.tasks.preset import Recipe
from bench.teachers.lists import OwnLists
from bench.teachers.signals import LiveTeacher
from bench.training.loop import Trained, train
from bench.training.setting import Setting
from bench.types import Batch, Output
from methods.fitnets_retrieval import FitNetsRetrieval
from methods.lelp_retrieval import pair_embedding, split_kl

MAIN = Progress("main", 0, 4)
CANDIDATES, PASSAGES, TRAINING = 4, 30, 24


def tokens(count: int, seed: int) -> TokenTable:
    """Passage and query ``i`` share two words of their own."""
    generator = np.random.default_rng(seed)
    rows = [
        np.array([101, 2000 + 2 * at, 2001 + 2 * at, *generator.integers(1000, 1040, 3), 102])
        for at in range(count)
    ]
    return TokenTable(rows, pad=0)


def world(*, in_batch: bool = False, short: bool = False) -> tuple[ListSplit, SearchSplit]:
    generator = np.random.default_rng(0)
    lists = np.stack(
        [
            [at, *generator.permutation([p for p in range(PASSAGES) if p != at])[: CANDIDATES - 1]]
            for at in range(TRAINING)
        ]
    )
    if short:
        lists[::3, -1] = -1
    passages = tokens(PASSAGES, 1)
    training = ListSplit(
        tokens(TRAINING, 2),
        passages,
        query_of=np.arange(TRAINING),
        relevant=np.arange(TRAINING)[:, None],
        lists=lambda: lists,
        candidates=CANDIDATES,
        in_batch=in_batch,
    )
    held = SearchSplit(
        tokens(8, 3),
        passages,
        np.arange(8)[:, None],
        depth=20,
        rerank=5,
        first_stage=lambda: np.tile(np.arange(20), (8, 1)),
    )
    return training, held


def model(name: str = "dual:bert-L1-H32", seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return build_retriever(name)


def teacher() -> Model:
    return model("dual:bert-L2-H64", 9).eval().requires_grad_(False)


def prepared(name: str, student: Model, training: ListSplit, source: Any, **options: Any) -> Method:
    cls = METHODS.get(name) if name in METHODS else BASELINES.get(name)
    made: Method = cls(build(cls.Config, options, name))
    made.setup(
        Setup(
            student=student,
            num_classes=CANDIDATES,
            family="retrieval",
            pairs=[],
            probe=training.batch(np.arange(8)),
            teacher=source,
            head=None,
            training_batches=lambda: (
                training.batch(index) for index in training.evaluation_order(8)
            ),
            generator=torch.Generator().manual_seed(1),
        )
    )
    return made


def run(name: str, **options: Any) -> Trained:
    return run_both(name, **options)[1]


def run_both(
    name: str, *, in_batch: bool = False, short: bool = False, **options: Any
) -> tuple[Method, Trained]:
    training, held = world(in_batch=in_batch, short=short)
    student = model()
    source: Any = LiveTeacher(teacher(), "float32")
    source = OwnLists(source) if in_batch else source
    made = prepared(name, student, training, source, **options)
    recipe = Recipe(
        epochs=4, batch_size=8, optimizer="adamw", learning_rate=3e-3, precision="float32"
    )
    return made, train(
        student=student,
        method=made,
        teacher=source if made.signals else None,
        setting=Setting(
            train=training,
            validation=held,
            recipe=recipe,
            seed=0,
            score=retrieval_metrics,
            metric="mrr@10",
            direction="max",
        ),
    )


@pytest.mark.parametrize("r", [1, 2, 3])
def test_what_gpd_deploys_is_the_retriever_in_training_bit_for_bit(r: int) -> None:
    from methods.gpd.dynamic import student_weights

    made, trained = run_both("gpd", r=r, step="raw" if r == 3 else "matched")
    plain, student = model(), trained.model
    assert type(student) is type(plain) and list(student.state_dict()) == list(plain.state_dict())
    assert any(not value.equal(plain.state_dict()[k]) for k, value in student.state_dict().items())
    weights = student_weights(made.dynamic, student, made.places)  # type: ignore[attr-defined]
    assert weights.keys() == dict(student.named_parameters()).keys()
    inputs = world()[0].batch(np.arange(8)).inputs
    with torch.no_grad():
        student.eval()
        deployed = student(inputs).logits
        assert deployed.equal(torch.func.functional_call(student, weights, (inputs,)).logits)
    plain.load_state_dict(trained.best_state)


EVERY = [
    ("scratch", {}),
    ("label_smoothing", {}),
    ("kd", {}),
    ("kd", {"loss": "margin_mse", "w_kd": 0.1}),
    ("dkd", {"warmup": 0.0}),  # which would start low
    ("fitnets_retrieval", {}),
    ("fitnets_retrieval_joint", {}),
    ("lelp_retrieval", {}),
    ("gpd", {}),
    ("gpd", {"static": "dkd", "warmup": 0.0}),
    ("gpd_scratch", {"ema": 0.5}),
]


@pytest.mark.parametrize(("name", "options"), EVERY, ids=lambda value: str(value))
@pytest.mark.parametrize("short", [False, True], ids=["full", "with empty places"])
@pytest.mark.parametrize("in_batch", [False, True], ids=["lists", "in-batch"])
def test_every_method_trains_on_lists(
    name: str, options: dict[str, Any], short: bool, in_batch: bool
) -> None:
    trained = run(name, short=short, in_batch=in_batch, **options)
    for entry in trained.epochs:
        assert all(np.isfinite(value) for value in entry["losses"].values())
    for stage in {entry["stage"] for entry in trained.epochs}:
        own = [sum(e["losses"].values()) for e in trained.epochs if e["stage"] == stage]
        assert len(own) == 1 or own[-1] < own[0]
    assert trained.best_epoch >= 1


def test_what_is_learnt_from_lists_ranks_the_collection() -> None:
    trained = run("scratch")
    assert trained.epochs[-1]["validation"]["mrr@10"] > 0.5  # by chance: 0.1


def outputs(generator: torch.Generator, *, rows: int = 5, width: int = 6) -> tuple[Output, Output]:
    """Return student and teacher outputs whose scores are inner products."""
    found = []
    for _ in range(2):
        embedding = torch.randn(rows, 1 + CANDIDATES, width, generator=generator)
        found.append(Output(pair_embedding(embedding).sum(dim=-1), embedding))
    return found[0], found[1]


def empty_batch(rows: int = 5) -> Batch:
    real = torch.ones(rows, CANDIDATES, dtype=torch.bool)
    return Batch({"real": real}, torch.zeros(rows, dtype=torch.int64), torch.arange(rows))


# --- KD over lists ---


@pytest.mark.parametrize("options", [{}, {"loss": "margin_mse"}], ids=["kl", "margin"])
def test_kd_over_lists_sees_differences_only(options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    cls = METHODS.get("kd")
    method = cls(build(cls.Config, options, "kd"))

    def value(student: Tensor, guide: Tensor) -> Tensor:
        terms = method.loss(
            batch=empty_batch(), student=Output(student), teacher=Output(guide), progress=MAIN
        )
        return terms["kd"]

    student, guide = (output.scores for output in outputs(generator))
    constant = torch.randn(5, 1, generator=generator) * 10
    plain = value(student, guide)
    torch.testing.assert_close(value(student, guide + constant), plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(value(student + constant, guide), plain, rtol=1e-4, atol=1e-5)
    order = torch.tensor([0, 3, 1, 2])  # the positive stays in front, as in every list
    torch.testing.assert_close(value(student[:, order], guide[:, order]), plain)
    padded = [
        torch.cat([scores, torch.full((5, 2), -torch.inf)], dim=1) for scores in (student, guide)
    ]
    torch.testing.assert_close(value(*padded), plain)


# --- FitNets ---


def embedding_method(name: str, width: int) -> Any:
    cls = METHODS.get(name)
    made = cls(cls.Config())
    made.regressor = torch.nn.Linear(width, width)
    with torch.no_grad():
        made.regressor.weight.copy_(torch.eye(width))
        made.regressor.bias.zero_()
    return made


@pytest.mark.parametrize("name", ["fitnets_retrieval", "fitnets_retrieval_joint"])
def test_a_copy_of_the_teacher_has_no_hint_loss(name: str) -> None:
    student, guide = outputs(torch.Generator().manual_seed(0))
    method = embedding_method(name, 6)
    stage = Progress("hint", 0, 4)

    def hint(one: Output, other: Output) -> Tensor:
        return method.loss(batch=empty_batch(), student=one, teacher=other, progress=stage)["hint"]

    assert hint(guide, guide).item() == pytest.approx(0.0, abs=1e-10)
    square = (guide.embedding - student.embedding).pow(2)
    expected = 0.5 * square.sum(-1).mean() if name == "fitnets_retrieval" else 100 * square.mean()
    torch.testing.assert_close(hint(student, guide), expected)


def test_the_hint_counts_real_candidates_only() -> None:
    student, guide = outputs(torch.Generator().manual_seed(0))
    method, batch = embedding_method("fitnets_retrieval", 6), empty_batch()
    batch.inputs["real"][:, 2:] = False
    square = (guide.embedding - student.embedding)[:, :3].pow(2)
    torch.testing.assert_close(method.distance(batch, student, guide), square.sum(-1).mean())


def test_stages_are_those_of_the_original_and_the_regressor_never_ships() -> None:
    training, _ = world()
    student = model()
    made = prepared("fitnets_retrieval", student, training, LiveTeacher(teacher(), "float32"))
    assert isinstance(made, FitNetsRetrieval)
    assert [(stage.name, stage.share) for stage in made.stages()] == [
        ("hint", 0.25),
        ("distil", 0.75),
    ]
    assert made.deploy(student) is student
    assert made.regressor.weight.shape == (64, 32)
    student_output, guide = outputs(torch.Generator().manual_seed(0))
    for step, weight in ((0, 4.0), (10, 1.0)):
        terms = made.loss(
            batch=empty_batch(),
            student=student_output,
            teacher=guide,
            progress=Progress("distil", step, 11),
        )
        soft = F.cross_entropy(student_output.scores / 3, torch.softmax(guide.scores / 3, dim=1))
        torch.testing.assert_close(terms["soft"], weight * soft)
        torch.testing.assert_close(
            terms["ce"], F.cross_entropy(student_output.scores, empty_batch().labels)
        )


# --- LELP ---


def lelp(**options: Any) -> tuple[Any, ListSplit, LiveTeacher]:
    training, _ = world()
    source = LiveTeacher(teacher(), "float32")
    return prepared("lelp_retrieval", model(), training, source, **options), training, source


def test_one_subclass_is_list_kl_in_loss_and_gradient() -> None:
    method, training, source = lelp(subclasses=1, temperature=2.0)
    batch = training.batch(np.arange(6))
    guide, student = source(batch, ()), model().eval()
    output = student(batch.inputs)
    terms = method.loss(batch=batch, student=output, teacher=guide, progress=MAIN)
    assert set(terms) == {"kl"}
    expected = soft_kl(student=output.scores, teacher=guide.scores, temperature=2.0)
    torch.testing.assert_close(terms["kl"], expected, rtol=1e-4, atol=1e-6)
    parameters = list(student.parameters())
    found = torch.autograd.grad(terms["kl"], parameters, retain_graph=True)
    wanted = torch.autograd.grad(expected, parameters)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_targets_add_up_to_the_teachers_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    method, training, source = lelp(subclasses=4)
    seen: dict[str, Tensor] = {}

    def watched(**given: Any) -> Tensor:
        seen.update(given)
        return split_kl(**given)

    monkeypatch.setattr("methods.lelp_retrieval.split_kl", watched)
    batch = training.batch(np.arange(6))
    guide = source(batch, ())
    method.loss(batch=batch, student=model().eval()(batch.inputs), teacher=guide, progress=MAIN)
    assert seen["targets"].shape == (6, CANDIDATES, 4)
    torch.testing.assert_close(seen["targets"].sum(-1), torch.softmax(guide.scores, dim=1))
    assert seen["targets"].std(dim=-1).max() > 0.01  # the split says something


def test_what_the_score_reads_changes_no_split() -> None:
    method, _, _ = lelp()
    pair = torch.randn(7, 64, generator=torch.Generator().manual_seed(0))
    moved = pair + 3.0  # along the all-ones vector: only the score, the sum, changes
    torch.testing.assert_close(method.readable(moved), method.readable(pair), atol=1e-5, rtol=1e-4)
    directions = method.directions[0]
    torch.testing.assert_close(directions @ directions.T, torch.eye(4), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(directions.sum(dim=1), torch.zeros(4), atol=1e-4, rtol=0)


def test_split_kl_is_the_kl_of_the_joint_distribution() -> None:
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(3, 4, generator=generator)
    split = torch.randn(3, 4, 2, generator=generator)
    targets = torch.softmax(torch.randn(3, 8, generator=generator), dim=1).view(3, 4, 2)
    found = split_kl(scores=scores, split=split, targets=targets, temperature=2.0)
    joint = torch.softmax(scores / 2, dim=1)[:, :, None] * torch.softmax(split, dim=2)
    expected = 4 * (targets * (targets / joint).log()).sum(dim=(1, 2)).mean()
    torch.testing.assert_close(found, expected)
    # the class term and the split's own, as the cross-entropy of a product falls apart
    classes = targets.sum(-1)
    apart = (classes * (classes / torch.softmax(scores / 2, dim=1)).log()).sum(1)
    within = (targets * ((targets / classes[:, :, None]) / torch.softmax(split, 2)).log()).sum(
        (1, 2)
    )
    torch.testing.assert_close(found, 4 * (apart + within).mean())


def test_the_split_never_ships() -> None:
    method, _, _ = lelp()
    student = model()
    assert method.deploy(student) is student
    assert sum(p.numel() for p in method.parameters()) == 4 * 32


# --- cross-encoders ---


class Pairs:
    """A cross-encoder as methods see it: embeddings of pairs."""

    served, samples = "live", 0

    def __call__(self, batch: Batch, hidden: Any, view: Any = None) -> Output:
        rows = len(batch.labels)
        return Output(torch.randn(rows, CANDIDATES), torch.randn(rows, CANDIDATES, 6))


@pytest.mark.parametrize("name", ["fitnets_retrieval", "fitnets_retrieval_joint", "lelp_retrieval"])
def test_a_cross_encoder_has_no_embeddings_of_its_own_to_match(name: str) -> None:
    training, _ = world()
    with pytest.raises(NotApplicable, match="a cross-encoder embeds pairs"):
        prepared(name, model(), training, Pairs())


def test_smoothing_gives_a_masked_candidate_nothing() -> None:
    cls = BASELINES.get("label_smoothing")
    scores = torch.tensor([[2.0, 1.0, -torch.inf]], requires_grad=True)
    loss: Callable[..., Any] = cls(cls.Config(epsilon=0.2)).loss
    batch = Batch({}, torch.tensor([0]), torch.tensor([0]))
    found = loss(batch=batch, student=Output(scores), teacher=None, progress=MAIN)["ce"]
    two = scores.detach()[:, :2]
    torch.testing.assert_close(found, F.cross_entropy(two, torch.tensor([0]), label_smoothing=0.2))
    (gradient,) = torch.autograd.grad(found, scores)
    assert torch.isfinite(gradient).all() and gradient[0, 2] == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"beta": "0.3", "temperature": "2", "w_ce": "0.5"}, {"null_space": "false"}],
    ids=str,
)
def test_golden_loss_of_lelp_on_lists(options: dict[str, str]) -> None:
    method, training, source = lelp(**options)
    config, batch = method.config, training.batch(np.arange(6))
    guide, output = source(batch, ()), model().eval()(batch.inputs)
    found = method.loss(batch=batch, student=output, teacher=guide, progress=MAIN)
    pair, own = pair_embedding(guide.embedding), pair_embedding(output.embedding)
    if config.null_space:
        pair = pair - pair.mean(dim=-1, keepdim=True)
    z = (pair - method.mean[0]) @ method.directions[0].T / method.scale[0]
    tau = config.temperature
    targets = F.softmax(guide.scores / tau, 1)[:, :, None] * F.softmax(z / config.beta, 2)
    expected = split_kl(
        scores=output.scores, split=method.split(own), targets=targets, temperature=tau
    )
    torch.testing.assert_close(found["kl"], expected, rtol=1e-4, atol=1e-6)
    off = float(method.directions.sum(dim=-1).abs().max())
    assert (off < 1e-4) == config.null_space
    if config.w_ce:
        ce = F.cross_entropy(output.scores, batch.labels)
        torch.testing.assert_close(found["ce"], config.w_ce * ce)
