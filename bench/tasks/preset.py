"""What one size of a task is: data source, models and recipes, and how settings change them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from bench.config import Config, build, leaves, written
from bench.errors import BenchError, unknown

SourceKind = Literal["embedded", "mirror", "hub"]
SHORT = ("epochs", "batch_size")  # settings that mean the student recipe's field


class Recipe(Config):
    """How a model is trained; the same for every method of a task and preset.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples an optimiser step.
        optimizer: SGD with momentum 0.9, or AdamW.
        learning_rate: at the end of the warm-up.
        weight_decay: as the optimiser applies it.
        schedule: cosine to zero, or ×0.1 at each milestone.
        milestones: positions in (0, 1) of a stage, for "step".
        warmup: share of the steps over which the rate rises.
        clip: largest gradient norm, if any.
        precision: autocast type of forward passes; losses are always float32.
        views: replay this many augmented views instead of a fresh one every epoch.
        compile: run the student through ``torch.compile``.
    """

    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    warmup: float = Field(default=0.0, ge=0, lt=1)
    clip: float | None = Field(default=None, gt=0)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    views: int | None = Field(default=None, gt=0)
    compile: bool = False

    @field_validator("milestones", mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        """Take them as a command line has them: ``0.5,0.75``."""
        if not isinstance(value, str):
            return value
        return [part for part in value.split(",") if part.strip()]

    @model_validator(mode="after")
    def _steps(self) -> Recipe:
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule=step needs milestones, such as 0.5,0.75")
        return self


class Preset(Config):
    """One size of a task.

    Attributes:
        source: where the data comes from by default.
        student: name of the student model.
        teacher: name of the teacher model.
        recipe: the student's training.
        teacher_recipe: the teacher's training.
        teacher_checkpoint: a safetensors file to take the teacher's weights from, instead of
            training it.
        frozen_teacher: train only a head on the teacher's frozen embeddings.
        generator: name of the generator, for methods that ask for one.
        generator_recipe: its training; needed unless it comes from the hub.
        variants: generated texts kept for each training text (images are generated afresh).
        train_limit: use only the first so many training samples, of a fixed shuffled order but
            for scanned digits, which keep their own.
        n: keep the labels of so many training samples, balanced by class (after ``train_limit``).
        imbalance: long tail, size of the largest class over the smallest (after ``train_limit``).
        teacher_data: what the teacher of such a variant is trained on: "labelled" samples only,
            or "all" with their labels.
        evaluation_batch: batch size where no gradient is needed.
        max_length: tokens a text is cut to.
    """

    source: SourceKind
    student: str
    teacher: str
    recipe: Recipe
    teacher_recipe: Recipe
    teacher_checkpoint: str | None = None
    frozen_teacher: bool = False
    generator: str | None = None
    generator_recipe: Recipe | None = None
    variants: int = Field(default=2, gt=0, le=64)
    train_limit: int | None = Field(default=None, gt=0)
    n: int | None = Field(default=None, gt=0)
    imbalance: float | None = Field(default=None, ge=1)
    teacher_data: Literal["labelled", "all"] = "labelled"
    evaluation_batch: int = Field(default=500, gt=0)
    max_length: int = Field(default=64, gt=2, le=512)


def spelt(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``overrides`` with one spelling of each setting, so that two make one table.

    >>> spelt({"recipe.epochs": 4, "recipe.clip": 1})
    {'epochs': 4, 'recipe.clip': 1}

    Raises:
        BenchError: for a setting that is given in two spellings.
    """
    for path, other in itertools.permutations(overrides, 2):
        if f"{full_path(path)}.".startswith(f"{full_path(other)}."):
            raise BenchError(f"settings '{other}' and '{path}' are one and the same", "give one")
    return {_short(path): value for path, value in overrides.items()}


def changed(preset: Preset, made: Preset, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``overrides`` that make ``made`` out of ``preset``, as values are written.

    One setting has one name in every table: ``1e-1`` is ``0.1``, and the preset's own value that
    is written out is no other preset.
    """
    before, now = (dict(leaves(each.model_dump(mode="json"))) for each in (preset, made))
    found: dict[str, Any] = {}
    for path, value in overrides.items():
        full = full_path(path)
        if full in before and full not in now:  # a whole recipe where the preset has none
            found[path] = value
            continue
        for name in (name for name in now if f"{name}.".startswith(f"{full}.")):
            if name not in before or now[name] != before[name]:
                # a list stays one: not every field reads it from a text
                listed = isinstance(now[name], list)
                found[_short(name)] = now[name] if listed else written(now[name])
    return found


def full_path(path: str) -> str:
    """Return the dotted path of a preset's field: ``recipe.epochs`` of ``epochs``."""
    return f"recipe.{path}" if path in SHORT else path


def _short(path: str) -> str:
    return next((name for name in SHORT if path == full_path(name)), path)


def override(preset: Preset, overrides: Mapping[str, Any], what: str) -> Preset:
    """Return ``preset`` with fields replaced; ``recipe.epochs`` reaches into the recipe.

    ``epochs`` and ``batch_size`` are short for the student recipe's fields.
    """
    values = preset.model_dump()
    for path, value in overrides.items():
        if path == "source":  # BENCH_DATA would overrule it
            raise BenchError(f"{what}: 'source' is no setting", "use --source")
        target = values
        *parents, leaf = full_path(path).split(".")
        for parent in parents:
            if not isinstance(target.get(parent), dict):
                raise unknown(f"setting ({what})", path, [*_paths(preset), *SHORT])
            target = target[parent]
        if leaf not in target:
            raise unknown(f"setting ({what})", path, [*_paths(preset), *SHORT])
        if isinstance(value, Mapping) and isinstance(target[leaf], dict):
            target[leaf] = {**target[leaf], **value}  # as TOML writes a bare dotted name
        else:
            target[leaf] = value
    made = build(type(preset), values, what)
    for path in map(full_path, overrides):
        recipe, _, leaf = path.rpartition(".")
        if leaf == "milestones" and getattr(made, recipe).schedule != "step":
            raise BenchError(f"{what}: {path} changes nothing", f"is for {recipe}.schedule=step")
    return made


def _paths(preset: Preset) -> list[str]:
    return [path for path, _ in leaves(preset.model_dump()) if path != "source"]
