"""Build the embedded documentation-search set from the docstrings of four pinned releases.

Usage::

    python -m bench.data.embedded.documentation.build [--wheels DIR] [--out DIR]

Without ``--wheels`` pip downloads the wheels and refuses any that does not have the pinned sha256.
They are read as archives: nothing is installed and no code of theirs runs.  Two runs with the same
pyarrow version write the same bytes.

A docstring's one-line summary is the query, its body without that line the passage, in which the
object's own name is masked; a pair whose body repeats the summary is left out.  Source: NumPy,
SciPy, pandas and scikit-learn, BSD-licensed (``LICENSES.txt``).
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.data.embedded.build import normalise, parquet_bytes, similar_pairs

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")
PYTHON = "3.11"
SPLITS = ("train", "validation", "test")
TRAIN_BELOW, VALIDATION_BELOW = 0.70, 0.80
SALT = "documentation-2"
KEPT = 0.55  # share of the pairs that are kept, by hash: so many texts a quick run can encode
MASK = "[NAME]"
SUMMARY_WORDS = (4, 30)
PASSAGE_WORDS = (20, 90)  # shorter ones are left out, longer ones cut
FILE, LICENCES = "documentation.parquet", "LICENSES.txt"

SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "module", "split", "query", "passage")])


@dataclass(frozen=True)
class Release:
    """A pinned wheel: its distribution, version, package folder and sha256."""

    name: str
    version: str
    package: str
    sha256: str


RELEASES = (
    Release(
        "numpy",
        "2.4.6",
        "numpy",
        "89cd468399cfd2504718f0ba50e410dca55a170b61a02ad92bb18c8a65186e93",
    ),
    Release(
        "scipy",
        "1.17.1",
        "scipy",
        "43af8d1f3bea642559019edfe64e9b11192a8978efbd1539d7bc2aaa23d92de4",
    ),
    Release(
        "pandas",
        "3.1.1",
        "pandas",
        "4f1602f614bb83f443381dbcbb94c4ac764b2e50c8d6c965614c5cd83e328c47",
    ),
    Release(
        "scikit-learn",
        "1.9.1",
        "sklearn",
        "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    ),
)


@dataclass(frozen=True)
class Row:
    """One pair: ``id`` is the object's dotted name; rows of one ``module`` stay in one split."""

    id: str
    module: str
    query: str
    passage: str


