"""What identifies data: hashes of the bytes read, remembered so that asking again is cheap."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.data.cache import cache_dir
from bench.errors import BenchError
from bench.store import write_atomically

# A file changed twice within one tick of its clock keeps its mtime, so the hash of a file this
# young (in nanoseconds) is not remembered.
SETTLED_NS = 2_000_000_000


def digest(parts: Any) -> str:
    """Return the sha256, in hex, of ``parts`` written as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256, in hex, of the bytes of ``path``."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def damage(path: Path, sha256: str | None) -> str:
    """Return in a few words why ``path`` is not the file with that hash; empty where it is."""
    try:
        return "" if file_sha256(path) == sha256 else "its checksum does not match"
    except OSError as error:
        return error.strerror or type(error).__name__


def files_fingerprint(root: Path, files: Iterable[Path]) -> str:
    """Return the sha256 over (name below ``root``, sha256 of the bytes) of ``files``.

    A hash is remembered by resolved path, size and modification time; where it cannot be, the
    files are read again each time.

    Raises:
        BenchError: naming a file that cannot be read.
    """
    remembered = _load()
    known = dict(remembered)
    names = []
    for path in sorted(set(files)):
        try:
            names.append([path.relative_to(root).as_posix(), _known_sha256(path, known)])
        except OSError as error:
            raise BenchError(f"{path}: cannot be read: {error}") from error
    if known != remembered:
        _save(known)
    return digest(names)


def _known_sha256(path: Path, known: dict[str, Any]) -> str:
    """Return the sha256 of ``path`` from ``known``, else compute it and note it there."""
    resolved = path.resolve()
    status = resolved.stat()
    entry = known.get(str(resolved))
    match entry:
        case [status.st_size, status.st_mtime_ns, str(sha256)] if len(sha256) == 64:
            return sha256
    computed = file_sha256(resolved)
    if time.time_ns() - status.st_mtime_ns > SETTLED_NS:
        known[str(resolved)] = [status.st_size, status.st_mtime_ns, computed]
    return computed


def _load() -> dict[str, Any]:
    try:
        content = json.loads((cache_dir() / "fingerprints.json").read_text(encoding="utf-8"))
    except (BenchError, OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _save(known: dict[str, Any]) -> None:
    # Two processes that write at once lose each other's entries, never the file: the loser
    # hashes again.
    try:
        text = json.dumps(known, indent=1, sort_keys=True)
        write_atomically(cache_dir() / "fingerprints.json", text.encode())
    except (BenchError, OSError):
        pass
