"""A mirror of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that ``BENCH_DATA`` names, beside an empty cache."""
    root = tmp_path / "mirror"
    root.mkdir()
    monkeypatch.setenv("BENCH_DATA", str(root))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return root
