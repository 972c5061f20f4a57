"""What generated inputs look like: real, reconstructed and perturbed, with the teacher's verdict.

Reads the small files that cells with a generator leave beside their records; draws and writes,
never generates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.report import text
from bench.report.content import Block, Bullets, Context, Heading, Part, Picture, Table, Text, Value
from bench.report.frame import preset_name
from bench.report.pictures import draw
from bench.store import slug

INTRODUCTION = (
    "A method with a generator also learns from inputs that it makes: an encoder turns a training "
    "input into a code, the code is moved a little and decoded again. Below, validation inputs "
    "that neither the generator nor the teacher was trained on, what the generator makes of their "
    "code as it is (reconstructed) and as the method moves it (perturbed), each with the class "
    "that the teacher sees and its probability."
)
CUT = 160  # characters of a sentence that are shown

Samples = dict[str, Any]


def sample_parts(context: Context) -> Iterator[Part]:
    """Yield the part of generated inputs; nothing where no method has a generator.

    Of several seeds of one method the lowest is shown.
    """
    if context.results is None:
        return
    found, problems = read_samples(context.results)
    if not found and not problems:
        return
    blocks: list[Block] = [Text(INTRODUCTION)]
    shown: dict[tuple[str, ...], Samples] = {}
    for samples in sorted(found, key=lambda each: (each["cell"]["seed"], each["key"])):
        shown.setdefault(_place(samples), samples)
    for place, samples in sorted(shown.items()):
        cell = samples["cell"]
        title = f"{samples['task']['title']}: {cell['label']} (preset {preset_name(cell)})"
        blocks.append(Heading(title))
        name = f"generated-{slug('-'.join(place))}"
        if samples["task"]["family"] == "image":
            alt = "Real, reconstructed and perturbed images"
            blocks.append(Picture(name, partial(draw, "samples", samples), alt, _caption(samples)))
        else:
            head, rows = _sentences(samples)
            blocks.append(Table(name, head, rows, title=title, source=_caption(samples), left=9))
    if problems:
        blocks.append(Bullets("Files that cannot be shown:", tuple(problems)))
    yield Part("What the generators make", tuple(blocks))


def read_samples(results: Path) -> tuple[list[Samples], list[str]]:
    """Read all sample files below ``results``; one line for each that cannot be used."""
    found, problems = [], []
    for path in sorted(results.rglob("*.samples.json")):
        try:
            samples = json.loads(path.read_text(encoding="utf-8"))
            _place(samples)
            count = len(samples["labels"])
            if any(len(row[part]) != count for row in samples["rows"] for part in PARTS):
                raise ValueError("rows of different lengths")
            _caption(samples)
            if samples["task"]["family"] == "image":
                draw("samples", samples)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            where = path.relative_to(results).as_posix()
            problems.append(f"{where}: no readable samples: {type(error).__name__}: {error}")
        else:
            found.append(samples)
    return found, problems


PARTS = ("shown", "verdicts")


def _sentences(samples: Samples) -> tuple[list[str], list[list[Value]]]:
    head = [part for row in samples["rows"] for part in (row["kind"], "teacher")]
    body = []
    for at in range(len(samples["labels"])):
        cells = []
        for row in samples["rows"]:
            cells.append(Value(text.first_line(row["shown"][at], CUT) or text.NOTHING))
            cells.append(Value(verdict_text(row["verdicts"][at], samples)))
        body.append(cells)
    return head, body


def _caption(samples: Samples) -> str:
    generator = samples["generator"]
    judged = generator["judged"]
    enough = "" if judged["enough"] else ", less than two thirds: too little"
    return (
        f"Generator {generator['name']}, {text.count(generator['parameters'])} parameters, "
        f"{generator['epochs']} epochs on the training inputs in "
        f"{text.seconds(generator['seconds'])} s. The teacher's accuracy on "
        f"{judged['samples']} validation samples: {judged['real']:.1%} as they are, "
        f"{judged['reconstructed']:.1%} reconstructed "
        f"({judged['kept']:.0%} of it is kept{enough}). "
        f"Seed {samples['cell']['seed']}. In figures, a red verdict is wrong for the real input."
    )


def verdict_text(verdict: dict[str, Any], samples: Samples) -> str:
    names: Sequence[str] = samples["class_names"]
    label = int(verdict["class"])
    name = names[label] if 0 <= label < len(names) else str(label)
    return f"{name} {float(verdict['probability']):.2f}"


def _place(samples: Samples) -> tuple[str, ...]:
    cell = samples["cell"]
    return str(cell["task"]), preset_name(cell), str(cell["source"]), str(cell["label"])
