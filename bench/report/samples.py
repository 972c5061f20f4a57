"""What generated inputs look like: real, reconstructed and perturbed, with the teacher's verdict.

Reads the small files that cells with a generator leave beside their records; draws and writes,
never generates.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from bench.report import text
from bench.report.frame import preset_name
from bench.store import slug

PAGE = "generated.md"
INTRODUCTION = """\
A method with a generator also learns from inputs that it makes: an encoder turns a training input
into a code, the code is moved a little and decoded again. Below, validation inputs that neither the
generator nor the teacher was trained on, what the generator makes of their code as it is
(*reconstructed*) and as the method moves it (*perturbed*), each with the class that the teacher
sees and its probability."""
CUT = 160  # characters of a sentence that are shown

Samples = dict[str, Any]


def render_samples(results: Path) -> tuple[dict[str, bytes], list[str]]:
    """Return the page and its figures by relative path, and one line for each unreadable file.

    Of several seeds of one method the lowest is shown.  No file, no page.
    """
    found, problems = read_samples(results)
    if not found:
        return {}, problems
    files: dict[str, bytes] = {}
    lines = ["# What the generators make", "", INTRODUCTION, ""]
    shown: dict[tuple[str, ...], Samples] = {}
    for samples in sorted(found, key=lambda each: (each["cell"]["seed"], each["key"])):
        shown.setdefault(_place(samples), samples)
    for place, samples in sorted(shown.items()):
        cell = samples["cell"]
        title = f"{samples['task']['title']}: {cell['label']} (preset {preset_name(cell)})"
        lines += [f"## {text.escape(title)}", ""]
        if samples["task"]["family"] == "image":
            path = f"figures/generated-{slug('-'.join(place))}.png"
            files[path] = draw(samples)
            lines += [f"![Real, reconstructed and perturbed images]({path})", ""]
        else:
            lines += [*text.table(*_sentences(samples), left=9), ""]
        lines += [f"<sub>{text.escape(_caption(samples))}</sub>", ""]
    files[PAGE] = ("\n".join(lines).rstrip() + "\n").encode()
    return files, problems


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
                draw(samples)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            where = path.relative_to(results).as_posix()
            problems.append(f"{where}: no readable samples: {type(error).__name__}: {error}")
        else:
            found.append(samples)
    return found, problems


PARTS = ("shown", "verdicts")


def draw(samples: Samples) -> bytes:
    """Return the grid of a sample file's images as a PNG file: a row a kind, a column a sample."""
    rows, count = samples["rows"], len(samples["labels"])
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 8}):
        figure = Figure(figsize=(1.05 * count + 0.9, 1.3 * len(rows) + 0.1), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(rows), count, squeeze=False)
        for axes, row in zip(grid, rows, strict=True):
            for at, ax in enumerate(axes):
                ax.imshow(_image(row["shown"][at]), interpolation="nearest")
                ax.set_xticks([])
                ax.set_yticks([])
                verdict = row["verdicts"][at]
                right = verdict["class"] == samples["labels"][at]
                ax.set_title(
                    _plain(_verdict(verdict, samples)),
                    fontsize=7,
                    pad=2,
                    color="#222222" if right else "#b30000",
                )
            axes[0].set_ylabel(row["kind"])
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _sentences(samples: Samples) -> tuple[list[str], list[list[str]]]:
    head = [part for row in samples["rows"] for part in (row["kind"], "teacher")]
    body = []
    for at in range(len(samples["labels"])):
        cells = []
        for row in samples["rows"]:
            cells.append(text.escape(text.first_line(row["shown"][at], CUT)) or text.NOTHING)
            cells.append(text.escape(_verdict(row["verdicts"][at], samples)))
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


def _verdict(verdict: dict[str, Any], samples: Samples) -> str:
    names: Sequence[str] = samples["class_names"]
    label = int(verdict["class"])
    name = names[label] if 0 <= label < len(names) else str(label)
    return f"{name} {float(verdict['probability']):.2f}"


def _image(encoded: str) -> Image.Image:
    with Image.open(io.BytesIO(base64.b64decode(encoded)), formats=("PNG",)) as image:
        return image.convert("RGB")


def _place(samples: Samples) -> tuple[str, ...]:
    cell = samples["cell"]
    return str(cell["task"]), preset_name(cell), str(cell["source"]), str(cell["label"])


def _plain(label: str) -> str:
    return label.replace("$", r"\$")
