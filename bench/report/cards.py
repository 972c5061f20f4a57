"""Method cards: what the source of a method says about it, read without importing it.

Only the packages that come with the project are read, so that a report does not depend on what
else was loaded when it was rendered; a method from elsewhere gets a card that says so.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

PACKAGES = ("methods", "baselines")
PROJECT = ("bench.supervised", "methods.", "baselines.")
NEEDS = {
    "logits": "the teacher's logits",
    "embedding": "its embedding (the input of its last layer)",
    "hidden": "its hidden states",
    "head": "the weight of its last layer",
    "generator": "a generator of new inputs",
}


@dataclass(frozen=True)
class MethodCard:
    """What a method says about itself.

    Attributes:
        name: as registered.
        title: the name used in print.
        paper: authors, year, where.
        summary: the first paragraph of its documentation.
        details: the paragraphs after it, equations among them.
        needs: what it needs from the teacher, in words.
        confirmed: what follows the paper.
        choices: what departs from the paper or was left open by it.
        origin: file and line; empty for a method that is not part of this installation.
    """

    name: str
    title: str = ""
    paper: str = ""
    summary: str = ""
    details: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    origin: str = ""


def read_cards() -> dict[str, MethodCard]:
    """Return the cards of all built-in methods and baselines, by registered name."""
    found: dict[str, MethodCard] = {}
    for package in PACKAGES:
        for folder in package_folders(package):
            for path in sorted(folder.rglob("*.py")):
                try:
                    found |= {card.name: card for card in read_file(path, package)}
                except (OSError, SyntaxError, ValueError):
                    continue  # the command that lists methods tells of a broken file
    return found


def package_folders(package: str) -> list[Path]:
    """Return the folders of a top-level package without importing it; none if there is none."""
    spec = importlib.util.find_spec(package)
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


def read_file(path: Path, package: str) -> Iterator[MethodCard]:
    """Yield the cards of the classes that the source file ``path`` registers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes, cards = _classes(tree), _cards(tree)
    for node in [each for each in ast.walk(tree) if isinstance(each, ast.ClassDef)]:
        for name, line in _registered(node):
            card = _attribute(node, "card", classes)
            if isinstance(card, ast.Name):
                card = cards.get(card.id)
            said = _keywords(card, cards) if isinstance(card, ast.Call) else {}
            paragraphs = (ast.get_docstring(node) or "").split("\n\n")
            yield MethodCard(
                name=name,
                title=str(said.get("title") or name),
                paper=str(said.get("paper", "")),
                summary=_line(paragraphs[0]),
                details=tuple(_line(part) for part in paragraphs[1:]),
                needs=_needs(node, classes),
                confirmed=tuple(map(str, said.get("confirmed", ()))),
                choices=tuple(map(str, said.get("choices", ()))),
                origin=f"{package}/{path.name}:{line}",
            )


def _registered(node: ast.ClassDef) -> Iterator[tuple[str, int]]:
    for call in node.decorator_list:
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
            function = call.func
            name = getattr(function, "id", getattr(function, "attr", ""))
            if name in ("register_method", "register_baseline"):
                yield str(call.args[0].value), call.lineno


def _attribute(node: ast.ClassDef, name: str, classes: dict[str, ast.ClassDef]) -> ast.expr | None:
    """Return the value of a class attribute, looked up in the parents of ``classes`` too."""
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                return value
            case ast.AnnAssign(target=ast.Name(id=found), value=value) if found == name and value:
                return value
    for base in node.bases:
        parent = classes.get(getattr(base, "id", ""))
        if parent is not None and parent is not node:
            inherited = _attribute(parent, name, classes)
            if inherited is not None:
                return inherited
    return None


def _needs(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> tuple[str, ...]:
    signals = _attribute(node, "signals", classes)
    if isinstance(signals, ast.Call):
        found: Any = _literal(signals.args[0]) if signals.args else ()
    elif signals is None and any(getattr(base, "id", "") == "Baseline" for base in node.bases):
        found = ()
    else:
        found = ("logits",)  # what a method asks for unless it says otherwise
    return tuple(words for signal, words in NEEDS.items() if signal in (found or ()))


def _cards(tree: ast.Module) -> dict[str, ast.Call]:
    """Return the calls that a file names at its top, which several classes may share."""
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _keywords(call: ast.Call, cards: Mapping[str, ast.Call]) -> dict[str, Any]:
    return {word.arg: _literal(word.value, cards) for word in call.keywords if word.arg}


def _literal(node: ast.expr, cards: Mapping[str, ast.Call] = MappingProxyType({})) -> Any:
    """Return a literal's value, with ``*CARD.field`` and ``CARD.field`` of the file's cards.

    An empty tuple stands for anything that would have to be run.
    """
    match node:
        case ast.Tuple(elts=parts):
            found: list[Any] = []
            for part in parts:
                starred = isinstance(part, ast.Starred)
                value = _literal(part.value if isinstance(part, ast.Starred) else part, cards)
                found += value if starred else [value]
            return tuple(found)
        case ast.Attribute(value=ast.Name(id=name), attr=field) if name in cards:
            return _keywords(cards[name], {}).get(field, ())
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ()


def _classes(tree: ast.Module) -> dict[str, ast.ClassDef]:
    """Return the classes of a file, and those it imports from the project to inherit from."""
    found: dict[str, ast.ClassDef] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PROJECT):
            names = {alias.name: alias.asname or alias.name for alias in node.names}
            found |= {names[n]: c for n, c in _module(str(node.module)).items() if n in names}
    return found | {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


@functools.cache
def _module(name: str) -> dict[str, ast.ClassDef]:
    """Return the classes of a module's own file, which is read but not run."""
    try:
        path = _source(name)
        tree = ast.parse(path.read_text(encoding="utf-8")) if path else ast.Module([], [])
    except (ImportError, OSError, SyntaxError, ValueError):
        return {}
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _source(name: str) -> Path | None:
    """Return a module's file, found without importing it, as that may load torch."""
    top, *inner = name.split(".")
    for folder in package_folders(top):
        place = folder.joinpath(*inner)
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


def _line(paragraph: str) -> str:
    return " ".join(paragraph.replace("``", "").split())
