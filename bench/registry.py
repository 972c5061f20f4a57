"""One registry for each kind of part: methods, baselines, tasks.

A part registers itself with a decorator::

    @register_method("kd")
    class KD(Method): ...

Files of the built-in packages and of plug-ins are *scanned* (only their syntax tree is read), so
that listing names needs neither torch nor a working plug-in; a file is imported when one of its
names is asked for.  A name can be registered only once.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from bench.errors import BenchError, unknown

T = TypeVar("T")
EVERYTHING = "all"  # on the command line: every registered name


@dataclass(frozen=True)
class Entry:
    """A registered name: where it comes from and its summary, without importing it."""

    name: str
    summary: str
    origin: str
    module: str
    path: Path | None = None


class Registry(Generic[T]):
    """Names of one kind of part.

    Args:
        kind: what is registered, singular ("method"); the decorator is ``register_<kind>``.
        package: the built-in package whose modules are scanned.
        entry_points: the entry-point group of installed plug-ins.
    """

    def __init__(self, kind: str, package: str, entry_points: str) -> None:
        self.kind = kind
        self.package = package
        self.group = entry_points
        self._classes: dict[str, type[T]] = {}
        self._entries: dict[str, Entry] = {}
        self._discovered = False
        self.problems: list[str] = []

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Return the decorator that registers a class under ``name``."""

        def decorate(cls: type[T]) -> type[T]:
            origin = _origin(cls)
            _check_name(self.kind, name, origin)
            if self.kind in ("method", "baseline"):
                from bench.declared import check_class

                check_class(cls, self.kind, f"{origin}: {self.kind} '{name}'")
            elif self.kind == "task":
                from bench.declared import check_task

                check_task(cls, f"{origin}: task '{name}'")
            known = self._entries.get(name)
            taken = self._classes.get(name)
            if (known and known.origin != origin) or (taken and _place(taken) != _place(cls)):
                first = known.origin if known else _origin(self._classes[name])
                raise BenchError(
                    f"{self.kind} '{name}' is registered twice: {first} and {origin}",
                    "names are unique; choose another",
                )
            self._classes[name] = cls
            self._entries[name] = Entry(name, _summary(cls.__doc__), origin, cls.__module__)
            cls.name = name  # type: ignore[attr-defined]
            return cls

        return decorate

    def entries(self) -> list[Entry]:
        """Return all known entries by name, without importing built-in modules."""
        self._discover()
        return [self._entries[name] for name in sorted(self._entries)]

    def names(self) -> list[str]:
        """Return all known names, sorted."""
        return [entry.name for entry in self.entries()]

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def get(self, name: str) -> type[T]:
        """Return the class registered under ``name``, importing its module when needed.

        Raises:
            BenchError: for an unknown name, or one whose import fails or does not register it.
        """
        self._discover()
        if name not in self._classes:
            entry = self._entries.get(name)
            if entry is None:
                raise unknown(self.kind, name, self._entries)
            _import(entry)
        if name not in self._classes:
            raise BenchError(
                f"{self.kind} '{name}' is declared in {self._entries[name].origin} "
                "but importing it did not register it"
            )
        return self._classes[name]

    def add_file(self, path: Path, module: str) -> None:
        """Scan one source file and add the names it registers.

        Raises:
            BenchError: for a name that is not allowed or already registered elsewhere.
        """
        for entry in scan(path, module, f"register_{self.kind}"):
            _check_name(self.kind, entry.name, entry.origin)
            known = self._entries.get(entry.name)
            if known and known.origin != entry.origin:
                raise BenchError(
                    f"{self.kind} '{entry.name}' is registered twice: "
                    f"{known.origin} and {entry.origin}",
                    "names are unique; choose another",
                )
            self._entries[entry.name] = entry

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for module, path in _package_files(self.package):
            try:
                self.add_file(path, module)
            except (SyntaxError, ValueError, OSError, RecursionError) as error:
                self.problems.append(f"{_display(path)}: {type(error).__name__}: {error}")
        for point in importlib.metadata.entry_points(group=self.group):
            try:
                before = len(self._entries)  # its package may import, and so register, it
                spec = importlib.util.find_spec(point.module)
                if spec is None or spec.origin is None:
                    raise ImportError(f"no module named {point.module}")
                self.add_file(Path(spec.origin), point.module)
                if len(self._entries) == before:
                    raise ImportError(f"{point.module} registers no {self.kind} in its own file")
            except Exception as error:  # any plug-in error: report it, go on with the rest
                self.problems.append(
                    f"plug-in '{point.name}' ({point.value}): {type(error).__name__}: {error}"
                )


