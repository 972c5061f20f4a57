"""What generated inputs look like: real, reconstructed and perturbed, with teacher's verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from bench.report import text
from bench.report.content import (
    Block,
    Context,
    Heading,
    Part,
    Picture,
    Table,
    Text,
    Value,
)
from bench.report.lines import Row
from bench.report.names import file_name
from bench.report.pictures import draw
from bench.report.sample_files import Samples
from bench.report.sections import Section

INTRODUCTION = (
    "A method with a generator also learns from inputs that it makes: an encoder turns a training "
    "input into a code, the code is moved a little and decoded again. Below, validation inputs "
    "that neither the generator nor the teacher was trained on, what the generator makes of their "
    "code as it is (reconstructed) and as the method moves it (perturbed), each with the class "
    "that the teacher sees and its probability."
)
CUT = 160  # characters of a sentence that are shown


def sample_parts(context: Context) -> Iterator[Part]:
    """Yield the part of generated inputs; nothing where no method has a generator.

    Only samples of cells that count are shown; of several seeds of one method the lowest.
    """
    by_key = {samples.key: samples for samples in context.samples}
    blocks: list[Block] = []
    for section in context.sections if by_key else ():
        for label in sorted(section.rows):
            samples = _of(section.rows[label], by_key)
            if samples is not None:
                blocks += _shown(section, label, samples)
    if blocks:
        yield Part("What the generators make", (Text(INTRODUCTION), *blocks))


def _of(rows: Sequence[Row], by_key: dict[str, Samples]) -> Samples | None:
    found = [by_key[row["key"]] for row in rows if row["status"] == "ok" and row["key"] in by_key]
    return min(found, key=lambda samples: samples.seed, default=None)


def _shown(section: Section, label: str, samples: Samples) -> Iterator[Block]:
    title = f"{label} on {section.title} ({section.where})"
    name = file_name("generated", label, *section.place)
    yield Heading(title)
    if samples.images:
        kinds = ", ".join(kind.name for kind in samples.kinds)
        alt = f"Images and the teacher's verdicts: {kinds}"
        caption = f"{samples.caption} A red verdict is wrong for the real input."
        yield Picture(name, partial(draw, "samples", samples), alt, caption, photo=True)
    else:
        head = [column for kind in samples.kinds for column in (kind.name, "teacher")]
        yield Table(name, head, _sentences(samples), title, samples.caption, left=len(head))


def _sentences(samples: Samples) -> list[list[Value]]:
    count = len(samples.kinds[0].shown)
    return [
        [
            Value(written)
            for kind in samples.kinds
            for written in (
                text.first_line(kind.shown[at], CUT) or text.NOTHING,
                str(kind.verdicts[at]),
            )
        ]
        for at in range(count)
    ]
