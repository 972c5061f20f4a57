"""CRD: contrastive representation distillation (Tian et al. 2020, arXiv 1910.10699)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from bench import (
    Batch,
    BenchError,
    Card,
    Config,
    Method,
    Output,
    Progress,
    Setup,
    register_method,
)
from bench.losses import soft_kl
from bench.training.streams import stream_seed
from methods.embedding import linear_projector, teacher_width


class CRDConfig(Config):
    """Options of CRD; the defaults are the published CIFAR settings.

    Attributes:
        negatives: ``K``, samples of other classes that each sample is held against; all of them
            where there are fewer.
        nce_temperature: of the exponential family of scores.
        momentum: what a bank entry keeps of itself when its sample comes by.
        dimensions: width of the two heads.
        w_ce: weight of the hard-label cross-entropy.
        w_crd: weight of the contrastive term.
        w_kd: weight of an added KD term; 0 leaves it out, 1 is the published CRD+KD.
        temperature: ``T`` of that term.
    """

    negatives: int = Field(default=16384, ge=1)
    nce_temperature: float = Field(default=0.07, gt=0)
    momentum: float = Field(default=0.5, ge=0, lt=1)
    dimensions: int = Field(default=128, ge=1)
    w_ce: float = Field(default=1.0, ge=0)
    w_crd: float = Field(default=0.8, ge=0)
    w_kd: float = Field(default=0.0, ge=0)
    temperature: float = Field(default=4.0, gt=0)


@register_method("crd")
class CRD(Method):
    """Tell the teacher's embedding of the same sample from those of other classes.

    ``L = w_ce·CE(z_s, y) + w_crd·(L_S + L_T)``.  Two linear heads map both embeddings to the unit
    sphere of 128 dimensions; two banks hold the running head outputs of every training sample.
    ``L_S`` holds the student's output against the teacher's bank and ``L_T`` the other way round,
    by noise-contrastive estimation: one positive, the sample itself, and ``K`` negatives of other
    classes (eq. 18).  Heads and banks are thrown away.
    """

    Config = CRDConfig
    config: CRDConfig
    signals = frozenset({"logits", "embedding"})
    families = frozenset({"image", "text"})
    space = (
        ("nce_temperature", 0.02, 0.5, "log"),
        ("w_crd", 0.05, 2.0, "log"),
        ("w_kd", 0.0, 1.0, "linear"),
    )
    card = Card(
        title="CRD",
        paper="Tian, Krishnan and Isola 2020, arXiv 1910.10699",
        confirmed=(
            "two 128-d linear heads, normalised; banks with momentum 0.5; temperature 0.07",
            "both directions; negatives of other classes, drawn without replacement",
            "the normaliser Z estimated on the first batch and kept",
            "K = 16384, weight 0.8 beside a label weight of 1",
        ),
        choices=(
            "K is capped at the number of samples of other classes (the released code repeats "
            "them), which on the small presets makes the contrast exhaustive",
            "one draw of negatives a step, shared by the batch: each sample's own are uniform, "
            "but not independent of its neighbours'",
            "computed through log-sigmoids, without the released code's ε",
        ),
    )
    labels: Tensor
    student_bank: Tensor
    teacher_bank: Tensor
    log_z: Tensor

    def setup(self, context: Setup) -> None:
        if context.teacher is None:
            raise BenchError("CRD needs a teacher")
        config, generator = self.config, context.generator
        device = context.probe.labels.device
        widths = context.student.width, teacher_width(context)
        self.student_head, self.teacher_head = (
            linear_projector(width, config.dimensions, generator=generator).to(device)
            for width in widths
        )
        labels = training_labels(context)
        self.largest = largest_class(labels)
        # persistent: a resumed run goes on with the banks it had
        for name in ("student_bank", "teacher_bank"):
            bank = initial_bank(len(labels), config.dimensions, generator)
            self.register_buffer(name, bank.to(device))
        self.register_buffer("log_z", torch.full((2,), torch.nan, device=device))
        self.register_buffer("labels", labels.to(device), persistent=False)
        self.seed = int(torch.randint(2**62, (), generator=generator))

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        config = self.config
        terms = {"ce": config.w_ce * F.cross_entropy(student.scores, batch.labels)}
        if teacher is None:
            return terms
        if config.w_crd:
            assert student.embedding is not None and teacher.embedding is not None
            ours = F.normalize(self.student_head(student.embedding), dim=1)
            theirs = F.normalize(self.teacher_head(teacher.embedding), dim=1)
            terms["crd"] = config.w_crd * self._contrast(batch, ours, theirs, progress.step)
            self.student_bank.index_copy_(
                0, batch.index, moved(self.student_bank[batch.index], ours, config.momentum)
            )
            self.teacher_bank.index_copy_(
                0, batch.index, moved(self.teacher_bank[batch.index], theirs, config.momentum)
            )
        if config.w_kd:
            terms["kd"] = config.w_kd * soft_kl(
                student=student.scores, teacher=teacher.scores, temperature=config.temperature
            )
        return terms

    def _contrast(self, batch: Batch, ours: Tensor, theirs: Tensor, step: int) -> Tensor:
        """Return ``L_S + L_T`` for head outputs ``(N, F)`` of both sides."""
        count = self.config.negatives
        pool = draw_pool(
            len(self.labels), count + self.largest, stream_seed(self.seed, "negatives", step)
        ).to(ours.device)
        chosen = choose_negatives(self.labels[pool], batch.labels, count)
        total = ours.new_zeros(())
        estimates = []
        for anchor, bank, log_z in zip(
            (ours, theirs), (self.teacher_bank, self.student_bank), self.log_z, strict=True
        ):
            positive = (anchor * bank[batch.index]).sum(dim=1) / self.config.nce_temperature
            negative = anchor @ bank[pool].T / self.config.nce_temperature
            estimate = log_normaliser(positive, negative, chosen, len(self.labels))
            estimates.append(torch.where(log_z.isnan(), estimate, log_z))
            total = total + nce_loss(
                positive - estimates[-1], negative - estimates[-1], chosen, len(self.labels)
            )
        self.log_z.copy_(torch.stack(estimates))
        return total


def nce_loss(positive: Tensor, negative: Tensor, chosen: Tensor, rows: int) -> Tensor:
    """Return the noise-contrastive loss, summed over negatives and averaged over the batch.

    ``−log(P⁺ / (P⁺ + m/n)) − Σ_k log((m/n) / (P_k + m/n))``, with ``m`` the sample's number of
    negatives and ``1/n`` the noise distribution (Tian et al. 2020, eq. 18).

    Args:
        positive: log-scores of the positives, normalised, ``(N,)``.
        negative: log-scores over the pool, normalised, ``(N, M)``.
        chosen: which of the pool are a sample's negatives, ``(N, M)`` bool.
        rows: ``n``, training samples.
    """
    noise = (chosen.sum(dim=1).to(negative.dtype) / rows).log()
    told = F.logsigmoid(positive - noise)
    refused = F.logsigmoid(noise[:, None] - negative) * chosen
    return -(told + refused.sum(dim=1)).mean()


def log_normaliser(positive: Tensor, negative: Tensor, chosen: Tensor, rows: int) -> Tensor:
    """Return ``log Z``: the mean of all scores exp(·), times ``rows``, without gradient."""
    scores = negative.detach().masked_fill(~chosen, -torch.inf)
    count = len(positive) + chosen.sum()
    total = torch.cat([positive.detach(), scores.flatten()]).logsumexp(dim=0)
    return total - count.to(total.dtype).log() + math.log(rows)


def draw_pool(rows: int, size: int, seed: int) -> Tensor:
    """Return ``size`` different training samples in random order, all in their own where fewer.

    With the largest class's size over ``K``, every sample finds ``K`` of other classes in it.
    """
    if size >= rows:
        return torch.arange(rows)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return order[:size]


def choose_negatives(pool: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return which of the pool each sample is held against, ``(N, M)`` bool.

    The first ``count`` of another class, in the pool's order: a uniform draw without replacement
    where the pool's order is random.  A pool of all samples has their own order; a sample of a rare
    class with more than ``count`` others then always meets the same ones.

    Args:
        pool: classes of the pool ``(M,)``.
        labels: classes of the batch ``(N,)``.
        count: ``K``.
    """
    other = pool[None, :] != labels[:, None]
    return other & (other.cumsum(dim=1) <= count)


