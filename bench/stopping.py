"""A polite request to stop: whoever trains looks at it where the work can be taken up again."""

from __future__ import annotations

import threading


class Stopped(Exception):
    """The work was left at a checkpoint because somebody asked to stop."""


_asked = threading.Event()


def ask() -> None:
    """Ask the work of this process to stop at its next checkpoint."""
    _asked.set()


def asked() -> bool:
    """Return whether somebody asked this process to stop."""
    return _asked.is_set()


def check() -> None:
    """Raise :class:`Stopped` when somebody asked to stop; call it where nothing would be lost."""
    if asked():
        raise Stopped
