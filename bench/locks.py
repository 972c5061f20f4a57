"""One process at a time at a file or folder of the cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bench import stopping

POLL_SECONDS = 0.5


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for whoever holds it.

    Raises:
        Stopped: this process was asked to stop while it waited: who holds it may train for hours.
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
