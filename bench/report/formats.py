"""Parts and tables as Markdown, LaTeX, CSV and HTML; all escaping of foreign text happens here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

import pandas as pd
from markupsafe import Markup
from markupsafe import escape as html_escape

from bench.report import text
from bench.report.content import Block, Bullets, Heading, Part, Picture, Table, Text, Value

_NUMBER = r"[+-]?[\d.]+"
_BEHIND = r"unpaired|\d+ ?/ ?\d+( seeds)?|\d+ (pairs|seeds?)"
# what a report itself writes with a sign in front
OWN_CELL = re.compile(
    rf"-|{_NUMBER}( ± [\d.]+| to {_NUMBER})?( \[{_NUMBER}, {_NUMBER}\])?(, p [=<] [\d.]+)?"
    rf"( \(({_BEHIND})\))?"
)


def markdown(parts: Iterable[Part]) -> list[str]:
    """Return the lines of ``parts``; pictures are linked as ``figures/NAME.svg``."""
    lines: list[str] = []
    for part in parts:
        lines += [f"## {text.escape(part.title)}", ""]
        for block in part.blocks:
            lines += [*_markdown_block(block), ""]
    return lines


def _markdown_block(block: Block) -> list[str]:
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


def markdown_table(table: Table) -> list[str]:
    """Return the lines of ``table`` alone, followed by where its numbers come from."""

    def cell(value: Value) -> str:
        shown = text.escape(value.text)
        shown = f"**{shown}**" if value.bold else shown
        return f"*{shown}*" if value.italic else shown

    head = [text.escape(name) for name in table.head]
    lines = text.table(head, [[cell(value) for value in row] for row in table.rows], table.left)
    if table.source and not table.beside:
        lines += ["", f"<sub>{text.escape(table.source)}</sub>"]
    return lines


def csv_table(table: Table) -> str:
    """Return ``table`` as CSV, its cells as they are shown.

    A cell that a spreadsheet would run as a formula is prefixed with an apostrophe.
    """
    rows = [[inert(value.text) for value in row] for row in table.rows]
    frame = pd.DataFrame(rows, columns=[inert(name) for name in table.head])
    return frame.to_csv(index=False, lineterminator="\n")


def inert(shown: str) -> str:
    """Return ``shown`` so that no spreadsheet runs it as a formula."""
    if not shown.startswith(("=", "+", "-", "@", "\t", "\r")):
        return shown
    return shown if OWN_CELL.fullmatch(shown) else f"'{shown}"


def html_parts(parts: Iterable[Part], pictures: Mapping[str, str]) -> str:
    """Return ``parts`` as HTML sections; ``pictures`` gives the address of each by name."""
    out = []
    for at, part in enumerate(parts):
        blocks = Markup("\n").join(_html_block(block, pictures) for block in part.blocks)
        section = '<section id="part-{0}" aria-labelledby="title-{0}"><h2 id="title-{0}">{1}</h2>'
        out.append(Markup(section + "\n{2}</section>").format(at, part.title, blocks))
    return str(Markup("\n").join(out))


def _html_block(block: Block, pictures: Mapping[str, str]) -> Markup:
    match block:
        case Text(written, style):
            return Markup('<p class="{}">{}</p>').format(style, written)
        case Heading(written):
            return Markup("<h3>{}</h3>").format(written)
        case Bullets(lead, items):
            listed = Markup("").join(Markup("<li>{}</li>").format(item) for item in items)
            return Markup("<p>{}</p><ul>{}</ul>").format(lead, listed)
        case Picture(name, _, alt, caption):
            kind = Markup(' class="photo"') if block.photo else ""
            shown = Markup('<img src="{}" alt="{}"{} loading="lazy">')
            image = shown.format(pictures[name], alt, kind)
            return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(image, caption)
        case Table():
            region = '<div class="scroll" tabindex="0" role="region" aria-label="{}">{}</div>'
            return Markup(region).format(block.title, Markup(html_table(block)))


def html_table(table: Table) -> str:
    """Return ``table`` as an HTML ``<table>`` with a caption."""
    out = [Markup("<table>")]
    if table.title or table.source:
        out.append(
            Markup("<caption><strong>{}</strong> {}</caption>").format(table.title, table.source)
        )
    heads = [
        Markup('<th scope="col"{}>{}</th>').format(_side(table, at), _breakable(name))
        for at, name in enumerate(table.head)
    ]
    out.append(Markup("<thead><tr>{}</tr></thead><tbody>").format(Markup("").join(heads)))
    for row in table.rows:
        cells = [_html_cell(value, at, table) for at, value in enumerate(row)]
        out.append(Markup("<tr>{}</tr>").format(Markup("").join(cells)))
    out.append(Markup("</tbody></table>\n"))
    return str(Markup("\n").join(out))


def _breakable(name: str) -> Markup:
    """Return a heading that may be broken behind the colons of a task's options."""
    return Markup(":<wbr>").join(html_escape(part) for part in name.split(":"))


