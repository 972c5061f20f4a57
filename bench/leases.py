"""Leases: several runners share one results directory and never run the same cell twice.

A lease is a small file below ``RESULTS/.leases``, made with ``O_EXCL`` (atomic on local and on
network file systems) and touched every few seconds by its owner.  No two clocks are ever compared:
a lease is dead when nothing about it has changed for :data:`EXPIRY` seconds *of the observer's own
monotonic clock*, or at once when its owner was a process of this very machine that is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = ".leases"
BEAT = 5.0  # seconds between two signs of life
EXPIRY = 60.0  # seconds without one after which a lease is dead


@dataclass
class _Own:
    """A lease of ours: its open file is touched, so that a successor's is never mistaken for it."""

    path: Path
    descriptor: int


class Leases:
    """The leases of one runner, kept alive by a thread while the context lasts.

    Args:
        results: the directory that runners share.
        beat: seconds between two signs of life.
        expiry: seconds without one after which another runner's lease is dead.
    """

    def __init__(self, results: Path, *, beat: float = BEAT, expiry: float = EXPIRY) -> None:
        self.folder = results / FOLDER
        self.beat, self.expiry = beat, expiry
        self._own: dict[str, _Own] = {}
        self._seen: dict[str, tuple[Any, float]] = {}
        self._lost: set[str] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Leases:
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for name in list(self._own):
            self.release(name)
        with contextlib.suppress(OSError):  # others may hold leases in it
            self._clear_dead()
            self.folder.rmdir()

    def acquire(self, name: str) -> bool:
        """Take or keep the lease called ``name``; false while another live runner holds it.

        Raises:
            OSError: when the folder cannot be written.
        """
        path = self.folder / f"{name}.lease"
        if name in self._own or self._create(name, path):
            return True
        token = self._dead(name, path)
        if token is None:
            return False
        # Only one process ever makes the claim on a certain dead lease; the others come too late.
        claim = self.folder / f"{name}.{token}.claim"
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            self._clear_dead_claim(claim)
            return False
        try:
            if _token(path) != token:  # somebody else claimed it, replaced it and was done
                return False
            path.unlink(missing_ok=True)
            return self._create(name, path)
        finally:
            claim.unlink(missing_ok=True)

    def release(self, name: str) -> None:
        """Give the lease back; one that was lost meanwhile is left to its new owner."""
        with self._lock:
            own = self._own.pop(name, None)
            self._lost.discard(name)
        if own is None:
            return
        with contextlib.suppress(OSError):
            if _same(own):
                own.path.unlink(missing_ok=True)
        os.close(own.descriptor)

    def lost(self) -> set[str]:
        """Return the names of leases that somebody else took over, say after a long suspension."""
        with self._lock:
            return set(self._lost)

    def _create(self, name: str, path: Path) -> bool:
        descriptor = None
        while descriptor is None:
            with contextlib.suppress(FileExistsError):  # as mkdir may find it if it goes meanwhile
                path.parent.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
            except FileExistsError:
                return False
            except FileNotFoundError:
                continue  # another runner has ended just now, and removed the empty folder
        owner = {"token": secrets.token_hex(8), **_this_process()}
        os.write(descriptor, json.dumps(owner).encode())
        with self._lock:
            self._own[name] = _Own(path, descriptor)
        self._seen.pop(name, None)
        return True

    def _dead(self, name: str, path: Path) -> str | None:
        """Return the token of a lease whose owner is gone, ``None`` when it may live."""
        try:
            status, owner = path.stat(), _read(path)
        except FileNotFoundError:
            return None  # given back just now: the next call gets it
        token = _token_in(owner)
        state = (token, status.st_ino, status.st_mtime_ns, status.st_size)
        before, since = self._seen.get(name, (None, 0.0))
        now = time.monotonic()
        if state != before:
            self._seen[name] = (state, now)
            since = now
        return token if _gone(owner) or now - since > self.expiry else None

    def _clear_dead(self) -> None:
        """Remove leases left behind by dead runners of this machine."""
        for path in list(self.folder.glob("*.lease")):
            if _gone(_read(path)) and self.acquire(path.stem):
                self.release(path.stem)

    def _clear_dead_claim(self, claim: Path) -> None:
        """Remove the claim of a runner that died between claiming and taking."""
        state, now = ("claim",), time.monotonic()
        before, since = self._seen.setdefault(claim.name, (state, now))
        if before == state and now - since > self.expiry:
            claim.unlink(missing_ok=True)
            del self._seen[claim.name]

    def _beat(self) -> None:
        while not self._over.wait(self.beat):
            with self._lock:
                for name, own in self._own.items():
                    try:
                        os.utime(own.descriptor)
                        kept = _same(own)
                    except OSError:
                        kept = True  # the file system is away; the next beat tells
                    if not kept:
                        self._lost.add(name)


def _same(own: _Own) -> bool:
    """Return whether the lease file at its path is still our own."""
    mine = os.fstat(own.descriptor)
    try:
        there = own.path.stat()
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes()[:4096])
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError):
        return {}  # just being written, or torn: it dies by its age alone
    return found if isinstance(found, dict) else {}


def _token(path: Path) -> str | None:
    try:
        return _token_in(_read(path))
    except FileNotFoundError:
        return None


def _token_in(owner: dict[str, Any]) -> str:
    """Return the token, checked, as it becomes part of a file name; else "unreadable"."""
    token = str(owner.get("token"))
    return token if re.fullmatch(r"[0-9a-f]{16}", token) else "unreadable"


def _this_process() -> dict[str, Any]:
    return {"machine": _machine(), "pid": os.getpid(), "born": _born(os.getpid())}


def _machine() -> str:
    """Name this boot of this machine and the space its process numbers are counted in."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _born(pid: int) -> str | None:
    """Return the start time of a live process, which tells it from a later one of the same pid."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None


def _gone(owner: dict[str, Any]) -> bool:
    """Return whether the owner was a process of this machine that has ended."""
    pid = owner.get("pid")
    if owner.get("machine") != _machine() or not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return owner.get("born") is not None and owner["born"] != _born(pid)
