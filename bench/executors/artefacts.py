"""Transfer of teachers and their signals between machines that share no cache folder.

Cache files are sent with their sha256 and verified on arrival before they get their names; a file
that already exists with the same sum is not sent.  The manifest of a folder comes last, so that an
incomplete folder never counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bench.data.cache import MANIFEST, WEIGHTS, teacher_folder, teacher_identity
from bench.errors import BenchError
from bench.locks import locked
from bench.store import read_object, slug, write_atomically

Known = frozenset[tuple[str, str]]  # (path, sha256)


@dataclass(frozen=True)
class Parcel:
    """One file on its way.

    Attributes:
        path: below the folder it is sent to, with forward slashes.
        sha256: of its bytes.
        data: the bytes, or what stands for them while nobody has asked for them.
    """

    path: str
    sha256: str
    data: Any


def parcel(root: Path, path: Path, data: bytes | None = None) -> Parcel:
    """Return the parcel of a file below ``root``."""
    content = path.read_bytes() if data is None else data
    name = path.relative_to(root).as_posix()
    return Parcel(name, hashlib.sha256(content).hexdigest(), content)


def unpack(root: Path, item: Parcel, data: bytes | memoryview) -> Path:
    """Verify the data of ``item``, write it below ``root`` and return its path.

    Raises:
        BenchError: when its sum does not match or its name leads out of ``root``.
    """
    name = PurePosixPath(item.path)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise BenchError(f"refused a file called '{item.path}'", "it leads out of its folder")
    if hashlib.sha256(data).hexdigest() != item.sha256:
        raise BenchError(f"'{item.path}' was damaged in transfer", "its checksum does not match")
    path = root.joinpath(*name.parts)
    if name.parts[0] == "signals" and name.name == MANIFEST:
        _merge(path, bytes(data))
    else:
        write_atomically(path, data)
    return path


def accept(cache: Path, item: Parcel, data: bytes | memoryview) -> Path:
    """Do as :func:`unpack` while no other process of this machine fills the same folder."""
    with _one_at((cache / item.path).parent):
        return unpack(cache, item, data)


def parcels(
    cache: Path, task: str, teacher_key: str, known: Known = frozenset()
) -> Iterator[Parcel]:
    """Yield the files of a teacher and of its signals, except those that are ``known``.

    A file that does not match its folder's manifest is left out, to be made again where needed.
    """
    for folder, sums in _folders(cache, task, teacher_key):
        sent = False
        for name, sha256 in sums.items():
            path = folder / name
            if (path.relative_to(cache).as_posix(), sha256) in known:
                continue
            item = parcel(cache, path) if path.is_file() else None
            if item is not None and item.sha256 == sha256:
                sent = True
                yield item
        manifest = parcel(cache, folder / MANIFEST)
        if sent or (manifest.path, manifest.sha256) not in known:
            yield manifest


def receive(cache: Path, offers: Iterable[Parcel], fetch: Callable[[Any], Any]) -> int:
    """Fetch the missing files of ``offers`` into the cache and return how many were fetched.

    Args:
        cache: the folder they belong in.
        offers: all files of the teacher and its signals, manifests after what they list.
        fetch: turns a parcel's ``data`` into bytes.
    """
    fetched = 0
    by_folder: dict[str, list[Parcel]] = {}
    for offer in offers:
        by_folder.setdefault(str(PurePosixPath(offer.path).parent), []).append(offer)
    for name in sorted(by_folder, reverse=True):  # "teachers/…" before "signals/…"
        with _one_at(cache / name):
            there = _sums(cache / name)
            missing = [
                item
                for item in by_folder[name]
                if not item.path.endswith(f"/{MANIFEST}")
                and not (
                    there.get(PurePosixPath(item.path).name) == item.sha256
                    and (cache / item.path).is_file()
                )
            ]
            manifests = [item for item in by_folder[name] if item.path.endswith(f"/{MANIFEST}")]
            for item in [*missing, *(manifests if missing else [])]:
                unpack(cache, item, fetch(item.data))
                fetched += 1
    return fetched


def _folders(cache: Path, task: str, teacher_key: str) -> list[tuple[Path, dict[str, str]]]:
    """Return the folders of a teacher and of its signals with the sums of their files."""
    teacher = teacher_folder(cache, task, teacher_key)
    found = [teacher] if (teacher / MANIFEST).is_file() else []
    identity = teacher_identity(teacher_key, _sums(teacher).get(WEIGHTS, ""))
    for manifest in sorted((cache / "signals").glob(f"*/{MANIFEST}")):
        if read_object(manifest).get("teacher") == identity:
            found.append(manifest.parent)
    return [(folder, _sums(folder)) for folder in found]


def _sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of a folder's files by file name, as its manifest lists them."""
    sums = read_object(folder / MANIFEST).get("sha256")
    suffix = ".npy" if folder.parent.name == "signals" else ""
    items = sums.items() if isinstance(sums, dict) else ()
    return {f"{slug(str(name))}{suffix}": str(value) for name, value in items}


def _merge(path: Path, data: bytes) -> None:
    """Write a manifest that arrived, with the sums of the existing one added."""
    arrived, there = json.loads(data), read_object(path)
    if there.get("teacher") == arrived["teacher"]:
        arrived["sha256"] = {**there.get("sha256", {}), **arrived["sha256"]}
    write_atomically(path, json.dumps(arrived, indent=1, sort_keys=True).encode())


def _one_at(folder: Path) -> AbstractContextManager[None]:
    """Return a lock that keeps other processes of this machine from filling the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return locked(folder / ".lock")
