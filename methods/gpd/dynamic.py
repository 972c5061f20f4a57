"""The dynamic teacher: a wider, multi-branch network that holds the student in its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from bench.errors import NotApplicable
from bench.models.base import Model
from bench.training.evaluate import evaluating
from methods.gpd.branches import Branches
from methods.gpd.placement import FUSED, Placement, check_student, match

TOLERANCE = 1e-3  # of the largest logit; float32 rounding is far below, a wrong layer far above


@dataclass(frozen=True)
class Shape:
    """How the dynamic teacher differs from the student.

    Attributes:
        expansion: ``r``, how many times as wide.
        branches: of every convolution; 1 adds none.
        noise: standard deviation of what tells the copies of a weight apart, relative to the
            weight's own.
        matched: whether weights are stored at the student's scale; see :class:`Stored`.
    """

    expansion: int = 2
    branches: int = 1
    noise: float = 0.0
    matched: bool = True


class Stored(nn.Module):
    """What a parameter of the dynamic teacher is made of: branches, a divisor, a gradient factor.

    The teacher's own weight is ``θ = tile(w)/r`` (``r`` where the input axis grew) and the
    student's is ``r·θ``.  Stored as ``θ``, one SGD step of rate ``η`` on the student's loss would
    move the student's weight by ``r²·η`` times its gradient: once ``r`` from the chain rule, once
    from reading the step back.  Stored at the student's scale (``matched``) both factors are 1.
    The gradient that comes from the teacher's own loss is then multiplied by the number of copies
    of the parameter: while the copies are equal, a teacher without added branches moves as the
    student would alone.  (The scale of a branch serves all input copies of its channel, so that it
    moves up to ``r`` times as far.)

    Args:
        divisor: of the stored value, to give the teacher's weight.
        gradient: factor on the gradient from the teacher's own forward pass.
        branches: of a convolution, or ``None``.
    """

    def __init__(self, *, divisor: int, gradient: int, branches: Branches | None) -> None:
        super().__init__()
        self.divisor, self.gradient, self.branches = divisor, gradient, branches

    def merged(self, original: Tensor) -> Tensor:
        """Return the stored weight with its branches merged, before the divisor."""
        return original if self.branches is None else self.branches(original)

    def forward(self, original: Tensor) -> Tensor:
        """Return the teacher's own weight."""
        whole = self.merged(original)
        if self.gradient != 1:
            whole = _ScaleGradient.apply(whole, self.gradient)  # type: ignore[no-untyped-call]
        return whole / self.divisor if self.divisor != 1 else whole


class _ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a constant."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * ctx.factor, None


def build_dynamic(
    student: Model, shape: Shape, *, inputs: Mapping[str, Tensor], generator: torch.Generator
) -> tuple[Model, dict[str, Placement]]:
    """Build the dynamic teacher of ``student`` and say where the student lies in it.

    It computes the student's function, but for the noise, which leaves the student's own block
    alone.  The student is not changed.

    Args:
        student: initialised, every parameter trained.
        shape: how the two differ.
        inputs: a few samples on which the two functions are compared.
        generator: draws branch weights and noise.

    Raises:
        NotApplicable: for a student that cannot be expanded; names the module and the reason.
    """
    check_student(student)
    parameter = next(student.parameters())
    dynamic = _widened(student, shape.expansion).to(parameter.device, parameter.dtype)
    places = match(student, dynamic, shape.expansion)
    _fill(dynamic, student, places)
    _parametrize(dynamic, student, places, shape, generator)
    check_same_function(student, dynamic, inputs, shape.expansion)
    _perturb(dynamic, student, places, shape.noise, generator)
    return dynamic.train(student.training), places


