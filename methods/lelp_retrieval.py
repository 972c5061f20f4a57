"""LELP for retrieval: each candidate's probability split along the teacher's pair embeddings.

No published form exists; this one is ours, after Loo et al. 2024.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import (
    Batch,
    BenchError,
    Card,
    Method,
    Output,
    Progress,
    Setup,
    register_method,
)
from bench.errors import NotApplicable
from methods.lelp import LELPConfig, subclass_targets
from methods.subspaces import Subspaces, fit_subspaces, project


@register_method("lelp_retrieval")
class LELPRetrieval(Method):
    """Split each candidate's softmax probability by the direction in which it matches the query.

    With ``h = e_q ∘ e_d`` (whose sum is the teacher's score), targets are
    ``p_{d,s} = softmax_d(z_t/τ)·softmax_s(v_sᵀ(h′ − μ)/σ/β)``.  ``h′`` is ``h`` without its mean,
    which is all that the score reads; ``v`` are the top principal directions over the training
    pairs, rotated.  The student splits its own softmax over candidates by a small linear layer on
    ``e_q ∘ e_d`` that never ships; one KL (times ``τ²``) against the targets.
    """

    Config = LELPConfig
    config: LELPConfig
    signals = frozenset({"logits", "embedding"})
    families = frozenset({"retrieval"})
    space = (
        ("subclasses", 1, 10, "int"),
        ("beta", 0.2, 5.0, "log"),
        ("temperature", 1.0, 10.0, "log"),
    )
    card = Card(
        title="LELP, retrieval",
        paper="ours, after Loo, Iliopoulos, Hu and Vee 2024, arXiv 2409.20449",
        choices=(
            "no published form for retrieval",
            "one subspace for all candidates, as there are no classes; S = 1 is list-wise KL",
            "the student's split is a layer of its own, so that its score stays an inner product",
            "S = 4, β = 1, τ = 1; centred, divided by the root of the mean eigenvalue",
        ),
    )

    def setup(self, context: Setup) -> None:
        if context.teacher is None:
            raise BenchError("LELP needs a teacher")
        teacher, config = context.teacher, self.config
        first = teacher(context.probe, ())
        assert first.embedding is not None
        if first.embedding.shape[1] != first.scores.shape[1] + 1:
            raise NotApplicable(
                "a cross-encoder embeds pairs: it has no query and passage embeddings to split by"
            )
        width = first.embedding.shape[2]

        def pairs() -> Iterable[tuple[Tensor, Tensor]]:
            for batch in context.training_batches():
                output = teacher(batch, ())
                assert output.embedding is not None
                found = pair_embedding(output.embedding)[batch.inputs["real"]]
                found = self.readable(found).cpu().double()
                yield found, torch.zeros(len(found), dtype=torch.int64)

        spaces = fit_subspaces(
            pairs,
            num_classes=1,
            width=width,
            rank=width - int(config.null_space),
            config=config,
            generator=context.generator,
        )
        device = context.probe.labels.device
        for name in ("directions", "mean", "scale"):
            value = getattr(spaces, name).float().to(device)
            self.register_buffer(name, value, persistent=False)
        split = nn.Linear(context.student.width, config.subclasses, bias=False)
        nn.init.normal_(split.weight, std=0.02, generator=context.generator)
        self.split = split.to(device)

    def readable(self, pair: Tensor) -> Tensor:
        """Return pair embeddings without what the teacher's score reads of them, their mean."""
        return pair - pair.mean(dim=-1, keepdim=True) if self.config.null_space else pair

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        assert teacher is not None and teacher.embedding is not None
        assert student.embedding is not None
        config = self.config
        space = Subspaces(self.directions, self.mean, self.scale)  # type: ignore[arg-type]
        pair = self.readable(pair_embedding(teacher.embedding))
        candidates = pair.shape[1]
        directions = project(pair.flatten(0, 1), space).view(*pair.shape[:2], -1)
        targets = subclass_targets(
            logits=teacher.scores[:, :candidates],
            projections=directions,
            beta=config.beta,
            temperature=config.temperature,
        )
        terms = {
            "kl": split_kl(
                scores=student.scores,
                split=self.split(pair_embedding(student.embedding)),
                targets=targets,
                temperature=config.temperature,
            )
        }
        if config.w_ce:
            terms["ce"] = config.w_ce * F.cross_entropy(student.scores, batch.labels)
        return terms


def pair_embedding(embedding: Tensor) -> Tensor:
    """Return ``e_q ∘ e_d`` for every candidate, ``(N, K, D)``, from ``(N, 1 + K, D)``."""
    return embedding[:, :1] * embedding[:, 1:]


def split_kl(*, scores: Tensor, split: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Return ``τ²·mean_i KL(targets_i ‖ softmax_d(scores_i/τ)·softmax_s(split_i))``.

    Args:
        scores: the student's, ``(N, K)`` or more columns, of which the targets know nothing and so
            say zero; −inf marks padding.
        split: the student's logits over subclasses of each candidate, ``(N, K, S)``.
        targets: ``(N, K, S)``, sums to 1 over a query's candidates; carries no gradient.
        temperature: ``τ``.
    """
    candidates = targets.shape[1]
    log_candidate = F.log_softmax(scores / temperature, dim=-1)[:, :candidates, None]
    log_student = log_candidate + F.log_softmax(split, dim=-1)
    fixed = targets.detach()
    terms = torch.where(fixed > 0, fixed * (fixed.clamp(min=1e-38).log() - log_student), 0.0)
    return temperature**2 * terms.flatten(1).sum(dim=-1).mean()
