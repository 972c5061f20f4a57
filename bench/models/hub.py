"""Checkpoints of the Hugging Face hub by name: ``hub:NAME`` or, pinned, ``hub:NAME@REVISION``."""

from __future__ import annotations

from pathlib import Path

from bench.errors import BenchError, first_line


def hub_name(name: str) -> tuple[str, str]:
    """Return the repository and the revision that ``name`` means; a local folder has none.

    >>> hub_name("hub:facebook/bart-base@aadd2ab"), hub_name("hub:facebook/bart-base")
    (('facebook/bart-base', 'aadd2ab'), ('facebook/bart-base', 'main'))
    """
    whole = name.removeprefix("hub:")
    repository, _, revision = whole.partition("@")
    if not revision or Path(whole).is_dir():
        return whole, "main"
    return repository, revision


def unreachable(what: str, error: Exception) -> BenchError:
    """Build the error for a checkpoint, "model 'NAME'", that cannot be loaded."""
    message = f"{what} cannot be loaded: {first_line(error)}"
    return BenchError(message, "presets quick and small need none")
