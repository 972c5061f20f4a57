"""The engine knows no particular method, and steps an optimiser in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import bench
from bench import METHODS


def _engine() -> list[Path]:
    root = Path(bench.__file__).parent
    return [path for path in sorted(root.rglob("*.py")) if "report" not in path.parts]


def test_the_engine_names_no_method() -> None:
    # one method is called what the signal it learns from is called
    signals = {"logits", "embedding", "hidden", "head", "generator"}
    names = set(METHODS.names()) - signals
    assert {"kd", "fitnets", "fitnets_joint"} <= names
    found = [
        f"{path.name}:{node.lineno}: {node.value!r}"
        for path in _engine()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert found == []


def test_the_engine_imports_no_particular_method() -> None:
    found = []
    for path in _engine():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            found += [
                f"{path.name}: {module}"
                for module in modules
                if module.split(".")[0] in ("methods", "baselines")
            ]
    assert found == []


def test_the_loop_is_written_once() -> None:
    # a second training loop would have to step an optimiser
    stepping = [path for path in _engine() if "optimizer.step(" in path.read_text(encoding="utf-8")]
    assert len(stepping) == 1 and stepping[0].parent.name == "training"
    for package in ("methods", "baselines"):
        for path in (Path(bench.__file__).parent.parent / package).rglob("*.py"):
            assert ".step(" not in path.read_text(encoding="utf-8")
