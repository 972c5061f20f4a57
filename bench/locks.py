"""Locks that let one process at a time use a file or folder of the cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bench import stopping

POLL_SECONDS = 0.5


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for its holder, who may train for hours.

    Raises:
        Stopped: this process was asked to stop while it waited.
    """
    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=POLL_SECONDS)
            break
        except Timeout:
            stopping.check()
    try:
        yield
    finally:
        lock.release()