def fetch_wheels(folder: Path) -> None:
    """Download the pinned wheels into ``folder`` with pip; SystemExit when it fails."""
    lines = [f"{each.name}=={each.version} --hash=sha256:{each.sha256}" for each in RELEASES]
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--python-version", PYTHON, "--dest", str(folder)]
    command += [part for name in PLATFORMS for part in ("--platform", name)]
    done = subprocess.run(
        [*command, "-r", str(requirements)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise SystemExit(f"pip could not download the wheels: {lines[-1]} (or pass --wheels DIR)")


def open_wheel(folder: Path, release: Release) -> zipfile.ZipFile:
    """Return the pinned wheel in ``folder``; SystemExit when it is missing."""
    for path in sorted(folder.glob("*.whl")):
        if hashlib.sha256(path.read_bytes()).hexdigest() == release.sha256:
            return zipfile.ZipFile(path)
    raise SystemExit(f"{folder} has no pinned wheel of {release.name} {release.version}")


# --- docstrings ----------------------------------------------------------------------------


def documented(wheel: zipfile.ZipFile, package: str) -> Iterator[tuple[str, str, str]]:
    """Yield (module, name within it, docstring) of the public functions and classes."""
    for file in sorted(wheel.namelist()):
        parts = file.split("/")
        if not file.startswith(f"{package}/") or not file.endswith(".py"):
            continue
        if {"tests", "conftest.py", "externals", "_lib", "_testing"} & set(parts):
            continue
        module = ".".join(parts)[: -len(".py")].removesuffix(".__init__")
        tree = ast.parse(wheel.read(file))
        for prefix, node in _definitions(tree):
            text = ast.get_docstring(node)
            if text:
                yield module, f"{prefix}{node.name}", text


Definition = ast.FunctionDef | ast.ClassDef


def _definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Yield public functions and classes of a module and public methods of its classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix, node
            if isinstance(node, ast.ClassDef) and not prefix:
                yield from _definitions(node, f"{node.name}.")


def pair(name: str, docstring: str) -> tuple[str, str] | None:
    """Return (query, passage), or ``None`` when the docstring does not make a fair pair."""
    first, _, rest = inspect.cleandoc(docstring).partition("\n\n")
    query = _plain(first)
    body = rest.split("\nExamples\n")[0].split("\nReferences\n")[0]
    words = _plain(body).split()[: PASSAGE_WORDS[1]]
    low, high = SUMMARY_WORDS
    if not low <= len(query.split()) <= high or len(words) < PASSAGE_WORDS[0]:
        return None
    if repeats(query, " ".join(words)):  # before masking, which would hide it
        return None
    return query, _masked(" ".join(words), name)


def repeats(query: str, passage: str) -> bool:
    """Return whether the passage contains the query's words in order, case and marks aside.

    Such a pair needs no understanding: any match of words finds it.
    """
    return f" {_bare(query)} " in f" {_bare(passage)} "


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _plain(text: str) -> str:
    """Return ``text`` in one line, without reStructuredText markup."""
    text = re.sub(r"^\s*\.\. \w[\w-]*::.*$", " ", text, flags=re.MULTILINE)
    text = re.sub(r":[a-z:]+:`~?([^`<]*?)(?:\s*<[^>]*>)?`", r"\1", text)
    text = re.sub(r"^\s*[-=~^]{3,}\s*$", " ", text, flags=re.MULTILINE)
    text = re.sub(r"[`*|\\]|\[\d+\]_", "", text)
    return " ".join(text.split())


def _masked(text: str, name: str) -> str:
    """Replace the object's own name, whole words only."""
    for part in sorted(set(name.split(".")), key=len, reverse=True):
        text = re.sub(rf"\b{re.escape(part)}\b", MASK, text)
    return text


def group_of(module: str) -> str:
    """Return the first three parts of a module's name, which stay in one split.

    ``scipy.signal._filter_design`` and ``scipy.signal.windows`` are two groups; whatever lies below
    ``pandas.core.frame`` belongs to it.
    """
    parts = module.split(".")
    return ".".join(parts[:3])


def split_of(group: str) -> str:
    """Return the split of a group: its salted sha256 as a number in 0..1, cut at 0.7 and 0.8."""
    place = _place(f"{SALT}:{group}")
    if place < TRAIN_BELOW:
        return "train"
    return "validation" if place < VALIDATION_BELOW else "test"


def _place(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


# --- rows ----------------------------------------------------------------------------------


def collect(wheels: Path) -> list[Row]:
    """Return all pairs that are kept, in the order of their ids.

    Of similar texts (equal words, or word sets of Jaccard similarity 0.8 or more, on either side)
    the first is kept: no query has two answers, and no split holds a copy from another.
    """
    rows = []
    for release in RELEASES:
        with open_wheel(wheels, release) as wheel:
            for module, name, docstring in documented(wheel, release.package):
                made = pair(name, docstring)
                if made:
                    rows.append(Row(f"{module}.{name}", group_of(module), *made))
    rows = sorted({row.id: row for row in rows}.values(), key=lambda row: row.id)
    rows = [row for row in rows if _place(f"keep:{row.id}") < KEPT]
    rows = _without_copies(rows, [normalise(row.query) for row in rows])
    rows = _without_copies(rows, [normalise(row.passage) for row in rows])
    return rows


def _without_copies(rows: Sequence[Row], texts: Sequence[str]) -> list[Row]:
    lost = {later for _, later in similar_pairs(texts)}
    seen: set[str] = set()
    kept = []
    for at, (row, text) in enumerate(zip(rows, texts, strict=True)):
        if text and at not in lost and text not in seen:
            kept.append(row)
        seen.add(text)
    return kept


def build(wheels: Path, out: Path) -> dict[str, Any]:
    """Write the parquet file, MANIFEST.json and the licences into ``out``; return the manifest."""
    rows = collect(wheels)
    columns = {
        "id": [row.id for row in rows],
        "module": [row.module for row in rows],
        "split": [split_of(row.module) for row in rows],
        "query": [row.query for row in rows],
        "passage": [row.passage for row in rows],
    }
    content = parquet_bytes(pa.table(columns, schema=SCHEMA))
    counts = Counter(columns["split"])
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE).write_bytes(content)
    (out / LICENCES).write_text(licences(wheels), encoding="utf-8")
    manifest = {
        "file": FILE,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "rows": len(rows),
        "splits": {name: counts[name] for name in SPLITS},
        "modules": len(set(columns["module"])),
        "pyarrow": pa.__version__,
        "licence": {"name": "BSD-3-Clause", "file": LICENCES},
        "sources": [vars(each) for each in RELEASES],
    }
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    (out / "MANIFEST.json").write_text(text, encoding="utf-8")
    return manifest


def licences(wheels: Path) -> str:
    """Return the licence of each release as it stands in its wheel, one after another."""
    parts = []
    for release in RELEASES:
        with open_wheel(wheels, release) as wheel:
            names = [
                name
                for name in sorted(wheel.namelist())
                if re.search(r"\.dist-info/(licenses/)?(LICENSE(\.txt)?|COPYING)$", name)
            ]
            if not names:
                raise SystemExit(f"the wheel of {release.name} holds no licence")
            text = wheel.read(names[0]).decode("utf-8").replace("\r\n", "\n").rstrip()
        # what follows in binary wheels is of bundled libraries, whose docstrings are not used
        own = re.split(r"\n(?:----|====|This binary distribution)", text)[0].rstrip()
        parts.append(f"{release.name} {release.version}\n{'=' * 60}\n{own}\n")
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every expected failure ends in SystemExit with one line."""
    parser = argparse.ArgumentParser(description="Build the embedded documentation-search set.")
    parser.add_argument("--wheels", type=Path, help="folder with the pinned wheels")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="output folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if options.wheels is None:
            fetch_wheels(Path(folder))
        manifest = build(options.wheels or Path(folder), options.out)
    print(f"{FILE}: {manifest['rows']} rows, {manifest['bytes']} bytes, {manifest['splits']}")


if __name__ == "__main__":
    main()
