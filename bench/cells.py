"""What a cell is, and the key that says whether it has been run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.config import content_hash
from bench.privacy import public
from bench.tasks.preset import Preset, SourceKind
from bench.tasks.variants import OPTIONS, Variant

# Raised whenever the training loop, the data handling or the metrics change what a cell measures.
PROTOCOL = 1
# Raised whenever the generators' code changes what they make.
GENERATORS = 1


@dataclass(frozen=True)
class Objective:
    """What trains a method's own teacher in place of plain supervision.

    Attributes:
        method: registered name of the method whose ``own_teacher`` it is.
        config: its resolved options.
        code: hash of its source.
    """

    method: str
    config: Mapping[str, Any]
    code: str


@dataclass(frozen=True, kw_only=True)
class OnTask:
    """What is trained on a task: which task, of what size, on which data, from which seed.

    Attributes:
        task: the task's registered name.
        preset: the preset's name; ``overrides`` change it, ``preset_values`` is the result.
        source: where the data comes from.
        seed: its own, of initialisation, order and views.
        device: "cpu", "cuda" or "cuda:N".
        task_code: hash of the task's source; empty for the suite's own tasks, whose code the
            protocol's version covers.
    """

    task: str
    preset: str
    overrides: Mapping[str, Any]
    preset_values: Mapping[str, Any]
    source: SourceKind
    seed: int
    device: str
    task_code: str = ""


@dataclass(frozen=True, kw_only=True)
class TeacherSpec(OnTask):
    """One teacher: everything that shapes it; its seed is the same for all student seeds.

    Attributes:
        fingerprint: of the data.
        checkpoint: sha256 of the file its weights come from; empty when it is trained here.
        objective: what trains it for one method alone; ``None`` for the task's common teacher.
    """

    fingerprint: str
    checkpoint: str = ""
    objective: Objective | None = None

    @property
    def key(self) -> str:
        """Return the content hash of everything that shapes the teacher."""
        values = self.preset_values
        shaping = {
            name: values[name]
            for name in ("teacher", "teacher_recipe", "frozen_teacher", "train_limit", "max_length")
        }
        shaping |= {
            name: values[name] for name in ("n", "imbalance") if values.get(name) is not None
        }
        # a family's own fields say what it is trained on; the common presets have none
        shaping |= {name: values[name] for name in values.keys() - Preset.model_fields.keys()}
        shaping["teacher_recipe"] = without_unused(shaping["teacher_recipe"])
        # rounds its outputs; the preset's own is left out, as it was in the first keys
        if "evaluation_batch" in self.overrides:
            shaping["evaluation_batch"] = values["evaluation_batch"]
        parts = [PROTOCOL, self.task, shaping, self.source, self.fingerprint, self.seed]
        if self.checkpoint:
            parts.append(self.checkpoint)
        if self.objective:
            parts.append(asdict(self.objective))
        if self.task_code:
            parts.append({"task_code": self.task_code})
        return content_hash([*parts, device_kind(self.device)])

    @property
    def full_task(self) -> str:
        """Return the task's name with the variant that the teacher is trained on."""
        return Variant.of(self.preset_values).named(self.task)


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec(OnTask):
    """One generator: everything that shapes it, and the teacher that judges it.

    Its seed is the same for all student seeds.

    Attributes:
        fingerprint: of the data.
        vocabulary: what turns raw inputs into tokens.
        judge: the teacher whose accuracy on reconstructions is measured; shapes nothing.
    """

    fingerprint: str
    vocabulary: str
    judge: TeacherSpec

    @property
    def key(self) -> str:
        """Return the content hash of everything that shapes the generator."""
        values = self.preset_values
        recipe = values["generator_recipe"]
        shaping = {
            "generator": values["generator"],
            "recipe": without_unused(recipe) if recipe else None,
            "train_limit": values["train_limit"],
            "max_length": values["max_length"],
        }
        if values.get("imbalance") is not None:
            shaping["imbalance"] = values["imbalance"]
        # of retrieval, whose generator writes queries
        shaping |= {name: values[name] for name in ("dataset", "query_length") if name in values}
        # which queries are held out, and so which are left to train on; left out as above
        if "held_out_limit" in self.overrides:
            shaping["held_out_limit"] = values["held_out_limit"]
        parts = [GENERATORS, self.task, shaping, self.source, self.fingerprint, self.vocabulary]
        if self.task_code:
            parts.append({"task_code": self.task_code})
        return content_hash([*parts, self.seed, device_kind(self.device)])

    @property
    def id(self) -> str:
        """Return the id of the job that trains and judges it."""
        return f"generator-{self.key}-{self.judge.key}"


