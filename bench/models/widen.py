"""The same network with every hidden width multiplied, made from a network's own modules.

timm's builders do not share a width argument, so the copy's layers are resized in place: every
layer between the input and the last linear layer gets ``factor`` times the channels, a grouped
convolution as many times the groups, attention as many times the heads of the same size.  Weights
of resized layers are unset: the caller fills them.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bench.errors import NotApplicable
from bench.models.base import Model

# What modules other than the known layers call their widths.
_WIDTHS = ("num_heads", "attn_dim", "num_features", "head_hidden_size", "embed_dim")
_UNKNOWN = (_ConvTransposeNd, nn.RNNBase, nn.MultiheadAttention, nn.Bilinear)


def widen(model: Model, factor: int) -> Model:
    """Return a copy of ``model`` whose hidden layers are ``factor`` times as wide.

    The input of the first layer and the output of the last linear layer keep their size.

    Raises:
        NotApplicable: for a layer that cannot be resized; names it.
    """
    wide = copy.deepcopy(model)
    head = wide.head
    if not isinstance(head, nn.Linear):
        raise NotApplicable(
            f"the last layer of {type(model).__name__} is {type(head).__name__}, not linear",
            "only a linear last layer can be kept while the rest is widened",
        )
    first = next((m for m in wide.modules() if isinstance(m, _ConvNd | nn.Linear)), None)
    with torch.no_grad():
        for name, module in wide.named_modules():
            if isinstance(module, _UNKNOWN):
                raise NotApplicable(
                    f"'{name}' cannot be widened: no rule for {type(module).__name__}"
                )
            _resize(module, factor, first=module is first, last=module is head)
    wide.width *= factor
    return wide.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _resize(module: nn.Module, factor: int, *, first: bool, last: bool) -> None:
    source, target = (1 if first else factor), (1 if last else factor)
    if isinstance(module, _ConvNd):
        grouped = module.groups > 1
        module.in_channels *= source
        module.out_channels *= target
        module.groups *= factor if grouped else 1
        _set(module, "weight", (target, 1 if grouped else source))
        _set(module, "bias", (target,))
    elif isinstance(module, nn.Linear):
        module.in_features *= source
        module.out_features *= target
        _set(module, "weight", (target, source))
        _set(module, "bias", (target,))
    elif isinstance(module, nn.Embedding):
        module.embedding_dim *= factor
        _set(module, "weight", (1, factor))
    elif isinstance(module, _NormBase):
        module.num_features *= factor
        for name in ("weight", "bias", "running_mean", "running_var"):
            _set(module, name, (factor,))
    elif isinstance(module, nn.GroupNorm):
        # one group spans all channels and goes on doing so
        module.num_groups *= factor if module.num_groups > 1 else 1
        module.num_channels *= factor
        for name in ("weight", "bias"):
            _set(module, name, (factor,))
    else:
        _resize_other(module, factor)


def _resize_other(module: Any, factor: int) -> None:
    """Widen a module that is no known layer: its own parameters along their last axis."""
    if shape := getattr(module, "normalized_shape", None):
        module.normalized_shape = (*shape[:-1], shape[-1] * factor)
    for name, value in dict(module.named_parameters(recurse=False)).items():
        if value.shape and value.shape[-1] > 1:
            _set(module, name, (*(1,) * (value.ndim - 1), factor))
    for name in _WIDTHS:
        if isinstance(vars(module).get(name), int):
            setattr(module, name, getattr(module, name) * factor)


def _set(module: nn.Module, name: str, copies: tuple[int, ...]) -> None:
    """Give a parameter or buffer, where it is there, ``copies`` times its size; its values go."""
    old: Tensor | None = getattr(module, name, None)
    if old is None:
        return
    copies = (*copies, *(1,) * (old.ndim - len(copies)))
    shape = [size * times for size, times in zip(old.shape, copies, strict=True)]
    new = old.new_empty(shape)
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        setattr(module, name, new)
