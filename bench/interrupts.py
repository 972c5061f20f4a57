"""What Ctrl-C means: once, finish writing and stop; twice, stop now."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Asked:
    """Whether somebody asked to stop; true in a condition once they have."""

    def __init__(self) -> None:
        self._times = 0

    def __bool__(self) -> bool:
        return self._times > 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._times += 1
        if self._times > 1:
            raise KeyboardInterrupt


@contextmanager
def interrupts() -> Iterator[Asked]:
    """Take SIGINT and SIGTERM (a batch system's notice) as requests to stop in the context."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # signals reach the main thread only
        return
    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[int(number)] = signal.signal(number, asked)
        yield asked
    finally:
        for taken, handler in before.items():
            signal.signal(taken, handler)
