"""The cache of what can be computed again: decoded images, file hashes, teacher signals."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bench.config import content_hash
from bench.errors import BenchError
from bench.store import slug

APPLICATION = "distillation-bench"
MANIFEST = "manifest.json"  # of all that is kept in the cache
WEIGHTS = "model.safetensors"  # of a teacher


def cache_dir() -> Path:
    """Return the cache folder, created if needed and checked to be writable.

    ``$BENCH_CACHE``, else ``$XDG_CACHE_HOME/distillation-bench``, else
    ``~/.cache/distillation-bench``.

    Raises:
        BenchError: when the folder cannot be made or written.
    """
    chosen, shared = os.environ.get("BENCH_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        if chosen:
            folder = Path(chosen).expanduser().resolve()
        else:
            folder = (Path(shared) if shared else Path.home() / ".cache") / APPLICATION
        folder.mkdir(parents=True, exist_ok=True)
        # Permission bits do not tell of a read-only mount or a full quota: only writing does.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory to be found
        where = chosen or shared or "~/.cache"
        raise BenchError(
            f"the cache folder in {where} cannot be written: {error}",
            "set BENCH_CACHE to a folder you can write",
        ) from error
    return folder


def teacher_identity(key: str, weights: str) -> str:
    """Return the name under which a teacher's signals are kept.

    Args:
        key: of the teacher; one checkpoint may teach several tasks.
        weights: sha256 of its weights; one key can be trained to other weights, on another
            processor or number of threads.
    """
    return content_hash([key, weights])


def teacher_folder(cache: Path, task: str, key: str) -> Path:
    """Return the folder of the teacher with ``key`` in a cache folder of any machine."""
    return cache / "teachers" / f"{slug(task)}-{key[:16]}"
