"""Small students of every family, in any precision, and networks that cannot be expanded."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.models.base import Model
from bench.models.text import build_text
from bench.models.vision import VisionModel, build_vision
from bench.types import Output

Inputs = dict[str, Tensor]
# name, side of the images (0: text), most branches that are cheap enough for it
FAMILIES = {
    "resnet": ("resnet8w8", 16, 6),
    "wide resnet": ("wrn-10-1", 16, 6),
    "vgg": ("vgg8", 16, 1),
    "mobilenet": ("timm:mobilenetv3_small_050", 32, 2),
    "bert": ("bert-L2-H32", 0, 1),
}


def make_student(family: str, dtype: torch.dtype = torch.float64) -> tuple[Model, Inputs]:
    """Return a student of ``family`` without dropout whose every layer matters, and inputs."""
    torch.manual_seed(3)
    name, side, _ = FAMILIES[family]
    if side:
        student: Model = build_vision(name, num_classes=4)
        inputs = {"image": torch.randn(5, 3, side, side, dtype=dtype)}
    else:
        student = build_text(name, num_classes=4)
        mask = torch.arange(7)[None, :] < torch.tensor([[7], [5], [6], [3], [7]])
        inputs = {"input_ids": torch.randint(5, 900, (5, 7)), "attention_mask": mask}
    liven(student)
    return student.to(dtype), inputs


@torch.no_grad()
def liven(model: nn.Module) -> None:
    """Give every parameter and statistic a value of its own; switch dropout off."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(0.1 * torch.rand_like(buffer))


class Toy(Model):
    """A network of the test's own whose wider copy is built by ``make``."""

    def __init__(self, make: Callable[[int], nn.Module], size: int = 1) -> None:
        super().__init__()
        self.make = make
        self.network = make(size)
        self.depth, self.width = 0, 0

    def forward(self, inputs: Any, *, hidden: Any = (), until: Any = None) -> Output:
        return Output(logits=self.network(inputs["image"]))

    @property
    def head(self) -> nn.Linear:
        return list(self.network.children())[-1]  # type: ignore[return-value]

    def widened(self, factor: int) -> Model:
        return Toy(self.make, factor)


@pytest.fixture(scope="session")
def gpd() -> SimpleNamespace:
    """Return what the tests build from: FAMILIES, make_student, liven, Toy, VisionModel."""
    return SimpleNamespace(
        FAMILIES=FAMILIES,
        make_student=make_student,
        liven=liven,
        Toy=Toy,
        VisionModel=VisionModel,
    )
