"""Mirrors of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from judged_mirror import write_beir


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that ``BENCH_DATA`` names, beside an empty cache."""
    root = tmp_path / "mirror"
    root.mkdir()
    monkeypatch.setenv("BENCH_DATA", str(root))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return root


@pytest.fixture
def beir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a small judged collection, which ``BENCH_DATA`` names."""
    root = write_beir(tmp_path / "beir")
    monkeypatch.setenv("BENCH_DATA", str(root))
    return root