def _widened(student: Model, expansion: int) -> Model:
    try:
        return student.widened(expansion)
    except NotApplicable:
        raise
    except Exception as error:
        raise NotApplicable(
            f"GPD: {type(student).__name__} cannot be built {expansion} times wider: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error


@torch.no_grad()
def _fill(dynamic: nn.Module, student: nn.Module, places: Mapping[str, Placement]) -> None:
    """Give the wider network the student's values, repeated but not yet divided."""
    state = dynamic.state_dict()
    for name, value in student.state_dict().items():
        state[name].copy_(places[name].tile(value))


def _parametrize(
    dynamic: nn.Module,
    student: nn.Module,
    places: Mapping[str, Placement],
    shape: Shape,
    generator: torch.Generator,
) -> None:
    for name, own in student.named_parameters():
        place = places[name]
        owner, _, leaf = name.rpartition(".")
        module = dynamic.get_submodule(owner)
        branches = None
        if shape.branches > 1 and isinstance(module, _ConvNd) and leaf == "weight":
            branches = Branches(
                tuple(own.shape),
                groups=module.groups,
                count=shape.branches,
                place=place,
                generator=generator,
            ).to(own.device, own.dtype)
        if not shape.matched:
            with torch.no_grad():
                getattr(module, leaf).div_(place.divisor)
        divisor, gradient = (place.divisor, place.count) if shape.matched else (1, 1)
        if branches is not None or (divisor, gradient) != (1, 1):
            stored = Stored(divisor=divisor, gradient=gradient, branches=branches)
            parametrize.register_parametrization(module, leaf, stored, unsafe=True)


@torch.no_grad()
def _perturb(
    dynamic: nn.Module,
    student: nn.Module,
    places: Mapping[str, Placement],
    noise: float,
    generator: torch.Generator,
) -> None:
    """Add noise to every matrix and kernel outside the student's own block.

    Identical copies would get identical gradients from the teacher's loss for ever.
    """
    for name, own in student.named_parameters():
        place = places[name]
        if not noise or own.ndim < 2 or place.count == 1:
            continue
        value = _stored(dynamic, name)[0]
        drawn = torch.randn(value.shape, generator=generator).to(value)
        drawn *= noise * place.take(value).std()
        place.block(drawn).zero_()
        value.add_(drawn)


def _stored(dynamic: nn.Module, name: str) -> tuple[Tensor, Stored | None]:
    """Return the trained tensor behind the student's parameter ``name`` and how it is stored."""
    owner, _, leaf = name.rpartition(".")
    module = dynamic.get_submodule(owner)
    if parametrize.is_parametrized(module, leaf):
        chain: Any = module.parametrizations[leaf]  # type: ignore[index]
        return chain.original, chain[0]
    return getattr(module, leaf), None


def student_weights(
    dynamic: nn.Module, student: nn.Module, places: Mapping[str, Placement]
) -> dict[str, Tensor]:
    """Extract the student from the dynamic teacher: its parameters by name, with gradients.

    Channel-branch reparameterization: branches merged, then the student's block, times ``r`` where
    the input axis grew.  Nothing is trained for it.  In the memory layout of the student's own
    parameters, so that kernels run as they do when it is deployed.
    """
    found = {}
    for name, own in student.named_parameters():
        original, stored = _stored(dynamic, name)
        place = places[name]
        whole = original if stored is None else stored.merged(original)
        value = place.take(whole)
        left = place.divisor // (stored.divisor if stored else 1)
        value = value * left if left != 1 else value
        found[name] = torch.empty_like(own).copy_(value)
    return found


def check_same_function(
    student: Model, dynamic: Model, inputs: Mapping[str, Tensor], expansion: int
) -> None:
    """Compare the two on ``inputs`` in evaluation mode.

    Raises:
        NotApplicable: naming the first module whose output is not the student's, repeated.
    """
    with evaluating(student), evaluating(dynamic), torch.backends.cudnn.flags(allow_tf32=False):
        small, large = _outputs(student, inputs), _outputs(dynamic, inputs)
    if repeats(small[""][1], large[""][1]):
        return
    for name, (_, value) in large.items():
        if name in small and not repeats(small[name][1], value):
            kind = small[name][0]
            where = f"'{name}' ({kind})" if name else kind
            raise NotApplicable(
                f"GPD: {where} does not repeat the student's output when {expansion} times wider",
                "it may mix channels in a way that depends on how many there are",
            )


def _outputs(model: Model, inputs: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """Return what each module gave, in the order they ended; the logits last, under ``""``."""
    found: dict[str, tuple[str, Tensor]] = {}

    def keep(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, arguments: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found[name] = (type(module).__name__, output)

        return hook

    hooks = [
        module.register_forward_hook(keep(name, module))
        for name, module in model.named_modules()
        if name
    ]
    try:
        logits = model(inputs).scores
    except (RuntimeError, ValueError, IndexError) as error:
        raise NotApplicable(
            f"GPD: {type(model).__name__} does not run when wider: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    # where a list is only filled up, a retriever scores −inf
    return found | {"": (type(model).__name__, logits.masked_fill(logits == -torch.inf, 0.0))}


def repeats(small: Tensor, large: Tensor) -> bool:
    """Return whether ``large`` is ``small``, repeated along the axes that grew."""
    if small.ndim != large.ndim:
        return False
    sizes = list(zip(small.shape, large.shape, strict=True))
    if not small.numel() or any(big % own for own, big in sizes):
        return False
    copies = tuple(big // own for own, big in sizes)
    scale = float(small.abs().max())
    candidates = [small.repeat(copies)]
    if copies[-1] > 1:  # fused projections lie side by side on the last axis
        for parts in set(FUSED.values()):
            if small.shape[-1] % parts == 0:
                split = small.unflatten(-1, (parts, -1))  # type: ignore[no-untyped-call]
                candidates.append(split.repeat(*copies[:-1], 1, copies[-1]).flatten(-2))
    return any(float((large - each).abs().max()) <= TOLERANCE * scale + 1e-6 for each in candidates)
