"""TGT: teacher-guided training with a generator (Zaheer et al. 2022, arXiv 2208.06825)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from bench import Batch, BenchError, Card, Output, Progress, Setup, register_method
from bench.errors import NotApplicable
from bench.losses import soft_kl
from bench.method import Generation
from methods.kd import KD, KDConfig
from methods.tgt.controls import augmented, mixed
from methods.tgt.perturb import at_random, divergence, up_the_divergence


class TGTConfig(KDConfig):
    """Options of TGT; those of KD hold for its real half.

    Attributes:
        w_gen: weight of the distillation term on generated inputs.
        source: what the further inputs are: "generator"; "reconstruction" (its code, not
            perturbed); or, for comparison and without a generator, another augmented view
            ("augment"), mixtures of two images ("mixup"), other training samples ("data").
        mode: perturb codes at random, or up the divergence of teacher and student.
        sigma: ``σ`` of the random perturbation, in standard deviations of ``Enc(x)``.
        steps: ``K``, ascent steps of the gradient perturbation.
        step_size: ``η``, length of a step, root mean square in the same unit.
        radius: largest length of the whole move, likewise.
        seeds: inputs are generated from the batch's own samples, or from samples drawn so that
            all classes are as frequent (for long tails).
        alpha: of mixup's Beta distribution.
    """

    w_gen: float = Field(default=0.9, ge=0)
    source: Literal["generator", "reconstruction", "augment", "mixup", "data"] = "generator"
    mode: Literal["random", "gradient"] = "random"
    sigma: float = Field(default=0.3, ge=0)
    steps: int = Field(default=1, ge=0, le=20)
    step_size: float = Field(default=0.1, gt=0)
    radius: float = Field(default=0.3, gt=0)
    seeds: Literal["batch", "balanced"] = "batch"
    alpha: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _gradient_needs_a_code(self) -> TGTConfig:
        if self.mode == "gradient" and self.source != "generator":
            raise ValueError(f"mode=gradient perturbs a code, which source={self.source} leaves")
        return self


@register_method("tgt")
class TGT(KD):
    """KD on real inputs and on inputs that a frozen generator makes from them.

    ``L = w_ce·CE(f(x), y) + w_kd·KD(h(x), f(x)) + w_gen·KD(h(x̃), f(x̃))`` with
    ``x̃ = Dec(perturb(Enc(x)))``, ``h`` the teacher and ``f`` the student.  Labels are never used
    on ``x̃``.  Every step sees as many generated inputs as real ones, so a fair comparison is the
    same method with another ``source``, not KD alone.
    """

    Config = TGTConfig
    config: TGTConfig
    signals = frozenset({"logits", "generator"})
    families = frozenset({"image", "text", "retrieval"})
    space = (  # type: ignore[assignment]  # longer than KD's
        ("temperature", 1.0, 10.0, "log"),
        ("w_ce", 0.0, 1.0, "linear"),
        ("w_kd", 0.1, 1.0, "linear"),
        ("w_gen", 0.1, 2.0, "log"),
        ("sigma", 0.1, 1.0, "log"),  # of mode=random, the default
    )
    card = Card(
        title="TGT",
        paper="Zaheer et al. 2022, arXiv 2208.06825",
        confirmed=(
            "the objective; generated inputs are labelled by the teacher only",
            "perturbing the generator's code at random or along the gradient of the divergence",
            "BART's encoder states perturbed and decoded to tokens for text",
        ),
        choices=(
            "generator: an autoencoder with a KL term (images; the paper's is a pretrained "
            "BigBiGAN) or a compact BART (text, presets quick and small), trained on the task's "
            "own training inputs alone",
            "σ = 0.3, K = 1, η = 0.1, radius 0.3, all in standard deviations of Enc(x)",
            "w_gen = 0.9, T and the other weights as in KD; as many generated as real inputs",
            "batch statistics of generated inputs do not enter the deployed student's",
            "texts are decoded greedily before training, the same for all seeds",
            "on retrieval, ours: new queries, scored by the teacher over the candidates of the "
            "query they were made from",
        ),
    )

    @property
    def generates(self) -> bool:
        return self.config.w_gen > 0

    @property
    def needs_generator(self) -> bool:
        return self.generates and self.config.source in ("generator", "reconstruction")

    def generation_options(self) -> Mapping[str, object]:
        config = self.config
        if config.source == "reconstruction":
            return {"sigma": 0.0}
        if config.mode == "random":
            return {"sigma": config.sigma}
        return {"steps": config.steps, "step_size": config.step_size, "radius": config.radius}

    def setup(self, context: Setup) -> None:
        config = self.config
        self._notes: dict[str, Tensor] = {}
        if not self.generates:
            return
        if config.source == "mixup" and context.family != "image":
            raise NotApplicable("TGT: tokens cannot be mixed", "source=augment or source=data")
        if self.needs_generator:
            generator = context.generator_model
            if generator is None:
                raise BenchError("TGT needs a generator", "source=augment needs none")
            if config.mode == "gradient" and not generator.differentiable:
                raise NotApplicable(
                    f"TGT: generator '{generator.name}' writes tokens, which carry no gradient for "
                    "a gradient perturbation",
                    "mode=random",
                )
        if config.seeds == "balanced" or config.source == "data":
            labels = torch.cat([batch.labels for batch in context.training_batches()])
            index = torch.cat([batch.index for batch in context.training_batches()])
            self._members = [
                index[labels == label].cpu().numpy() for label in torch.unique(labels).tolist()
            ]

    def choose_seeds(self, batch: Batch, random: np.random.Generator) -> np.ndarray | None:
        count = len(batch.index)
        if self.config.seeds == "balanced":
            classes = random.integers(len(self._members), size=count)
            return np.array([random.choice(self._members[each]) for each in classes])
        if self.config.source == "data":
            samples = np.concatenate(self._members)
            return random.choice(samples, size=count, replace=count > len(samples))
        return None

    def generate(
        self, *, batch: Batch, context: Generation, progress: Progress
    ) -> Mapping[str, Tensor]:
        config = self.config
        if config.source == "data":
            return batch.inputs
        if config.source == "augment":
            return augmented(batch, context)
        if config.source == "mixup":
            return mixed(batch, context, alpha=config.alpha)
        generator = context.generator
        assert generator is not None
        with torch.no_grad():
            code = generator.encode(batch.inputs)
        if config.mode == "gradient":
            student = context.student
            assert student is not None

            def disagreement(values: Tensor) -> Tensor:
                inputs = generator.decode(code.with_values(values))
                return divergence(
                    student=student(inputs).scores,
                    teacher=context.teacher(inputs).scores,
                    temperature=config.temperature,
                )

            values = up_the_divergence(
                code.values,
                scale=generator.scale,
                divergence=disagreement,
                steps=config.steps,
                step_size=config.step_size,
                radius=config.radius,
            )
        else:
            sigma = 0.0 if config.source == "reconstruction" else config.sigma
            values = at_random(
                code.values, scale=generator.scale, sigma=sigma, random=context.random
            )
        with torch.no_grad():
            return generator.decode(code.with_values(values))

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        if self.generates and teacher is not None:
            self._notes["entropy_real"] = entropy(teacher.scores)
        return super().loss(batch=batch, student=student, teacher=teacher, progress=progress)

    def generated_loss(
        self, *, batch: Batch, student: Output, teacher: Output, progress: Progress
    ) -> Mapping[str, Tensor]:
        self._notes["entropy_generated"] = entropy(teacher.scores)
        term = soft_kl(
            student=student.scores,
            teacher=teacher.scores,
            temperature=self.config.temperature,
        )
        return {"gen": self.config.w_gen * term}

    def notes(self) -> Mapping[str, Tensor]:
        return self._notes


def entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy of ``softmax(logits)``, in nats; logits ``(N, C)`` may be −inf."""
    entropies: Tensor = torch.special.entr(logits.float().softmax(dim=-1)).sum(dim=-1)
    return entropies.mean()
