"""The CIFAR networks of the distillation literature, built from timm's parts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from timm.layers.classifier import ClassifierHead
from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.create_conv2d import create_conv2d
from timm.layers.norm_act import BatchNormAct2d
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from bench.errors import BenchError

_VGG = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3)}


def cifar_resnet(
    depth: int,
    *,
    num_classes: int,
    factor: int = 1,
    width: int = 16,
    stem_stride: int = 1,
    from_zero: bool = True,
) -> ByobNet:
    """Build a CIFAR ResNet of depth 6n + 2 (He et al. 2016, §4.2).

    Args:
        depth: number of weighted layers, 6n + 2.
        num_classes: size of the head.
        factor: channel multiplier; 4 gives the ``x4`` networks of Tian et al. 2020, whose stem has
            32 channels.
        width: channels of the first stage before the multiplier.
        stem_stride: 1 as published; 2 halves the working resolution (a quarter of the cost).
        from_zero: whether the last batch norm of each block starts with a weight of zero, timm's
            default, or with one, as published.
    """
    if depth < 8 or (depth - 2) % 6:
        raise BenchError(f"resnet{depth} is not a CIFAR ResNet", "the depth is 6n + 2: 8, 14, 20 …")
    if width < 8 or width % 8:
        raise BenchError(f"width {width} is not a multiple of 8", "timm rounds channels to eights")
    blocks = tuple(
        ByoBlockCfg(
            "basic", d=(depth - 2) // 6, c=width * multiple * factor, s=stride, gs=0, br=1.0
        )
        for multiple, stride in ((1, 1), (2, 2), (4, 2))
    )
    stem = width if factor == 1 else width * 2
    config = ByoModelCfg(blocks=blocks, stem_chs=stem, stem_type="3x3", stem_pool="")
    network = ByobNet(config, num_classes=num_classes, zero_init_last=from_zero)
    if stem_stride == 1:
        network.stem.conv.stride = (1, 1)
        # timm notes the reductions of the stride-2 stem it built; keep its book true
        for info in network.feature_info:
            info["reduction"] = max(info["reduction"] // 2, 1)
    return network


def wide_resnet(depth: int, factor: int, *, num_classes: int) -> ResNetV2:
    """Build a wide ResNet of depth 6n + 4 (Zagoruyko and Komodakis 2016, arXiv 1605.07146).

    timm's pre-activation ResNet with basic blocks, a 3×3 stem of stride 1 and a linear head.
    """
    if depth < 10 or (depth - 4) % 6 or factor < 1:
        raise BenchError(f"wrn-{depth}-{factor} is not a wide ResNet", "the depth is 6n + 4")
    network = ResNetV2(
        layers=[(depth - 4) // 6] * 3,
        channels=(16 * factor, 32 * factor, 64 * factor),
        stem_chs=16,
        num_classes=num_classes,
        basic=True,
        bottle_ratio=1.0,
        norm_layer=BatchNormAct2d,
        conv_layer=create_conv2d,
    )
    stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.stem = nn.Sequential(stem)
    network.head = ClassifierHead(network.num_features, num_classes)
    nn.init.normal_(network.head.fc.weight, std=0.01)
    nn.init.zeros_(network.head.fc.bias)
    return network


class CifarVgg(nn.Module):
    """VGG with batch normalisation for 32×32 images (as in Tian et al. 2020): five blocks, mean
    pooling, one linear layer.  Speaks timm's interface."""

    def __init__(self, depth: int, *, num_classes: int) -> None:
        super().__init__()
        if depth not in _VGG:
            raise BenchError(f"vgg{depth} is not there", f"depths {sorted(_VGG)}")
        block = partial(ConvNormAct, kernel_size=3, bias=True)
        channels, stages = 3, []
        for count, width in zip(_VGG[depth], (64, 128, 256, 512, 512), strict=True):
            layers = [block(channels if at == 0 else width, width) for at in range(count)]
            stages.append(nn.Sequential(*layers))
            channels = width
        self.stages = nn.ModuleList(stages)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(512, num_classes)
        self.head_hidden_size = 512
        self.feature_info = [{"module": f"stages.{at}"} for at in range(len(stages))]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward_intermediates(
        self,
        image: Tensor,
        indices: Sequence[int],
        *,
        stop_early: bool = False,
        intermediates_only: bool = False,
    ) -> Any:
        """Return (features, maps of the stages in ``indices``), or the maps only."""
        maps = []
        stages = list(self.stages)[: max(indices) + 1] if stop_early else list(self.stages)
        for at, stage in enumerate(stages):
            # the last two blocks work at the same resolution on 32×32 images
            image = stage(self.pool(image) if 0 < at < 4 else image)
            if at in indices:
                maps.append(image)
        return maps if intermediates_only else (image, maps)

    def forward_features(self, image: Tensor) -> Tensor:
        """Return the last feature map, ``(N, 512, H/8, W/8)``."""
        features: Tensor = self.forward_intermediates(image, ())[0]
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the embedding ``(N, 512)``, or logits."""
        embedding = torch.mean(features, dim=(2, 3))
        return embedding if pre_logits else self.fc(embedding)  # type: ignore[no-any-return]

    def get_classifier(self) -> nn.Linear:
        """Return the linear layer."""
        return self.fc
