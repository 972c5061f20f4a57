"""Parts written as Markdown; all escaping of foreign text for it happens here."""

from __future__ import annotations

from collections.abc import Iterable

from bench.report import text
from bench.report.content import Bullets, Heading, Part, Picture, Table, Text, Value


def markdown(parts: Iterable[Part]) -> list[str]:
    """Return the lines of ``parts``; pictures are linked as ``figures/NAME.svg``."""
    lines: list[str] = []
    for part in parts:
        lines += [f"## {text.escape(part.title)}", ""]
        for block in part.blocks:
            lines += [*_block(block), ""]
    return lines


def _block(block: object) -> list[str]:
    match block:
        case Text(written, "note"):
            return [f"> {text.escape(written)}"]
        case Text(written, "small"):
            return [f"<sub>{text.escape(written)}</sub>"]
        case Text(written):
            return [text.escape(written)]
        case Heading(written):
            return [f"### {text.escape(written)}"]
        case Bullets(lead, items):
            return [text.escape(lead), "", *(f"- {text.escape(item)}" for item in items)]
        case Picture(name, _, alt, caption):
            lines = [f"![{text.escape(alt)}](figures/{name}.svg)"]
            return [*lines, "", f"<sub>{text.escape(caption)}</sub>"] if caption else lines
        case Table():
            return markdown_table(block)
    raise TypeError(f"no Markdown for {type(block).__name__}")


def markdown_table(table: Table) -> list[str]:
    """Return the lines of ``table`` alone, followed by where its numbers come from."""
    head = [text.escape(name) for name in table.head]
    lines = text.table(head, [[_cell(value) for value in row] for row in table.rows], table.left)
    return [*lines, "", f"<sub>{text.escape(table.source)}</sub>"] if table.source else lines


def _cell(value: Value) -> str:
    shown = text.escape(value.text)
    if value.bold:
        shown = f"**{shown}**"
    return f"*{shown}*" if value.italic else shown
