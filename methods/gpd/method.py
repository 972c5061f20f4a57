"""Gap-preserving distillation (Guo et al. 2024, arXiv 2410.04140)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils import parametrize

from bench import Batch, Card, Config, Method, Output, Progress, Setup, register_method
from bench.losses import soft_kl
from bench.models.base import Model
from methods.dkd import dkd_loss, warmup_weight
from methods.gpd.branches import MOST
from methods.gpd.dynamic import Shape, build_dynamic, student_weights


class DynamicConfig(Config):
    """Options of the dynamic teacher.

    Attributes:
        r: how many times as wide as the student.
        branches: linear branches of every convolution, merged into one kernel; the first is the
            layer's own.
        noise: what tells the copies of a weight apart, relative to the weight's standard
            deviation; the student's own block gets none.
        w_gap: weight of the term that pulls the student to the dynamic teacher.
        smoothing: share of that term's target that is spread evenly over the classes.
        step: "matched" stores weights at the student's scale, so that both networks move per step
            as the student would alone; "raw" stores the dynamic teacher's, so that the student
            moves ``r²`` times as far under SGD and ``r`` times under Adam.
        clip: largest gradient norm, 0 for none; the recipe's holds where it is smaller.
        ema: decay of a moving average of the student, which is then what is deployed; 0 is off.
    """

    r: int = Field(default=2, ge=1)
    branches: int = Field(default=MOST, ge=1, le=MOST)
    noise: float = Field(default=0.01, ge=0)
    w_gap: float = Field(default=3.0, ge=0)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    step: Literal["matched", "raw"] = "matched"
    clip: float = Field(default=5.0, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)


class GPDConfig(DynamicConfig):
    """Options of GPD with a static teacher.

    Attributes:
        static: what both networks learn from the static teacher: "kd" ``T²·KL``, "dkd" its
            decoupled form, or "none".
        temperature: ``T`` of either.
        w_static: weight of either.
        alpha: weight of the target class in DKD.
        beta: weight of the other classes in DKD.
        warmup: share of training over which DKD rises to its weight, as it does on its own.
    """

    static: Literal["kd", "dkd", "none"] = "kd"
    temperature: float = Field(default=4.0, gt=0)
    w_static: float = Field(default=1.0, ge=0)
    alpha: float = Field(default=1.0, ge=0)
    beta: float = Field(default=8.0, ge=0)
    warmup: float = Field(default=20 / 240, ge=0, le=1)


CARD = Card(
    title="GPD",
    paper="Guo et al. 2024, arXiv 2410.04140",
    confirmed=(
        "a dynamic teacher r = 2 times as wide with six branches, which shares its parameters with "
        "the student and starts as the same function",
        "the dynamic teacher learns from labels and the static teacher, the student from both and "
        "from the dynamic teacher with weight 3; gradients clipped at norm 5",
    ),
    choices=(
        "weights are divided by r on the axis that reads the input; the authors rescale on the "
        "output side: the same function",
        "weights are stored at the student's scale, so that the recipe's rate means the same to "
        "the student as without GPD",
        "smoothing 0.1 is read as a target of 0.9 of the dynamic teacher's softmax at temperature "
        "1 and 0.1 spread evenly",
        "the kinds of the five added branches; one scale a channel instead of a BatchNorm each",
        "noise of 1 % of a weight's standard deviation, outside the student's own block",
        "on retrieval, ours: the dynamic teacher's embeddings are r times as wide, its scores at "
        "the start the student's; smoothing is spread over the candidates that are there",
    ),
)


class GapPreserving(Method):
    """What the variants share: the dynamic teacher, the student in it, the objective.

    The student module's own parameters are not trained: each step runs it on slices of the dynamic
    teacher's, and :meth:`deploy` writes these slices into it.  Its BatchNorm statistics are its
    own.

    The effective step.  The student's weight is ``r·θ[:o, :i]`` of the dynamic teacher's ``θ``
    where the input axis grew.  Trained as ``θ``, SGD at rate ``η`` moves it as rate ``r²·η`` would
    the plain student (the gradient of ``θ`` is ``r`` times the weight's, and ``r·θ`` moves ``r``
    times as far as ``θ``); first layers, norms and biases move at ``η``.  Adam, whose steps do not
    depend on the gradient's scale, moves it at ``r·η``.  ``step="matched"`` takes both factors
    out, see :class:`methods.gpd.dynamic.Stored`; with ``step="raw"`` the rate wants retuning.
    """

    families = frozenset({"image", "text", "retrieval"})
    config: DynamicConfig
    steps: Tensor

    def setup(self, context: Setup) -> None:
        config, student = self.config, context.student
        self.dynamic, self.places = build_dynamic(
            student,
            Shape(config.r, config.branches, config.noise, matched=config.step == "matched"),
            inputs=context.probe.inputs,
            generator=context.generator,
        )
        student.requires_grad_(False)  # trained through the dynamic teacher
        self.average: Model | None = None
        if config.ema:
            self.average = copy.deepcopy(student)
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._dynamic_output: Output | None = None

    def student_output(self, student: Model, batch: Batch, hidden: Sequence[int]) -> Output:
        """Run the student on its slices, then the dynamic teacher, whose output waits for the
        loss; the student first, so that its dropout is that of every other method."""
        weights = student_weights(self.dynamic, student, self.places)
        output: Output = functional_call(student, weights, (batch.inputs,), {"hidden": hidden})
        with parametrize.cached():
            self._dynamic_output = self.dynamic(batch.inputs).float()
        return output

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        dynamic, self._dynamic_output = self._dynamic_output, None
        assert dynamic is not None, "the loss follows student_output"
        terms = {
            "ce": F.cross_entropy(student.scores, batch.labels),
            "dynamic_ce": F.cross_entropy(dynamic.scores, batch.labels),
        }
        if self.config.w_gap:
            terms["gap"] = self.config.w_gap * smoothed_cross_entropy(
                student=student.scores, teacher=dynamic.scores, smoothing=self.config.smoothing
            )
        if teacher is not None:
            for name, output in (("static", student), ("dynamic_static", dynamic)):
                found = self.static_loss(output.scores, teacher.scores, batch.labels, progress)
                terms |= {} if found is None else {name: found}
        return terms

    def static_loss(
        self, logits: Tensor, teacher: Tensor, labels: Tensor, progress: Progress
    ) -> Tensor | None:
        """Return what a network with these logits learns from the static teacher, if anything."""
        return None

    def clip(self, recipe: float | None) -> float | None:
        """Return the smaller of the recipe's limit and the method's own."""
        return min((limit for limit in (recipe, self.config.clip) if limit), default=None)

    @torch.no_grad()
    def after_step(self, student: Model) -> None:
        if self.average is None:
            return
        self.steps.add_(1)
        # young averages forget faster, or a short run would deploy its own beginning
        kept = ((1 + self.steps) / (10 + self.steps)).clamp(max=self.config.ema)
        new = student_weights(self.dynamic, student, self.places) | dict(student.named_buffers())
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(new[name], (1.0 - kept).to(value))
            else:
                value.copy_(new[name])

    def companions(self, student: Model) -> Mapping[str, Model]:
        return {"dynamic teacher": self.dynamic}

    @torch.no_grad()
    def deploy(self, student: Model) -> Model:
        if self.average is not None:
            return self.average
        for name, value in student_weights(self.dynamic, student, self.places).items():
            student.get_parameter(name).copy_(value)
        return student


@register_method("gpd")
class GPD(GapPreserving):
    """Train a wider dynamic teacher that shares its weights with the student, beside a static one.

    ``L = L_D + L_S``, ``L_D = CE(D) + L_static(D)`` and
    ``L_S = CE(S) + L_static(S) + 3·H(0.9·softmax(D) + 0.1/C, S)``; no gradient flows from the last
    term into ``D``'s output.  ``D`` is ``r`` times as wide, its convolutions are sums of branches,
    and it starts as the student's own function; the student is a slice of it at every step.

    Our form for retrieval widens the embedding with the rest: it is the encoder's own stream, so a
    dynamic teacher whose embedding kept its width would need a projection that no student has.
    """

    Config = GPDConfig
    config: GPDConfig
    signals = frozenset({"logits"})
    space = (
        ("temperature", 1.0, 10.0, "log"),
        ("w_static", 0.1, 4.0, "log"),
        ("w_gap", 0.3, 6.0, "log"),
    )
    card = CARD

    def static_loss(
        self, logits: Tensor, teacher: Tensor, labels: Tensor, progress: Progress
    ) -> Tensor | None:
        config = self.config
        if config.static == "none" or not config.w_static:
            return None
        if config.static == "kd":
            return config.w_static * soft_kl(
                student=logits, teacher=teacher, temperature=config.temperature
            )
        weight = config.w_static * warmup_weight(progress, config.warmup)
        return weight * dkd_loss(
            logits,
            teacher,
            labels,
            alpha=config.alpha,
            beta=config.beta,
            temperature=config.temperature,
        )


@register_method("gpd_scratch")
class GPDScratch(GapPreserving):
    """GPD without a static teacher: ``L = CE(D) + CE(S) + 3·H(0.9·softmax(D) + 0.1/C, S)``."""

    Config = DynamicConfig
    signals = frozenset()
    space = (("w_gap", 0.3, 6.0, "log"), ("smoothing", 0.0, 0.3, "linear"))
    card = Card(
        title="GPD without a teacher",
        paper=CARD.paper,
        confirmed=(*CARD.confirmed, "training without a static teacher is a published setting"),
        choices=CARD.choices,
    )


def smoothed_cross_entropy(*, student: Tensor, teacher: Tensor, smoothing: float) -> Tensor:
    """Return the mean cross-entropy against ``(1 − ε)·softmax(teacher) + ε/C``.

    Args:
        student: logits ``(N, C)``; −inf where there is no candidate, which then is no class.
        teacher: logits ``(N, C)``, −inf in the same places; no gradient flows into them.
        smoothing: ``ε``.
    """
    target = F.softmax(teacher.detach().float(), dim=-1)
    there = student != -torch.inf  # a list may be filled up with candidates that score −inf
    count = there.sum(dim=-1, keepdim=True)
    target = (1.0 - smoothing) * target + smoothing * there / count
    log_probabilities = F.log_softmax(student.float(), dim=-1).masked_fill(~there, 0.0)
    return -(target * log_probabilities).sum(dim=-1).mean()
