"""Programs that tests start: waiting for what they do, finding what they left."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return when ``condition`` holds; fails after ``seconds``, naming ``what``."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def session(leader: int) -> dict[int, int]:
    """Return the living processes of the session that ``leader`` began, with their parents."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            found[int(stat.parent.name)] = int(fields[1])
    return found
