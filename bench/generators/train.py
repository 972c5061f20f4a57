"""Training a generator on training inputs, through the same loop as every model."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.cells import GeneratorSpec
from bench.config import Config
from bench.data.splits import Split
from bench.errors import BenchError
from bench.generators.base import GeneratorModule, check_fits, code_scale
from bench.generators.build import build_generator, pretrained
from bench.generators.store import GeneratorFiles
from bench.locks import locked
from bench.method import Method, Progress
from bench.models.base import Model, parameter_count
from bench.opening import load_data, open_task
from bench.tasks.base import Data, Task
from bench.teachers.store import identity_of
from bench.teachers.train import load_teacher
from bench.training.checkpoint import checkpoint_path, discard_checkpoints
from bench.training.evaluate import autocast, evaluating
from bench.training.loop import train
from bench.training.setting import Setting, part_size
from bench.training.streams import stream_seed
from bench.types import Batch, Output

Report = Callable[[dict[str, Any]], None]
MEASURED = 2000  # samples that the code's scale and the teacher's judgement are measured on
ENOUGH = 2 / 3  # of a teacher's accuracy should be left on reconstructions


def ensure_generator(
    spec: GeneratorSpec, report: Report = lambda event: None, *, micro_batches: int = 1
) -> dict[str, Any]:
    """Train the generator if needed, have the teacher judge it, and return manifest and judgement.

    Two processes that ask at once train it once: the second waits for the first.

    Raises:
        BenchError: when the preset names no generator, or one that does not fit the task.
    """
    files = GeneratorFiles.of(spec.task, spec.key)
    files.folder.mkdir(parents=True, exist_ok=True)
    with locked(files.folder / ".lock"):
        manifest = files.read()
        judged = files.read_judgement(identity_of(spec.judge.task, spec.judge.key))
        if manifest is None or judged is None:
            task = open_task(spec)
            data = load_data(spec, task)
            if manifest is None:
                manifest = _make(spec, task, data, files, report, micro_batches)
                discard_checkpoints(_running(spec))
            judged = _judge(spec, task, data, files, micro_batches)
    return {**manifest, "judged": judged}


def load_generator(
    spec: GeneratorSpec, task: Task, data: Data
) -> tuple[GeneratorModule, dict[str, Any]]:
    """Return the finished generator, frozen, on the task's device, with its manifest.

    Raises:
        BenchError: when it has not been trained.
    """
    files = GeneratorFiles.of(spec.task, spec.key)
    manifest, state = files.require(), files.state()
    # building draws random numbers: no stream of the caller's may move by it
    with torch.random.fork_rng(devices=[]):
        made = build_generator(manifest["name"], task, data, kept=state)
    generator = files.load_into(made, state, whole=not pretrained(manifest["name"]))
    generator.fingerprint = manifest["fingerprint"]
    judged = files.read_judgement(identity_of(spec.judge.task, spec.judge.key))
    return generator.to(data.train.labels.device), {**manifest, "judged": judged}


def generator_summary(manifest: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the record's ``generator`` part."""
    if manifest is None:
        return None
    kept = ("key", "name", "seed", "fingerprint", "parameters", "epochs", "seconds", "judged")
    return {name: manifest[name] for name in (*kept, *manifest.keys() & {"micro_batches"})}


def _make(
    spec: GeneratorSpec,
    task: Task,
    data: Data,
    files: GeneratorFiles,
    report: Report,
    micro_batches: int,
) -> dict[str, Any]:
    started = time.perf_counter()
    name = task.preset.generator
    if name is None:
        raise BenchError(
            f"preset '{task.preset_name}' of task '{task.name}' names no generator",
            "--set generator=NAME",
        )
    torch.manual_seed(stream_seed(spec.seed, "generator-init"))
    generator = build_generator(name, task, data).to(spec.device)
    training = _read(data.train)
    check_fits(generator.eval(), training.batch(np.arange(min(2, len(training)))).inputs, task.name)
    epochs = 0
    if not pretrained(name):
        epochs = _train(spec, name, task, data, generator, report, micro_batches)
    generator.eval()
    with torch.no_grad():
        codes = [
            generator.encode(training.batch(index).inputs)
            for index in _parts(training, part_size(task.preset.evaluation_batch, micro_batches))
        ]
        generator.scale.copy_(code_scale(codes))
    state = generator.state_dict()
    kept, fingerprint = state, ""
    if pretrained(name):
        kept, fingerprint = {"scale": state["scale"]}, state_fingerprint(state)
    return files.write(
        kept,
        {
            "key": spec.key,
            "name": name,
            "task": spec.task,
            "seed": spec.seed,
            "epochs": epochs,
            "parameters": parameter_count(generator),
            "seconds": time.perf_counter() - started,
            **({"micro_batches": micro_batches} if micro_batches > 1 else {}),
        },
        fingerprint,
    )


