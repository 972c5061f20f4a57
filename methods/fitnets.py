"""FitNets (Romero et al. 2015, arXiv 1412.6550): hints from a middle layer of the teacher.

Two methods: ``fitnets`` is the paper's two-stage training; ``fitnets_joint`` the one-stage form
that most result tables quote under the same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from bench import (
    Batch,
    BenchError,
    Card,
    Config,
    Method,
    Output,
    Progress,
    Setup,
    Stage,
    register_method,
)
from bench.losses import soft_cross_entropy


class HintMethod(Method):
    """What both variants share: the guided pair of layers and the regressor between them."""

    signals = frozenset({"logits", "hidden"})
    families = frozenset({"image", "text"})

    def hints(self, pairs: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        """Choose the middle pair of the layer map, as the paper does."""
        return (pairs[(len(pairs) - 1) // 2],)

    def setup(self, context: Setup) -> None:
        if context.teacher is None:
            raise BenchError("FitNets needs a teacher with hidden layers")
        ((guided, hint),) = self.hints(context.pairs)
        self.guided, self.hint = guided, hint
        training = context.student.training
        context.student.eval()
        with torch.no_grad():
            source = context.student(context.probe.inputs, hidden=[guided], until=guided)
        context.student.train(training)
        target = context.teacher(context.probe, [hint])
        self.regressor = build_regressor(
            source.hidden[guided], target.hidden[hint], generator=context.generator
        )


def build_regressor(source: Tensor, target: Tensor, *, generator: torch.Generator) -> nn.Module:
    """Build the regressor from the student's guided map to the teacher's hint map.

    Args:
        source: an example of the student's map, ``(N, c, h, w)`` or ``(N, L, d)``.
        target: an example of the teacher's, ``(N, C, H, W)`` or ``(N, L, D)``.
        generator: draws the initial weights.

    Raises:
        BenchError: when the spatial sizes are neither equal nor a factor of two apart.
    """
    regressor: nn.Module
    if source.ndim == 3:
        regressor = nn.Linear(source.shape[-1], target.shape[-1])
    else:
        layers = [_resizing_convolution(source, target), nn.BatchNorm2d(target.shape[1])]
        if bool((target >= 0).all()):
            layers.append(nn.ReLU())
        regressor = nn.Sequential(*layers)
    for module in regressor.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return regressor.to(source.device)


def _resizing_convolution(source: Tensor, target: Tensor) -> nn.Module:
    channels = (source.shape[1], target.shape[1])
    sizes = (source.shape[2], source.shape[3]), (target.shape[2], target.shape[3])
    if sizes[0] == sizes[1]:
        return nn.Conv2d(*channels, kernel_size=1, bias=False)
    if sizes[0] == (2 * sizes[1][0], 2 * sizes[1][1]):
        return nn.Conv2d(*channels, kernel_size=3, stride=2, padding=1, bias=False)
    if (2 * sizes[0][0], 2 * sizes[0][1]) == sizes[1]:
        return nn.ConvTranspose2d(*channels, kernel_size=4, stride=2, padding=1, bias=False)
    raise BenchError(
        f"no regressor from a {sizes[0]} map to a {sizes[1]} map",
        "sizes must be equal or a factor of two apart",
    )


def squared_distance(prediction: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """Return ``‖target − prediction‖²`` summed over channels, mean over samples and positions.

    Args:
        prediction: ``(N, C, H, W)`` or ``(N, L, D)``.
        target: the same shape.
        mask: ``(N, L)`` bool, true at real tokens; only these count.
    """
    square = (target - prediction).pow(2)
    if mask is None:
        return square.sum(dim=1).mean()
    return (square.sum(dim=-1) * mask).sum() / mask.sum().clamp(min=1)


class FitNetsConfig(Config):
    """Options of two-stage FitNets.

    Attributes:
        hint_share: part of the training budget spent on stage 1.
        temperature: ``T`` of stage 2.
        w_start: ``λ`` at the first step of stage 2.
        w_end: ``λ`` at its last step.
    """

    hint_share: float = Field(default=0.25, gt=0, lt=1)
    temperature: float = Field(default=3.0, gt=0)
    w_start: float = Field(default=4.0, ge=0)
    w_end: float = Field(default=1.0, ge=0)


@register_method("fitnets")
class FitNets(HintMethod):
    """Train up to a middle layer on the teacher's hint, then the whole student on KD.

    Stage 1: ``½‖u_h − r(v_g)‖²`` summed over channels, mean over batch and positions; no labels,
    no logits; nothing above the guided layer learns.  Stage 2: ``CE + λ(t)·CE(teacher softened,
    student softened)`` at ``T``, ``λ`` falling linearly.  The regressor never ships.
    """

    Config = FitNetsConfig
    config: FitNetsConfig
    space = (
        ("hint_share", 0.1, 0.5, "linear"),
        ("temperature", 1.0, 10.0, "log"),
        ("w_start", 0.5, 8.0, "log"),
    )
    card = Card(
        title="FitNets",
        paper="Romero et al. 2015, arXiv 1412.6550",
        confirmed=("two stages", "T = 3, λ from 4 to 1"),
        choices=(
            "stage 1 takes a quarter of the same budget, so that steps are equal",
            "1×1, strided or transposed convolution by map size, BatchNorm after it",
            "middle pair of a uniform layer map; for transformers a linear projector",
        ),
    )

    def stages(self) -> Sequence[Stage]:
        share = self.config.hint_share
        return (
            Stage("hint", share, until=self.guided, evaluate=False),
            Stage("distil", 1.0 - share, hints=False),
        )

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        assert teacher is not None
        if progress.stage == "hint":
            prediction = self.regressor(student.hidden[self.guided])
            target = teacher.hidden[self.hint]
            return {"hint": 0.5 * squared_distance(prediction, target, batch.mask)}
        weight = soft_weight(progress.fraction, self.config.w_start, self.config.w_end)
        soft = soft_cross_entropy(
            student=student.scores, teacher=teacher.scores, temperature=self.config.temperature
        )
        return {"ce": F.cross_entropy(student.scores, batch.labels), "soft": weight * soft}


def soft_weight(fraction: float, start: float, end: float) -> float:
    """Return ``λ`` at ``fraction`` of stage 2, linear from ``start`` to ``end``."""
    return start + (end - start) * min(max(fraction, 0.0), 1.0)


class FitNetsJointConfig(Config):
    """Options of one-stage FitNets.

    Attributes:
        w_hint: weight of the mean squared error between the maps.
    """

    w_hint: float = Field(default=100.0, ge=0)


@register_method("fitnets_joint")
class FitNetsJoint(HintMethod):
    """Match the teacher's middle layer while training on labels; one stage, no logit term.

    ``L = CE(z_s, y) + w_hint·mean‖u_h − r(v_g)‖²``, averaged over channels too.  It can score below
    the plain student where the architectures differ (Tian et al. 2020, table 2).
    """

    Config = FitNetsJointConfig
    config: FitNetsJointConfig
    signals = frozenset({"hidden"})
    space = (("w_hint", 1.0, 1000.0, "log"),)
    card = Card(
        title="FitNets, one stage",
        paper="Romero et al. 2015 as run by Tian et al. 2020, arXiv 1910.10699",
        confirmed=("weight 100 on the mean squared error at the middle stage",),
        choices=("1×1, strided or transposed convolution by map size, BatchNorm after it",),
    )

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        terms = {"ce": F.cross_entropy(student.scores, batch.labels)}
        if self.config.w_hint and teacher is not None:
            prediction = self.regressor(student.hidden[self.guided])
            target = teacher.hidden[self.hint]
            distance = (
                squared_distance(prediction, target, batch.mask) / target.shape[_channels(target)]
            )
            terms["hint"] = self.config.w_hint * distance
        return terms


def _channels(value: Tensor) -> int:
    """Return the channel axis: 1 for feature maps, 2 for token sequences."""
    return 1 if value.ndim == 4 else 2