def moved(entries: Tensor, outputs: Tensor, momentum: float) -> Tensor:
    """Return bank entries ``(N, F)`` moved towards new outputs and put back on the sphere."""
    return F.normalize(momentum * entries + (1.0 - momentum) * outputs.detach(), dim=1)


def initial_bank(rows: int, width: int, generator: torch.Generator) -> Tensor:
    """Return a bank ``(rows, width)``, uniform in ±√(3/width): unit length on average."""
    bound = math.sqrt(3.0 / width)
    return torch.empty(rows, width).uniform_(-bound, bound, generator=generator)


def training_labels(context: Setup) -> Tensor:
    """Return the label of every training sample by its index, ``(n,)`` int64."""
    batches = [(batch.index.cpu(), batch.labels.cpu()) for batch in context.training_batches()]
    if not batches:
        raise BenchError("CRD needs training samples to keep a bank of")
    index, found = (torch.cat(parts) for parts in zip(*batches, strict=True))
    labels = torch.empty_like(found)
    labels[index] = found
    return labels


def largest_class(labels: Tensor) -> int:
    """Return the number of samples of the largest class.

    Raises:
        BenchError: when it is the only one, so that there is nothing to contrast with.
    """
    largest = int(labels.bincount().max())
    if largest == len(labels):
        raise BenchError(
            f"CRD: all {largest} training samples are of class {int(labels[0])}",
            "negatives come from other classes: at least two are needed",
        )
    return largest
