"""Folding keeps the function of a frozen network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.models.fold import for_inference
from bench.models.vision import build_vision


def _trained(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = build_vision(name, num_classes=10).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    return model.eval()


@pytest.mark.parametrize(
    "name", ["resnet14", "resnet8x4", "wrn-10-1", "vgg8", "timm:mobilenetv2_050"]
)
def test_folding_keeps_the_function(name: str) -> None:
    model = _trained(name)
    inputs = {"image": torch.randn(2, 3, 32, 32, dtype=torch.double)}
    before = model(inputs, hidden=(0, 1))
    after = for_inference(model)(inputs, hidden=(0, 1))  # type: ignore[arg-type]
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(after.embedding, before.embedding, rtol=1e-9, atol=1e-9)
    for layer in (0, 1):
        torch.testing.assert_close(after.hidden[layer], before.hidden[layer], rtol=1e-9, atol=1e-9)


def test_a_cifar_resnet_keeps_no_normalisation_and_trains_nothing() -> None:
    model = for_inference(_trained("resnet14"))  # type: ignore[arg-type]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
