"""Hashes of a method's or task's source, which are part of a cell's key."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from types import ModuleType

from bench.config import content_hash

ENGINE = ("bench", "methods", "baselines")
# Modules whose code is part of a method; the engine's own is covered by PROTOCOL.
SHARED = ("bench.losses", "bench.supervised", "methods.", "baselines.")


def code_hash(cls: type) -> str:
    """Return a hash of the code of ``cls``: comments, docstrings, layout and ``space`` aside.

    It covers the module that defines it, those of its parent classes outside the engine, and of the
    modules that these import those of :data:`SHARED` and of the same package.
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


def task_code(cls: type) -> str:
    """Return the hash of a task's source; empty for the suite's own tasks."""
    return "" if cls.__module__.startswith("bench.") else code_hash(cls)


def _collect(module: ModuleType | None, sources: dict[str, str]) -> None:
    if module is None or module.__name__ in sources:
        return
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError):
        tree = ast.parse("")
    sources[module.__name__] = ast.unparse(stripped(tree))
    followed: tuple[str, ...] = SHARED
    package = module.__name__.partition(".")[0]
    if module.__package__ and package not in ENGINE:  # a plug-in's
        followed += (f"{package}.",)
    for name in imported_names(tree, module.__package__ or ""):
        if f"{name}.".startswith(followed):
            _collect(_module(name), sources)


def imported_names(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the absolute names that ``tree`` imports and that may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, package) if node.level else relative
            yield base
            # a package's module is imported as if it were one of its names
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:  # a name in a module, not a module
            return None
        raise


def stripped(tree: ast.Module) -> ast.Module:
    """Remove docstrings and ``space`` from ``tree``, in place, and return it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.ClassDef):  # what tuning may vary changes no result
            node.body = [each for each in node.body if not _is_space(each)] or [ast.Pass()]
    return tree


def _is_space(node: ast.stmt) -> bool:
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", ())
    names = [each.id for each in targets if isinstance(each, ast.Name)]
    return names == ["space"]
