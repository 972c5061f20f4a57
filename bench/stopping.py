"""A request to stop, checked during training wherever the work can be resumed."""

from __future__ import annotations

import threading


class Stopped(Exception):
    """The work stopped, at a point it can be resumed from, because somebody asked for it."""


_asked = threading.Event()


def ask() -> None:
    """Ask the work of this process to stop at its next checkpoint."""
    _asked.set()


def asked() -> bool:
    """Return whether somebody asked this process to stop."""
    return _asked.is_set()


def check() -> None:
    """Raise :class:`Stopped` if somebody asked to stop; call it where nothing would be lost."""
    if asked():
        raise Stopped
