"""The revision that a record names: outputs do not make the code unclean."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import environment


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a git checkout of one commit that is taken for the project."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "code.py").touch()
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(environment, "PROJECT", tmp_path)
    environment.revision.cache_clear()
    yield tmp_path
    environment.revision.cache_clear()


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        *(
            (f"{folder}/a.json", True)
            for folder in ("results", "reports", "tuning", "docs", "mine")
        ),
        ("plugin.py", True),  # its code is part of the keys
        *((path, False) for path in ("bench/code.py", "methods/new.py", "pyproject.toml")),
    ],
)
def test_only_changed_code_makes_a_revision_unclean(project: Path, name: str, clean: bool) -> None:
    path = project / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("changed")
    found = environment.revision()
    assert len(found["git"]) == 40 and found["clean"] is clean


def test_without_a_checkout_no_revision_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "PROJECT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    environment.revision.cache_clear()
    assert environment.revision() == {"git": None, "clean": None}
    environment.revision.cache_clear()
