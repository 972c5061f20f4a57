"""FitNets for retrieval: the student's embeddings regressed on the teacher's (our adaptation).

The hint of Romero et al. 2015 is a middle layer's; in retrieval it is the embedding itself, of the
query and of every candidate, each matched to the teacher's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    Stage,
    register_method,
)
from bench.errors import NotApplicable
from bench.losses import soft_cross_entropy
from methods.fitnets import FitNetsConfig, FitNetsJointConfig, build_regressor, soft_weight


class EmbeddingHint(Method):
    """What both variants share: one linear regressor for queries and passages."""

    signals = frozenset({"logits", "embedding"})
    families = frozenset({"retrieval"})

    def setup(self, context: Setup) -> None:
        if context.teacher is None:
            raise BenchError("FitNets needs a teacher")
        training = context.student.training
        context.student.eval()
        with torch.no_grad():
            source = context.student(context.probe.inputs).embedding
        context.student.train(training)
        target = context.teacher(context.probe, ()).embedding
        if source is None or target is None or source.shape[:2] != target.shape[:2]:
            raise NotApplicable(
                "a cross-encoder embeds pairs: it has no query and passage embeddings to match"
            )
        self.regressor: nn.Module = build_regressor(source, target, generator=context.generator)

    def distance(self, batch: Batch, student: Output, teacher: Output) -> Tensor:
        """Return ``‖e_t − r(e_s)‖²`` summed over channels, mean over queries and candidates."""
        assert student.embedding is not None and teacher.embedding is not None
        square: Tensor = (teacher.embedding - self.regressor(student.embedding)).pow(2).sum(dim=-1)
        real = batch.inputs["real"]
        counted = torch.cat([torch.ones_like(real[:, :1]), real], dim=1)
        total: Tensor = (square * counted).sum() / counted.sum()
        return total


@register_method("fitnets_retrieval")
class FitNetsRetrieval(EmbeddingHint):
    """Regress the embeddings on the teacher's, then train the whole student on KD.

    Stage 1: ``½‖e_t − r(e_s)‖²`` summed over channels, mean over queries and candidates; no
    labels, no scores.  Stage 2: ``CE + λ(t)·CE(teacher softened, student softened)`` over the
    candidates, as in the two-stage original.  The regressor never ships.
    """

    Config = FitNetsConfig
    config: FitNetsConfig
    space = (
        ("hint_share", 0.1, 0.5, "linear"),
        ("temperature", 1.0, 10.0, "log"),
        ("w_start", 0.5, 8.0, "log"),
    )
    card = Card(
        title="FitNets, retrieval",
        paper="ours, after Romero et al. 2015, arXiv 1412.6550",
        confirmed=("two stages, T = 3, λ from 4 to 1, as in the original",),
        choices=(
            "the hint is the query's and each candidate's embedding, not a middle layer",
            "one linear regressor for both; nothing above the hint is left to hold back in stage 1",
        ),
    )

    def stages(self) -> Sequence[Stage]:
        share = self.config.hint_share
        return (
            Stage("hint", share, evaluate=False, hints=False),
            Stage("distil", 1.0 - share, hints=False),
        )

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        assert teacher is not None
        if progress.stage == "hint":
            return {"hint": 0.5 * self.distance(batch, student, teacher)}
        weight = soft_weight(progress.fraction, self.config.w_start, self.config.w_end)
        soft = soft_cross_entropy(
            student=student.scores, teacher=teacher.scores, temperature=self.config.temperature
        )
        return {"ce": F.cross_entropy(student.scores, batch.labels), "soft": weight * soft}


@register_method("fitnets_retrieval_joint")
class FitNetsRetrievalJoint(EmbeddingHint):
    """Regress the embeddings on the teacher's while training on labels; one stage, no score term.

    ``L = CE(z_s, y) + w_hint·mean‖e_t − r(e_s)‖²``, averaged over channels too.
    """

    Config = FitNetsJointConfig
    config: FitNetsJointConfig
    signals = frozenset({"embedding"})
    space = (("w_hint", 1.0, 1000.0, "log"),)
    card = Card(
        title="FitNets, retrieval, one stage",
        paper="ours, after Romero et al. 2015 as run by Tian et al. 2020, arXiv 1910.10699",
        choices=(
            "the hint is the query's and each candidate's embedding, not a middle layer",
            "weight 100 on the mean squared error, taken over from images",
        ),
    )

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        terms = {"ce": F.cross_entropy(student.scores, batch.labels)}
        if self.config.w_hint and teacher is not None and teacher.embedding is not None:
            width = teacher.embedding.shape[-1]
            distance = self.distance(batch, student, teacher) / width
            terms["hint"] = self.config.w_hint * distance
        return terms
