"""Image models from timm: the CIFAR networks of the distillation literature, or any timm name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from bench.errors import BenchError, first_line
from bench.models.base import Model
from bench.models.cifar import CifarVgg, cifar_resnet, wide_resnet
from bench.models.widen import widen
from bench.types import Output

_RESNET = re.compile(
    r"resnet(?P<depth>\d+)(?:x(?P<factor>\d+))?(?:w(?P<width>\d+))?(?P<half>s2)?(?P<ones>\+ones)?"
)

_WIDE = re.compile(r"wrn-(?P<depth>\d+)-(?P<factor>\d+)")
_VGG = re.compile(r"vgg(?P<depth>\d+)")
KNOWN = (
    "resnetD, resnetDxK, resnetDwW, resnetDwWs2, each also with +ones, wrn-D-K, vggD or "
    "timm:NAME[@pretrained]"
)


class VisionModel(Model):
    """A timm network behind the suite's interface; hidden layer ``k`` is its stage ``k``.

    Inputs: ``image`` ``(N, 3, H, W)``.
    """

    network: Any  # timm's models share these methods, but no common type

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        features = len(self.network.feature_info)
        self.depth = len(getattr(self.network, "stages", ())) or features
        self.first = features - self.depth  # timm may list the stem before the stages
        self.width = int(self.network.head_hidden_size)

    def forward(
        self, inputs: Mapping[str, Tensor], *, hidden: Sequence[int] = (), until: int | None = None
    ) -> Output:
        image = inputs["image"]
        layers = sorted({*hidden} if until is None else {*hidden, until})
        indices = [layer + self.first for layer in layers]
        if until is not None:
            maps = self.network.forward_intermediates(
                image, indices=indices, stop_early=True, intermediates_only=True
            )
            return Output(hidden=dict(zip(layers, maps, strict=True)))
        maps = []
        if layers:
            features, maps = self.network.forward_intermediates(image, indices=indices)
        else:
            features = self.network.forward_features(image)
        embedding = self.network.forward_head(features, pre_logits=True)
        hints = dict(zip(layers, maps, strict=True))
        return Output(logits=self.head(embedding), embedding=embedding, hidden=hints)

    @property
    def head(self) -> nn.Linear:
        return self.network.get_classifier()  # type: ignore[no-any-return]

    def widened(self, factor: int) -> Model:
        return widen(self, factor)


def build_vision(name: str, *, num_classes: int) -> VisionModel:
    """Build the image model called ``name``.

    ``resnet20``, ``resnet8x4``, ``resnet8w8`` (first stage of 8 channels), ``resnet8w8s2`` (stem
    of stride 2), ``resnet20+ones`` (residual branches start as published), ``wrn-40-2``, ``vgg13``,
    ``timm:ANY_TIMM_NAME``, or the same with ``@pretrained`` for the weights that timm publishes.

    Raises:
        BenchError: for a name that is none of these.
    """
    if name.startswith("timm:"):
        bare, _, weights = name.removeprefix("timm:").partition("@")
        if weights not in ("", "pretrained"):
            raise BenchError(f"unknown weights '{weights}' in '{name}'", "timm:NAME@pretrained")
        return VisionModel(_timm(bare, num_classes, pretrained=bool(weights)))
    if match := _RESNET.fullmatch(name):
        network = cifar_resnet(
            int(match["depth"]),
            num_classes=num_classes,
            factor=int(match["factor"] or 1),
            width=int(match["width"] or 16),
            stem_stride=2 if match["half"] else 1,
            from_zero=not match["ones"],
        )
        return VisionModel(network)
    if match := _WIDE.fullmatch(name):
        depth, factor = int(match["depth"]), int(match["factor"])
        return VisionModel(wide_resnet(depth, factor, num_classes=num_classes))
    if match := _VGG.fullmatch(name):
        return VisionModel(CifarVgg(int(match["depth"]), num_classes=num_classes))
    raise BenchError(f"unknown image model '{name}'", KNOWN)


def _timm(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close else "see timm.list_models()"
        raise BenchError(f"timm has no model '{name}'", hint)
    try:
        model: nn.Module = timm.create_model(name, num_classes=num_classes, pretrained=pretrained)
    except Exception as error:
        raise BenchError(f"timm cannot make '{name}': {first_line(error)}") from error
    _check(model, name)
    return model


@torch.no_grad()
def _check(network: Any, name: str) -> None:
    """Refuse a network that is more than features and one linear layer on them.

    Its logits would not be those of :class:`VisionModel`.

    Raises:
        BenchError: naming it.
    """
    size = (network.pretrained_cfg or {}).get("input_size", (3, 224, 224))
    noise = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    training = network.training
    network.eval()
    try:
        own = network(noise)
        ours = VisionModel(network)({"image": noise}).scores
        alike = own.shape == ours.shape and torch.allclose(own, ours, rtol=1e-3, atol=1e-4)
    except Exception as error:
        raise _not_linear(name) from error
    finally:
        network.train(training)
    if not alike:
        raise _not_linear(name)


def _not_linear(name: str) -> BenchError:
    return BenchError(
        f"timm's '{name}' is no network of features and one linear layer",
        "another one, such as timm:resnet18",
    )