def _side(table: Table, at: int) -> Markup:
    return Markup("") if at < table.left else Markup(' class="n"')


def _html_cell(value: Value, at: int, table: Table) -> Markup:
    shown = html_escape(value.text)
    shown = Markup("<strong>{}</strong>").format(shown) if value.bold else shown
    shown = Markup("<em>{}</em>").format(shown) if value.italic else shown
    if at == 0:
        return Markup('<th scope="row"{}>{}</th>').format(_side(table, at), shown)
    # words, which may be many: their column wraps
    side = Markup(' class="w"') if at < table.left else _side(table, at)
    return Markup("<td{}>{}</td>").format(side, shown)


def latex_table(table: Table) -> str:
    r"""Return ``table`` as a LaTeX float with booktabs rules, shrunk to the line where too wide.

    Needs ``\usepackage{booktabs,graphicx}`` and nothing else, with any TeX engine.
    """

    def cell(value: Value) -> str:
        shown = latex_escape(value.text)
        shown = rf"\textbf{{{shown}}}" if value.bold else shown
        return rf"\emph{{{shown}}}" if value.italic else shown

    sides = "l" * table.left + "r" * (len(table.head) - table.left)
    caption = f"{table.title}. {table.source}" if table.title else table.source
    rows = [" & ".join(cell(value) for value in row) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{latex_escape(caption)}}}",
            rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', table.name)}}}",
            r"\small",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{@{{}}{sides}@{{}}}}",
            r"\toprule",
            " & ".join(latex_escape(name) for name in table.head) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


_LATEX = {
    **{"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_"},
    **{"{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''"},
    **{"±": r"$\pm$", "·": r"$\cdot$", "×": r"$\times$", "–": "--", "—": "---", "−": "$-$"},
    **{"…": r"\ldots{}", "→": r"$\rightarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "[": "{[}"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$", "τ": r"$\tau$", "σ": r"$\sigma$"},
    **{"]": "{]}", "'": "'", "`": r"\textasciigrave{}", "’": "'", "²": "$^2$"},
    **{"†": r"\dag{}", "“": "``", "”": "''"},
}


def latex_escape(shown: object) -> str:
    """Make ``shown`` inert in LaTeX: one line, no command, nothing a plain engine cannot set.

    Accents are dropped and all else beyond ASCII is written by its code point.
    """
    return "".join(_latex_character(character) for character in " ".join(str(shown).split()))


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if " " <= character <= "~":
        return character
    # a letter with accents alone: ½ is not 12, and ≠ is not =
    base, *marks = list(unicodedata.normalize("NFD", character))
    if marks and base.isascii() and base.isalpha() and all(map(unicodedata.combining, marks)):
        return base
    return f"U+{ord(character):04X}"


def latex_document(tables: Iterable[str]) -> str:
    """Return a document that sets ``tables`` one after another, to be compiled as it is."""
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage[a4paper,margin=20mm]{geometry}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage{booktabs,graphicx}",
            r"\begin{document}",
            *(rf"\input{{{name}}}" + "\n" + r"\clearpage" for name in tables),
            r"\end{document}",
            "",
        ]
    )


WRITERS: dict[str, Callable[[Table], str]] = {
    "markdown": lambda table: "\n".join(markdown_table(table)) + "\n",
    "latex": latex_table,
    "csv": csv_table,
    "html": html_table,
}
"""What writes a table alone, by the name of the format."""
