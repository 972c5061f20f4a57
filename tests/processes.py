"""Programs that tests start: what they said, what they do and what they left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Said:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams, one after the other."""
        return self.out + self.err


def surroundings(**variables: str) -> dict[str, str]:
    """Return the environment of a program: the project importable, no mirror, ``variables``."""
    own = {name: value for name, value in os.environ.items() if name != "BENCH_DATA"}
    return own | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | variables


def python(*arguments: object, cwd: Path = ROOT, seconds: float = 300, **variables: str) -> Said:
    """Run this interpreter in a process of its own, with ``variables`` in its environment."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=surroundings(**variables),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def bench(*arguments: object, cwd: Path = ROOT, **variables: str) -> Said:
    """Run ``python -m bench`` in a process of its own."""
    return python("-m", "bench", *arguments, cwd=cwd, **variables)


def bench_here(capture: Any, patch: Any, *arguments: str) -> Said:
    """Run the command line in this process, whose ``capture`` is pytest's ``capsys``."""
    capture.readouterr()
    code = left_with(patch, *arguments)
    return Said(code, *capture.readouterr())


def left_with(patch: Any, *arguments: str) -> int:
    """Run the command line in this process; returns its exit status."""
    from bench import cli

    patch.setattr(sys, "argv", ["bench", *arguments])
    try:
        return cli.main()
    except SystemExit as left:
        return int(left.code or 0)


def start(*arguments: object, **variables: str) -> subprocess.Popen[str]:
    """Start this interpreter in a session of its own; what it says comes in one stream."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=surroundings(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


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
