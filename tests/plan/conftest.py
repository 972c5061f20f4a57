"""Plans without a mirror."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch, no_new_methods: None) -> None:
    """Plan without a mirror, and take out what a test's plug-ins have registered."""
    monkeypatch.delenv("BENCH_DATA", raising=False)
