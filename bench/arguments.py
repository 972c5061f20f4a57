"""Parsing of what a user writes on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import BenchError, unknown
from bench.failures import BROKEN

MOST_SEEDS = 10_000


def split_names(text: str) -> list[str]:
    """Split a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_seeds(text: str) -> list[int]:
    """Read ``3`` as three seeds (0, 1, 2) and ``0,5`` as those two.

    Raises:
        BenchError: for anything else.
    """
    try:
        numbers = [int(part) for part in split_names(text)]
    except ValueError:
        numbers = []
    counted = len(numbers) == 1 and "," not in text
    if not numbers or min(numbers) < 0 or (counted and not numbers[0]):
        raise BenchError(f"cannot read seeds '{text}'", "a count (3) or a list (0,5,7)")
    if counted and numbers[0] > MOST_SEEDS:
        raise BenchError(f"{numbers[0]} seeds are too many", f"at most {MOST_SEEDS}")
    return list(range(numbers[0])) if counted else numbers


def parse_retry(text: str) -> frozenset[str]:
    """Read the statuses of earlier records to run again: names, "all" or "none".

    Raises:
        BenchError: for an unknown status.
    """
    known = (*BROKEN, "skipped")
    names = split_names(text)
    if names == ["none"]:
        return frozenset()
    for name in names:
        if name not in (*known, "all"):
            raise unknown("status to retry", name, [*known, "all", "none"])
    return frozenset(known if "all" in names else names)


def parse_settings(pairs: Sequence[str]) -> dict[str, str]:
    """Read ``FIELD=VALUE`` pairs.

    Raises:
        BenchError: for anything else, or a field given twice with different values.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise BenchError(f"cannot read setting '{pair}'", "write FIELD=VALUE, say epochs=2")
        if found.get(key, value) != value:
            raise BenchError(f"setting '{key}' is given twice: {found[key]} and {value}")
        found[key] = value
    return found