def _check_name(kind: str, name: object, origin: str) -> None:
    """Refuse a name that the command line could not take or that would need escaping."""
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,63}", name, re.ASCII)):
        raise BenchError(
            f"{origin}: {name!r:.80} is not a valid {kind} name",
            "letters, digits and . _ + - (at most 64)",
        )
    if name == EVERYTHING:
        raise BenchError(f"{origin}: no {kind} can be called '{name}'", "it stands for all of them")


def scan(path: Path, module: str, decorator: str) -> Iterator[Entry]:
    """Yield the entries that the source file ``path`` registers with ``decorator``."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for call in node.decorator_list:
            if not isinstance(call, ast.Call) or not call.args:
                continue
            function, argument = call.func, call.args[0]
            label = function.attr if isinstance(function, ast.Attribute) else None
            label = function.id if isinstance(function, ast.Name) else label
            if label == decorator and isinstance(argument, ast.Constant):
                origin = f"{_display(path)}:{call.lineno}"
                yield Entry(
                    str(argument.value), _summary(ast.get_docstring(node)), origin, module, path
                )


def load_plugin(target: str) -> ModuleType:
    """Import the plug-in ``target``: a ``.py`` file or a module name.

    Raises:
        BenchError: when it does not exist or its import fails; the message names it.
    """
    path = Path(target)
    try:
        if path.suffix == ".py":
            if not path.is_file():
                raise FileNotFoundError(f"no such file: {target}")
            return _import_file(path.resolve())
        return importlib.import_module(target)
    except BenchError:
        raise
    except (Exception, SystemExit) as error:  # a plug-in may try to leave
        raise BenchError(
            f"plug-in '{target}' cannot be imported: {type(error).__name__}: {error}"
        ) from error


def load_plugins(targets: Sequence[str]) -> dict[str, str]:
    """Import each plug-in and return an error message by target for those that failed."""
    problems = {}
    for target in targets:
        try:
            load_plugin(target)
        except BenchError as error:
            problems[target] = str(error)
    return problems


def _import_file(path: Path) -> ModuleType:
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"bench_plugin_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import(entry: Entry) -> None:
    try:
        importlib.import_module(entry.module)
    except BenchError:
        raise
    except (Exception, SystemExit) as error:
        raise BenchError(
            f"{entry.origin}: cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _package_files(package: str) -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return
    for location in spec.submodule_search_locations:
        root = Path(location)
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            yield ".".join((package, *parts)), path


def _origin(cls: type) -> str:
    try:
        path = inspect.getsourcefile(cls)
        _, line = inspect.getsourcelines(cls)
    except (OSError, TypeError):
        return cls.__module__
    return f"{_display(Path(path))}:{line}" if path else cls.__module__


def _place(cls: type) -> tuple[str, str]:
    """Return the file of ``cls`` and its place there: two files may be displayed alike."""
    try:
        return str(Path(inspect.getsourcefile(cls) or "").resolve()), _origin(cls)
    except TypeError:
        return cls.__module__, _origin(cls)


def _display(path: Path) -> str:
    """Return ``path`` relative to the project root or working directory, else its name."""
    path = path.resolve()
    for root in (Path(__file__).resolve().parent.parent, Path.cwd()):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return path.name


def _summary(docstring: str | None) -> str:
    return (docstring or "").strip().split("\n")[0].strip()