def _train(
    spec: GeneratorSpec,
    name: str,
    task: Task,
    data: Data,
    generator: GeneratorModule,
    report: Report,
    micro_batches: int,
) -> int:
    """Train ``generator`` in place, to its best epoch, and return how many epochs it took."""
    recipe = task.preset.generator_recipe
    if recipe is None:
        raise BenchError(f"generator '{name}' has no training recipe", "set generator_recipe")
    setting = Setting(
        train=_read(data.train),
        validation=_read(data.validation),
        recipe=recipe,
        seed=stream_seed(spec.seed, "generator"),
        score=lambda losses, labels: {"loss": float(losses.mean())},
        metric="loss",
        direction="min",
        evaluation_batch=task.preset.evaluation_batch,
        micro_batches=micro_batches,
    )
    trained = train(
        student=_Objective(generator),
        method=_Reconstruction(Config()),
        teacher=None,
        setting=setting,
        report=report,
        checkpoint=checkpoint_path(_running(spec), micro_batches),
    )
    trained.model.load_state_dict(trained.best_state)
    return len(trained.epochs)


def _running(spec: GeneratorSpec) -> str:
    return f"generator-{spec.key[:16]}"


class _Objective(Model):
    """A generator as the loop sees it: its "logits" ``(N, 1)`` are the samples' losses."""

    def __init__(self, generator: GeneratorModule) -> None:
        super().__init__()
        self.generator = generator
        self.depth = self.width = 0

    def forward(
        self, inputs: Mapping[str, Tensor], *, hidden: Sequence[int] = (), until: int | None = None
    ) -> Output:
        return Output(logits=self.generator.objective(inputs)[:, None])

    @property
    def head(self) -> nn.Linear:
        raise BenchError("a generator has no head")


class _Reconstruction(Method):
    """Descend the generator's own objective; labels are never looked at."""

    signals = frozenset()

    def loss(
        self, *, batch: Batch, student: Output, teacher: Output | None, progress: Progress
    ) -> Mapping[str, Tensor]:
        return {"objective": student.scores.mean()}


def _judge(
    spec: GeneratorSpec, task: Task, data: Data, files: GeneratorFiles, micro_batches: int
) -> dict[str, Any]:
    """Measure a teacher's accuracy on validation samples and on their reconstructions; save it.

    In retrieval that is how often it ranks the answer before as many random passages as a training
    list has negatives.
    """
    generator, _ = load_generator(spec, task, data)
    teacher, _ = load_teacher(spec.judge, task, data)
    device, precision = data.train.labels.device, task.preset.teacher_recipe.precision
    split = held_out(task, data)
    texts = split.texts()
    real, again, samples = 0, 0, 0
    with evaluating(teacher), autocast(device, precision):
        for index in _parts(split, part_size(task.preset.evaluation_batch, micro_batches)):
            batch = split.batch(index)
            shown = batch if texts is None else texts.batch(index)
            with torch.autocast(device.type, enabled=False):
                made = generator.decode(generator.encode(shown.inputs))
            real += int((teacher(batch.inputs).scores.argmax(dim=1) == batch.labels).sum())
            inputs = split.with_texts(batch.inputs, made)
            again += int((teacher(inputs).scores.argmax(dim=1) == batch.labels).sum())
            samples += len(index)
    return files.write_judgement(
        identity_of(spec.judge.task, spec.judge.key),
        {
            "teacher": spec.judge.key,
            "samples": samples,
            "real": real / samples,
            "reconstructed": again / samples,
            "kept": again / real if real else 0.0,
            "enough": again >= ENOUGH * real,
        },
    )


def held_out(task: Task, data: Data) -> Split:
    """Return validation samples that a teacher can judge one by one: for retrieval, lists."""
    from bench.data.retrieval import SearchSplit

    split = data.validation
    return split.listed(task.num_classes) if isinstance(split, SearchSplit) else split


def _read(split: Split) -> Split:
    """Return what a generator reads of a split: its texts, or its images."""
    texts = split.texts()
    return split if texts is None else texts


def _parts(split: Split, size: int) -> list[np.ndarray]:
    """Return the batches of a random sample of ``split``, at most :data:`MEASURED` samples."""
    random = np.random.Generator(np.random.PCG64(stream_seed(0, "generator-sample")))
    chosen = np.sort(random.permutation(len(split))[:MEASURED])
    return [chosen[at : at + size] for at in range(0, len(chosen), size)]


def state_fingerprint(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of a state's names and bytes."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
