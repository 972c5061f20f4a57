"""What a user can cause, said in one line.

Everything a user can get wrong raises :class:`BenchError`; the command line prints it without a
traceback and exits with :data:`EXIT_USER`.  Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

EXIT_OK = 0
EXIT_FAILED_CELLS = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130


class BenchError(Exception):
    """An error with one clear line for the user and, where there is one, a way out.

    Args:
        message: what was wrong, naming the value.
        hint: what was allowed, or what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[type[BenchError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class NotApplicable(BenchError):
    """A method cannot be run on this task at all; its cell is skipped with this reason."""


class Diverged(BenchError):
    """Training produced a loss or predictions that are not finite."""


def first_line(error: BaseException, limit: int = 200) -> str:
    """Return the first line of what ``error`` says, or its type where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:limit]


@contextmanager
def blamed(who: str) -> Iterator[None]:
    """Turn any error into one line that begins with ``who``, as for a plug-in of somebody's.

    What the system says of its files is left as it is.

    Raises:
        BenchError: for an error in the body.
    """
    try:
        yield
    except (BenchError, OSError):
        raise
    except Exception as error:
        raise BenchError(f"{who}: {type(error).__name__}: {first_line(error)}") from error


def nearest(name: str, options: Iterable[str]) -> str:
    """Return a hint naming the closest option, or all of them when none is close."""
    known = sorted(options)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(known) if known else "none is known"


def unknown(what: str, name: str, options: Iterable[str]) -> BenchError:
    """Build the error for a name that is not among ``options``."""
    return BenchError(f"unknown {what} '{name}'", nearest(name, options))
