"""The files of generated inputs beside records: read and checked here, so that drawing cannot fail.

A file may come from anywhere, so everything that is shown is checked first.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.privacy import without_paths
from bench.report import text
from bench.store import SAMPLES_SCHEMA, files_below, read_text

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 20 * 2**20
MOST_SAMPLES = 64
MOST_PIXELS = 2**20  # of one image
# what reading a file that is not as it should be may raise
UNUSABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What the teacher sees in an input.

    Attributes:
        name: of the class.
        probability: that it gives to it.
        right: whether it is the real input's class.
    """

    name: str
    probability: float
    right: bool

    def __str__(self) -> str:
        """Return class and probability."""
        return f"{self.name} {self.probability:.2f}"


@dataclass(frozen=True)
class Kind:
    """The inputs of one kind.

    Attributes:
        name: "real", "reconstructed" or "perturbed".
        shown: images as base64 of PNG files, or sentences.
        verdicts: of the teacher, one an input.
    """

    name: str
    shown: tuple[str, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Samples:
    """What one cell's generator makes of a few inputs.

    Attributes:
        key: of the cell.
        seed: of the cell.
        images: whether they are images; else sentences.
        kinds: the same inputs in each.
        caption: the generator, how it was trained and how its inputs were judged, in words.
    """

    key: str
    seed: int
    images: bool
    kinds: tuple[Kind, ...]
    caption: str


def read_samples(results: Path) -> tuple[list[Samples], list[str]]:
    """Return all sample files below ``results``, and a line for each that cannot be used."""
    found, problems = [], []
    for path in files_below(results, "*.samples.json"):
        try:
            found.append(_read(path))
        except UNUSABLE as error:
            where = path.relative_to(results).as_posix()
            what = without_paths(text.first_line(str(error)))
            problems.append(f"{where}: no readable samples: {type(error).__name__}: {what}")
    return found, problems


def showable(path: Path) -> bool:
    """Return whether the sample file ``path`` can be shown."""
    try:
        _read(path)
    except UNUSABLE:
        return False
    return True


def _read(path: Path) -> Samples:
    return parse(json.loads(read_text(path, MOST_BYTES)))


def parse(values: Mapping[str, Any]) -> Samples:
    """Return the content of a file.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, OverflowError: when it is malformed.
    """
    if values["schema"] != SAMPLES_SCHEMA:
        raise ValueError(f"schema {values['schema']!r}, this version reads {SAMPLES_SCHEMA}")
    images = values["task"]["family"] == "image"
    names, labels = [str(name) for name in values["class_names"]], values["labels"]
    if not 0 < len(labels) <= MOST_SAMPLES:
        raise ValueError(f"{len(labels)} samples")
    kinds = tuple(_kind(row, labels, names) for row in values["rows"])
    if not 0 < len(kinds) <= 8:
        raise ValueError(f"{len(kinds)} rows")
    if images:
        for kind in kinds:
            for shown in kind.shown:
                decode(shown)
    seed = int(values["cell"]["seed"])
    return Samples(str(values["key"]), seed, images, kinds, _caption(values["generator"], seed))


def _kind(row: Mapping[str, Any], labels: list[int], names: list[str]) -> Kind:
    shown, verdicts = row["shown"], row["verdicts"]
    if not len(shown) == len(verdicts) == len(labels):
        raise ValueError("rows of different lengths")
    if not all(isinstance(each, str) for each in shown):
        raise TypeError("an input is no text")
    judged = [
        Verdict(_class(verdict, names), float(verdict["probability"]), verdict["class"] == label)
        for verdict, label in zip(verdicts, labels, strict=True)
    ]
    return Kind(text.first_line(str(row["kind"]), 40), tuple(shown), tuple(judged))


def _class(verdict: Mapping[str, Any], names: list[str]) -> str:
    label = int(verdict["class"])
    return names[label] if 0 <= label < len(names) else f"class {label}"


def _caption(generator: Mapping[str, Any], seed: int) -> str:
    judged = generator["judged"]
    enough = "" if judged["enough"] else ", less than two thirds: too little"
    return (
        f"Generator {generator['name']}, {text.count(generator['parameters'])} parameters, "
        f"{generator['epochs']} epochs on the training inputs in "
        f"{text.seconds(generator['seconds'])} s. The teacher's accuracy on "
        f"{judged['samples']} validation samples: {judged['real']:.1%} as they are, "
        f"{judged['reconstructed']:.1%} reconstructed "
        f"({judged['kept']:.0%} of it is kept{enough}). Seed {seed}."
    )


def decode(encoded: str) -> Image:
    """Return a PNG file in base64 as an image; ValueError if it is not one, or too large."""
    import io

    from PIL import Image

    try:
        data = io.BytesIO(base64.b64decode(encoded, validate=True))
        with Image.open(data, formats=("PNG",)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} × {image.height} pixels")
            return image.convert("RGB")
    except (
        OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error,
        Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise ValueError(f"no PNG image: {error}") from error
