"""Checkpoints of the Hugging Face hub by name: ``hub:NAME`` or, pinned, ``hub:NAME@REVISION``."""

from __future__ import annotations

import re
from pathlib import Path

from bench.errors import BenchError, first_line


def hub_name(name: str) -> tuple[str, str]:
    """Return the repository and the revision that ``name`` means; a local folder has none.

    >>> hub_name("hub:facebook/bart-base@aadd2ab"), hub_name("hub:facebook/bart-base")
    (('facebook/bart-base', 'aadd2ab'), ('facebook/bart-base', 'main'))
    """
    whole = name.removeprefix("hub:")
    repository, _, revision = whole.partition("@")
    if not revision or _is_folder(whole):
        return whole, "main"
    return repository, revision


def commits(*names: str) -> dict[str, str]:
    """Return the commits of those of the models ``names`` that came from the hub.

    They are read off the hub's local cache, so they are those that were loaded last.  What is
    packaged, fresh or lies in a folder has none.

    Returns:
        40 hex digits each, by the part of the name that is the hub's (of ``dual:hub:NAME+cls``
        that is ``hub:NAME``).
    """
    found = {}
    for name in names:
        if match := _PUBLISHED.search(name):
            repository, revision = _repository(match[0])
            commit = _cached_commit(repository, revision)
            if commit:
                found[match[0]] = commit
    return found


_PUBLISHED = re.compile(r"hub:[^+]+|timm:.+@pretrained")
_ONE_OF = ("config.json", "model.safetensors")


def _repository(name: str) -> tuple[str, str]:
    if name.startswith("hub:"):
        return hub_name(name)
    import timm

    config = timm.get_pretrained_cfg(name.removeprefix("timm:").removesuffix("@pretrained"))
    return (config.hf_hub_id or "") if config else "", "main"


def _cached_commit(repository: str, revision: str) -> str | None:
    """Return the commit of what the hub's cache holds of ``repository``, or ``None``."""
    if not repository or _is_folder(repository):
        return None
    from huggingface_hub import try_to_load_from_cache

    for file in _ONE_OF:
        try:
            place = try_to_load_from_cache(repository, file, revision=revision)
        except ValueError:  # no name that the hub allows: a record may hold any
            return None
        if isinstance(place, str):
            return Path(place).parent.name  # .../snapshots/COMMIT/config.json
    return None


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # longer than a name may be
        return False


def unreachable(what: str, error: Exception) -> BenchError:
    """Build the error for a checkpoint, "model 'NAME'", that cannot be loaded."""
    message = f"{what} cannot be loaded: {first_line(error)}"
    return BenchError(message, "presets quick and small need none")
