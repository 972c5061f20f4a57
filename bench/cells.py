"""What a cell is, and the key that says whether it has been run."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from bench.config import content_hash
from bench.privacy import public

# Raised whenever the training loop, the data handling or the metrics change what a cell measures.
PROTOCOL = 1


@dataclass(frozen=True)
class TeacherSpec:
    """One teacher: everything that shapes it.

    Attributes:
        task: the task's name.
        preset: the preset's name, with ``overrides``.
        preset_values: the resolved preset.
        source: where the data comes from.
        fingerprint: of the data.
        seed: the teacher's own seed, the same for all student seeds.
        device: device type.
        checkpoint: sha256 of the file its weights come from; empty when it is trained here.
    """

    task: str
    preset: str
    overrides: Mapping[str, Any]
    preset_values: Mapping[str, Any]
    source: str
    fingerprint: str
    seed: int
    device: str
    checkpoint: str = ""

    @property
    def key(self) -> str:
        """Return the content hash of all that shapes the teacher."""
        values = self.preset_values
        shaping = {
            name: values[name]
            for name in ("teacher", "teacher_recipe", "frozen_teacher", "train_limit", "max_length")
        }
        shaping["teacher_recipe"] = without_unused(shaping["teacher_recipe"])
        parts = [PROTOCOL, self.task, shaping, self.source, self.fingerprint, self.seed]
        if self.checkpoint:
            parts.append(self.checkpoint)
        return content_hash([*parts, _kind(self.device)])

    def overridden(self) -> dict[str, Any]:
        """Return the overrides as a plain dictionary."""
        return dict(self.overrides)


@dataclass(frozen=True)
class Cell:
    """One run: a method or baseline on a task, preset and seed.

    Attributes:
        kind: "method" or "baseline".
        method: registered name.
        label: how tables call it, options included.
        options: what was given.
        config: the full resolved configuration.
        code: hash of the method's source, so that an edited method is run again.
        task: registered name.
        preset: name; ``overrides`` change it, ``preset_values`` is the result.
        source: where the data comes from.
        task_info: what a record says of the task (title, metric, direction, …).
        origin: what it says of the data (name, revision, fingerprint, …).
        seed: of the student's run.
        teacher: the teacher it needs, or ``None``.
        device: "cpu", "cuda" or "cuda:N".
        plugins: plug-ins to import before the names are known.
        signals: "auto" serves the teacher from the signal cache where that is possible, "live"
            never does.
        cache_bytes: what the signals of one cell may take on disk.
        check_cache: recompute a random sample of the cached signals before use.
        uses_signals: whether it learns from the teacher's outputs on training samples.
        trained: whether the suite's loop trains it.
    """

    kind: str
    method: str
    label: str
    options: Mapping[str, Any]
    config: Mapping[str, Any]
    code: str
    task: str
    preset: str
    overrides: Mapping[str, Any]
    preset_values: Mapping[str, Any]
    source: str
    task_info: Mapping[str, Any]
    origin: Mapping[str, Any]
    seed: int
    teacher: TeacherSpec | None
    device: str
    plugins: tuple[str, ...] = field(default=(), compare=False)
    signals: str = "auto"
    cache_bytes: int = 8 * 2**30
    check_cache: bool = False
    uses_signals: bool = False
    trained: bool = False

    @property
    def key(self) -> str:
        """Return the content hash of everything that can change the result."""
        preset = {
            name: value
            for name, value in self.preset_values.items()
            # a teacher that is not asked cannot change the result; the key of one that is follows
            if name != "source" and "teacher" not in name
        }
        preset["recipe"] = without_unused(preset["recipe"])
        return content_hash(
            {
                "protocol": PROTOCOL,
                "method": [self.kind, self.method, dict(self.config), self.code],
                "task": self.task,
                "preset": preset,
                "data": [self.source, self.origin["fingerprint"]],
                "vocabulary": self.task_info.get("vocabulary", ""),
                "seed": self.seed,
                "teacher": [self.teacher.key, self.signals] if self.teacher else None,
                "device": _kind(self.device),
            }
        )

    @property
    def title(self) -> str:
        """Return the cell in words, for progress and messages."""
        return f"{self.label} · {self.task} · seed {self.seed}"

    def described(self) -> dict[str, Any]:
        """Return the record's ``cell`` part, fit to be published: without a user's paths."""
        described: dict[str, Any] = public(self._described())
        return described

    def _described(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "method": self.method,
            "label": self.label,
            "options": dict(self.options),
            "config": dict(self.config),
            "code": self.code,
            "task": self.task,
            "preset": self.preset,
            "overrides": dict(self.overrides),
            "preset_values": dict(self.preset_values),
            "source": self.source,
            "seed": self.seed,
            "teacher_seed": self.teacher.seed if self.teacher else None,
        }


@dataclass(frozen=True)
class SignalsSpec:
    """Fill the cache of teacher signals for these cells, which share teacher, data and seed.

    Attributes:
        cells: one for each method.
    """

    cells: tuple[Cell, ...]

    @property
    def id(self) -> str:
        """Return the job's id: one teacher and seed."""
        teacher = self.cells[0].teacher
        return f"signals-{teacher.key if teacher else ''}-{self.cells[0].seed}"


def without_unused(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a key the options that are off, so that a new option reruns nothing."""
    off = {"views": None, "compile": False}
    return {name: value for name, value in recipe.items() if off.get(name, ...) != value}


# Modules whose code is part of a method; the engine's own is covered by PROTOCOL.
SHARED = ("bench.losses", "bench.supervised", "methods.", "baselines.")


def code_hash(cls: type) -> str:
    """Return a hash of the code of ``cls``: comments, docstrings and layout aside.

    That is the module that defines it, those of its parent classes outside the engine, and
    whatever of :data:`SHARED` these import.
    """
    sources: dict[str, str] = {}
    own = inspect.getmodule(cls)
    for parent in cls.__mro__:
        if parent is cls or not parent.__module__.startswith(("bench.", "torch.", "builtins")):
            _collect(inspect.getmodule(parent), sources)
    # a plug-in file's module name says where it lies, not what it does
    first = sources.pop(own.__name__, "") if own else ""
    shared = {name: text for name, text in sources.items() if name.startswith(SHARED)}
    others = sorted(text for name, text in sources.items() if name not in shared)
    return content_hash([first, others, sorted(shared.items())])


def _collect(module: ModuleType | None, sources: dict[str, str]) -> None:
    if module is None or module.__name__ in sources:
        return
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError):
        tree = ast.parse("")
    sources[module.__name__] = ast.unparse(_without_docstrings(tree))
    for node in ast.walk(tree):
        name = node.module if isinstance(node, ast.ImportFrom) else None
        if name and name.startswith(SHARED):
            _collect(importlib.import_module(name), sources)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


def _kind(device: str) -> str:
    return device.split(":")[0]