@dataclass(frozen=True, kw_only=True)
class Cell(OnTask):
    """One run: a method or baseline on a task, preset and seed.

    Attributes:
        kind: "method" or "baseline".
        method: registered name.
        label: its name in tables, options included.
        options: the options as given.
        config: the full resolved configuration.
        code: hash of the method's source, so that an edited method is run again.
        task_info: what a record says of the task (title, metric, direction, …).
        origin: what it says of the data (name, revision, fingerprint, …).
        teacher: the teacher it needs, or ``None``.
        plugins: plug-ins to import before the names are known.
        signals: "auto" serves the teacher from the signal cache where possible, "live" never.
        cache_bytes: limit on the disk space of the signals of one cell.
        check_cache: recompute a random sample of the cached signals before use.
        uses_signals: whether it learns from the teacher's outputs on training samples.
        trained: whether the suite's loop trains it.
        oracle: whether it uses labels that the other methods do not have; such a cell's record
            is of the kind "oracle".
        not_like_for_like: the card's remark of that name, for the reports.
        generator: the generator it needs, or ``None``.
    """

    kind: str
    method: str
    label: str
    options: Mapping[str, Any]
    config: Mapping[str, Any]
    code: str
    task_info: Mapping[str, Any]
    origin: Mapping[str, Any]
    teacher: TeacherSpec | None
    plugins: tuple[str, ...] = field(default=(), compare=False)
    signals: str = "auto"
    cache_bytes: int = 8 * 2**30
    check_cache: bool = False
    uses_signals: bool = False
    trained: bool = False
    oracle: bool = False
    not_like_for_like: str = ""
    generator: GeneratorSpec | None = None

    @property
    def key(self) -> str:
        """Return the content hash of everything that can change the result."""
        preset = {
            name: value
            for name, value in self.preset_values.items()
            # a teacher that is not asked cannot change the result; the key of one that is follows
            if name != "source" and not any(part in name for part in ("teacher", "generator"))
        }
        variants = preset.pop("variants", None)
        preset["recipe"] = without_unused(preset["recipe"])
        preset = without_unused(preset)
        if self.variant.teacher_data == "all":
            # for all methods: a table of its own needs a reference of its own
            preset["teacher_data"] = "all"
        parts: dict[str, Any] = {}
        if self.generator is not None:
            parts["generator"] = [self.generator.key, variants]
        if self.teacher is None and preset.get("mined_negatives"):
            mining, training = (self.preset_values[f"{of}recipe"] for of in ("teacher_", ""))
            if mining["precision"] != training["precision"]:  # which is in the key already
                parts["mined"] = [mining["precision"]]
        if self.task_code:
            parts["task_code"] = self.task_code
        return content_hash(
            {
                **parts,
                "protocol": PROTOCOL,
                "method": [self.kind, self.method, dict(self.config), self.code],
                "task": self.task,
                "preset": preset,
                "data": [self.source, self.origin["fingerprint"]],
                "vocabulary": self.task_info.get("vocabulary", ""),
                "seed": self.seed,
                "teacher": [self.teacher.key, self.signals] if self.teacher else None,
                "device": device_kind(self.device),
            }
        )

    @property
    def title(self) -> str:
        """Return the cell in words, for progress and messages."""
        return f"{self.label} · {self.full_task} · seed {self.seed}"

    @property
    def variant(self) -> Variant:
        """Return the task's variant, read off the preset."""
        return Variant.of(self.preset_values)

    @property
    def full_task(self) -> str:
        """Return the task's name with its variant: ``cifar10:n=250``."""
        return self.variant.named(self.task)

    def described(self) -> dict[str, Any]:
        """Return the record's ``cell`` part, fit to be published: no user's paths in it."""
        described: dict[str, Any] = public(self._described())
        return described

    def _told(self, name: str, value: Any) -> Any:
        """Return an override as it is published: two files of one name are two settings."""
        if name == "teacher_checkpoint" and value and self.teacher:
            return f"{value}@{self.teacher.checkpoint[:8]}"
        return value

    def _described(self) -> dict[str, Any]:
        return {
            "kind": "oracle" if self.oracle else self.kind,
            "method": self.method,
            "label": self.label,
            "options": dict(self.options),
            "config": dict(self.config),
            "code": self.code,
            "task": self.full_task,
            **({"task_code": self.task_code} if self.task_code else {}),
            "preset": self.preset,
            # a variant is another task, not another size of it
            "overrides": {
                k: self._told(k, v) for k, v in self.overrides.items() if k not in OPTIONS
            },
            **({"variant": {"of": self.task, **vars(self.variant)}} if self.variant else {}),
            "preset_values": dict(self.preset_values),
            "source": self.source,
            "seed": self.seed,
            "teacher_seed": self.teacher.seed if self.teacher else None,
            **({"not_like_for_like": self.not_like_for_like} if self.not_like_for_like else {}),
        }


@dataclass(frozen=True)
class SignalsSpec:
    """The job of caching teacher signals for cells that share teacher, data and seed.

    Attributes:
        cells: one per method.
    """

    cells: tuple[Cell, ...]

    @property
    def id(self) -> str:
        """Return the job's id: one teacher, part of the data and seed."""
        cell = self.cells[0]
        part = f"-{cell.variant.part}" if cell.variant else ""
        return f"signals-{cell.teacher.key if cell.teacher else ''}{part}-{cell.seed}"


def without_unused(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` without the options that are off, so that a new option changes no key."""
    off = {"views": None, "compile": False, "n": None, "imbalance": None}
    return {name: value for name, value in values.items() if off.get(name, ...) != value}


def device_kind(device: str) -> str:
    """Return ``device`` without its number, ``cuda`` for ``cuda:1``."""
    return device.split(":")[0]
