"""The embedded documentation-search set: summaries of docstrings as queries, bodies as passages.

See README.md beside this file, and ``build.py`` for how it is made.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pandas as pd

from bench.errors import BenchError

FOLDER = Path(__file__).parent
FILE = "documentation.parquet"
NAME = "embedded documentation search"
LIMITS = (
    "docstring summaries as queries, bodies as passages (numpy, scipy, pandas, scikit-learn), one "
    "relevant passage each and no human judgements; the collection is small, so recall@1000 says "
    "little; the MiniLM teacher was trained on code documentation, perhaps on some of this"
)
REVISION = "numpy 2.4.6, scipy 1.17.1, pandas 3.1.1, scikit-learn 1.9.1"
_REBUILD = "rebuild it with: python -m bench.data.embedded.documentation.build"


def read_documentation() -> pd.DataFrame:
    """Read the set, after checking its sha256 against MANIFEST.json.

    Returns:
        One row per pair: ``id`` (dotted name), ``module``, ``split`` (no module is in two),
        ``query`` and ``passage``.

    Raises:
        BenchError: when a file is missing, unreadable or not the one listed.
    """
    content = _read(FILE)
    if hashlib.sha256(content).hexdigest() != sha256():
        raise BenchError(f"{FILE} is not the one that MANIFEST.json lists", _REBUILD)
    return pd.read_parquet(io.BytesIO(content), engine="pyarrow")


def sha256() -> str:
    """Return the sha256 (hex) that MANIFEST.json lists for the set."""
    try:
        return str(json.loads(_read("MANIFEST.json"))["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(
            "MANIFEST.json: no checksum for the documentation set", _REBUILD
        ) from error


def _read(name: str) -> bytes:
    try:
        return (FOLDER / name).read_bytes()
    except OSError as error:
        raise BenchError(f"{name}: cannot be read ({error.strerror})", _REBUILD) from error
