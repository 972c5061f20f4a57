"""What stands in for generated inputs in TGT's controls: all without a generator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bench import Batch
from bench.method import Generation

DROPPED = 0.1  # share of tokens that an augmented text loses


def augmented(batch: Batch, context: Generation) -> Mapping[str, Tensor]:
    """Return the seeds in another view; texts (or queries) with a tenth of their tokens dropped.

    Dropped tokens are masked, which needs no vocabulary (word dropout; Iyyer et al. 2015).  The
    first token of a text stays.
    """
    name = next((each for each in ("attention_mask", "query_mask") if each in batch.inputs), None)
    if name is None:
        return context.another_view(batch.index.cpu().numpy()).inputs
    mask = batch.inputs[name]
    drawn = torch.rand(mask.shape, generator=context.random).to(mask.device)
    kept = mask & (drawn >= DROPPED)
    kept[:, 0] = True
    return {**batch.inputs, name: kept}


def mixed(batch: Batch, context: Generation, *, alpha: float) -> Mapping[str, Tensor]:
    """Return ``λ·x + (1−λ)·x′``, ``λ ~ Beta(α, α)`` (mixup; Zhang et al. 2018, arXiv 1710.09412).

    ``x′`` is another seed of the batch; the teacher labels the mixture.
    """
    image = batch.inputs["image"]
    seed = int(torch.randint(2**62, (1,), generator=context.random))
    share = np.random.default_rng(seed).beta(alpha, alpha, len(image)).astype(np.float32)
    weight = torch.from_numpy(share).to(image.device).view(-1, 1, 1, 1)
    order = torch.randperm(len(image), generator=context.random).to(image.device)
    return {"image": weight * image + (1 - weight) * image[order]}
