"""The contract of a distillation method.

A method is one file with one registered class.  It sees batches, outputs and progress, and nothing
of the task, the data source or the disk.  It is a ``torch.nn.Module``, so that whatever it trains
beside the student (a regressor, a projector) is found by assigning it in :meth:`Method.setup`.
The teacher and the student must never be assigned to ``self``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from bench import config as configuration
from bench.card import Card
from bench.models.base import Model
from bench.types import Batch, Output

if TYPE_CHECKING:
    from bench.data.unlabelled import Unlabelled
    from bench.generators.base import Generator

PROBE_SIZE = 8  # samples of :attr:`Setup.probe`


@dataclass(frozen=True)
class Stage:
    """A part of the training budget.

    Attributes:
        name: shown in progress and kept in the record.
        share: its part of the cell's epochs, in (0, 1]; the shares of a method add up to 1, so
            that every method takes the same number of optimiser steps.
        until: train the student only up to this hidden layer (nothing above it
            learns; see :meth:`bench.models.base.Model.forward`).
        evaluate: whether the student is a working model in this stage and may be selected.
        hints: whether the loss needs the hidden states of :meth:`Method.hints` in this stage.
    """

    name: str = "main"
    share: float = 1.0
    until: int | None = None
    evaluate: bool = True
    hints: bool = True


@dataclass(frozen=True)
class Progress:
    """Where training stands when a loss is asked for.

    Attributes:
        stage: the stage's name.
        step: optimiser steps done in this stage.
        steps: optimiser steps of this stage.
    """

    stage: str
    step: int
    steps: int

    @property
    def fraction(self) -> float:
        """Return the position in the stage, 0 at its first step and 1 at its last."""
        return self.step / max(self.steps - 1, 1)


@dataclass(frozen=True)
class Setup:
    """What a method may look at before training.

    Attributes:
        student: the freshly initialised student, on its device and in training mode: a pass through
            it here moves its batch norm's running statistics unless it is set to ``eval()`` first.
        num_classes: number of classes ``C``.
        family: "image", "text" or "retrieval".
        pairs: layer map ``(student layer, teacher layer)``, uniform, shallow to deep.
        probe: a small batch of training data, un-augmented.
        teacher: gives the teacher's output for a batch and hidden layers; ``None`` for a method
            that asks for no signal.
        head: weight of the teacher's last linear layer, ``(C, D)``; ``None`` unless asked for.
        training_batches: yields the whole training split once, un-augmented, for fit-time passes.
        generator: the method's own random stream, apart from all others.
        subclasses: finer true labels of the training samples, ``(N,)`` int64, indexed as
            ``Batch.index`` says; given to an oracle only (:meth:`Method.oracle`), and ``None``
            where the task has none.
        unlabelled: training inputs whose labels are hidden, in a task's low-label variant.  Ask
            ``teacher`` about its batches freely: what is not cached is computed live.
        generator_model: the frozen generator; ``None`` unless asked for.
    """

    student: Model
    num_classes: int
    family: str
    pairs: Sequence[tuple[int, int]]
    probe: Batch
    teacher: Callable[[Batch, Sequence[int]], Output] | None
    head: Tensor | None
    training_batches: Callable[[], Iterable[Batch]]
    generator: torch.Generator
    subclasses: Tensor | None = None
    unlabelled: Unlabelled | None = None
    generator_model: Generator | None = None


@dataclass(frozen=True)
class Generation:
    """What a method may use to make inputs of its own in a training step.

    Attributes:
        generator: frozen; ``None`` unless asked for.
        teacher: gives the teacher's float32 output for any inputs; a gradient flows to them.
        student: likewise, in evaluation mode; its parameters collect no gradient.  ``None`` where
            inputs are generated before training.
        another_view: gives training samples in a view that is not the step's own.
        random: a random stream for this step only.
    """

    generator: Generator | None
    teacher: Callable[[Mapping[str, Tensor]], Output]
    student: Callable[[Mapping[str, Tensor]], Output] | None
    another_view: Callable[[np.ndarray], Batch]
    random: torch.Generator


class Method(nn.Module):
    """Base class of all methods; a subclass overrides what it needs, at least :meth:`loss`.

    Class attributes:
        Config: the options, validated.
        signals: what it needs from the teacher: any of "logits", "embedding", "hidden", "head",
            "generator"; empty for a method without a teacher.
        families: the task families it works on.
        seeded: whether the result depends on the seed; if not, it is run once.
        needs_teacher: whether the teacher must be trained first although no signal is asked for.
        own_teacher: for a method that needs a teacher trained its own way: the method that trains
            it, in place of plain supervision, on the task's teacher model by the teacher's recipe.
            Its options take their values from this method's options of the same names.
        space: what ``bench tune`` may vary: ``(option, lowest, highest, "linear" | "log" | "int")``
            or ``(option, value, …, "choice")``, the defaults within.  Not part of the code hash.
    """

    name: ClassVar[str]
    Config: ClassVar[type[configuration.Config]] = configuration.Config
    signals: ClassVar[frozenset[str]] = frozenset({"logits"})
    families: ClassVar[frozenset[str]] = frozenset({"image", "text", "retrieval"})
    card: ClassVar[Card] = Card(title="")
    own_teacher: ClassVar[type[Method] | None] = None
    seeded: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = False
    space: ClassVar[tuple[tuple[Any, ...], ...]] = ()

    def __init__(self, config: configuration.Config) -> None:
        super().__init__()
        self.config = config

    @property
    def oracle(self) -> bool:
        """Return whether it uses, as configured, labels that the other methods do not have.

        Its cells are marked in every table and never ranked as contenders.
        """
        return False

    def setup(self, context: Setup) -> None:
        """Build what is trained beside the student; run fit-time passes."""

    def hints(self, pairs: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        """Return the layer pairs whose hidden states :meth:`loss` needs; none by default."""
        return ()

    def stages(self) -> Sequence[Stage]:
        """Return how the training budget is split; one stage by default."""
        return (Stage(),)

    def student_output(self, student: Model, batch: Batch, hidden: Sequence[int]) -> Output:
        """Run the student on a training batch; override it to call the student differently."""
        return student(batch.inputs, hidden=hidden)  # type: ignore[no-any-return]

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        """Return the weighted loss terms by name; the step descends their sum.

        All outputs are float32 (whatever the autocast type) and the teacher's carry no gradient.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def clip(self, recipe: float | None) -> float | None:
        """Return the largest gradient norm; the recipe's by default, ``None`` for no limit."""
        return recipe

    def after_step(self, student: Model) -> None:
        """Look at the weights after each optimiser step, say for a moving average."""

    def companions(self, student: Model) -> Mapping[str, Model]:
        """Return models trained beside the student, by name, to be scored on validation too.

        Their scores stand in the record under each epoch; nothing is selected by them.
        """
        return {}

    @property
    def generates(self) -> bool:
        """Return whether the student also learns from inputs of :meth:`generate`."""
        return False

    @property
    def needs_generator(self) -> bool:
        """Return whether :meth:`generate` needs a generator; one is trained only then."""
        return self.generates and "generator" in self.signals

    def generation_options(self) -> Mapping[str, object]:
        """Return the options that shape what :meth:`generate` returns; all of them by default."""
        return self.config.model_dump(mode="json")

    def choose_seeds(self, batch: Batch, random: np.random.Generator) -> np.ndarray | None:
        """Choose the training samples ``(N,)`` to generate from; the batch's own by default."""
        return None

    def generate(
        self, *, batch: Batch, context: Generation, progress: Progress
    ) -> Mapping[str, Tensor]:
        """Return new inputs made from the seeds in ``batch``, of the same names and size.

        The loop runs teacher and student on them; they have no labels.  Where the generator is
        too slow for that (text), this is called before training, once for each kept variant.
        """
        raise NotImplementedError

    def generated_loss(
        self, *, batch: Batch, student: Output, teacher: Output, progress: Progress
    ) -> Mapping[str, Tensor]:
        """Return the weighted loss terms on generated inputs; they are added to :meth:`loss`'s.

        Outputs are as in :meth:`loss`; the labels of ``batch`` are −1.
        """
        raise NotImplementedError

    def notes(self) -> Mapping[str, Tensor]:
        """Return values of the last loss to keep, averaged over each epoch, beside the losses."""
        return {}

    def deploy(self, student: Model) -> Model:
        """Return the model that is evaluated and served; the student as it is by default."""
        return student
