"""Image models from timm: the CIFAR networks of the distillation literature, or any timm name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import timm
import torch
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import Tensor, nn

from bench.errors import BenchError
from bench.models.base import Model
from bench.types import Output

_RESNET = re.compile(r"resnet(?P<depth>\d+)(?:x(?P<factor>\d+))?(?:w(?P<width>\d+))?(?P<half>s2)?")


class VisionModel(Model):
    """A timm network behind the suite's interface; hidden layer ``k`` is its stage ``k``.

    Inputs: ``image`` ``(N, 3, H, W)``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.depth = len(network.feature_info)
        self.width = int(network.head_hidden_size)  # type: ignore[arg-type]

    def forward(
        self, inputs: Mapping[str, Tensor], *, hidden: Sequence[int] = (), until: int | None = None
    ) -> Output:
        image = inputs["image"]
        if until is not None:
            maps = self.network.forward_intermediates(
                image, indices=sorted({*hidden, until}), stop_early=True, intermediates_only=True
            )
            return Output(hidden=dict(zip(sorted({*hidden, until}), maps, strict=True)))
        found: dict[int, Tensor] = {}
        if hidden:
            features, maps = self.network.forward_intermediates(image, indices=sorted(set(hidden)))
            found = dict(zip(sorted(set(hidden)), maps, strict=True))
        else:
            features = self.network.forward_features(image)
        embedding = self.network.forward_head(features, pre_logits=True)
        return Output(logits=self.head(embedding), embedding=embedding, hidden=found)

    @property
    def head(self) -> nn.Linear:
        return self.network.get_classifier()  # type: ignore[no-any-return, operator]


def cifar_resnet(
    depth: int, *, num_classes: int, factor: int = 1, width: int = 16, stem_stride: int = 1
) -> ByobNet:
    """Build a CIFAR ResNet of depth 6n + 2 (He et al. 2016, §4.2).

    Args:
        depth: number of weighted layers, 6n + 2.
        num_classes: size of the head.
        factor: channel multiplier; 4 gives the ``x4`` networks of Tian et al. 2020, whose stem has
            32 channels.
        width: channels of the first stage before the multiplier.
        stem_stride: 1 as published; 2 halves the working resolution (a quarter of the cost).
    """
    if depth < 8 or (depth - 2) % 6:
        raise BenchError(f"resnet{depth} is not a CIFAR ResNet", "the depth is 6n + 2: 8, 14, 20 …")
    if width % 8:
        raise BenchError(f"width {width} is not a multiple of 8", "timm rounds channels to eights")
    blocks = tuple(
        ByoBlockCfg(
            "basic", d=(depth - 2) // 6, c=width * multiple * factor, s=stride, gs=0, br=1.0
        )
        for multiple, stride in ((1, 1), (2, 2), (4, 2))
    )
    stem = width if factor == 1 else width * 2
    config = ByoModelCfg(blocks=blocks, stem_chs=stem, stem_type="3x3", stem_pool="")
    network = ByobNet(config, num_classes=num_classes)
    if stem_stride == 1:
        network.stem.conv.stride = (1, 1)
        # timm notes the reductions of the stride-2 stem it built; keep its book true
        for info in network.feature_info:
            info["reduction"] = max(info["reduction"] // 2, 1)
    return network


def build_vision(name: str, *, num_classes: int, pretrained: bool = False) -> VisionModel:
    """Build the image model called ``name``.

    ``resnet20``, ``resnet8x4``, ``resnet8w8`` (first stage of 8 channels), ``resnet8w8s2`` (stem
    of stride 2), or ``timm:ANY_TIMM_NAME``.

    Raises:
        BenchError: for a name that is none of these.
    """
    if name.startswith("timm:"):
        return VisionModel(_timm(name.removeprefix("timm:"), num_classes, pretrained))
    match = _RESNET.fullmatch(name)
    if match:
        network = cifar_resnet(
            int(match["depth"]),
            num_classes=num_classes,
            factor=int(match["factor"] or 1),
            width=int(match["width"] or 16),
            stem_stride=2 if match["half"] else 1,
        )
        return VisionModel(network)
    raise BenchError(
        f"unknown image model '{name}'", "resnetD, resnetDxK, resnetDwW, resnetDwWs2 or timm:NAME"
    )


def _timm(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    if not timm.is_model(name):
        close = timm.list_models(f"{name[:5]}*")[:3]
        hint = f"close: {', '.join(close)}" if close else "see timm.list_models()"
        raise BenchError(f"timm has no model '{name}'", hint)
    return timm.create_model(name, num_classes=num_classes, pretrained=pretrained)  # type: ignore[no-any-return]
