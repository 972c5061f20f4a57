"""What is said on the terminal: a line each, harmless whatever it quotes."""

from __future__ import annotations

from rich.console import Console

from bench.privacy import one_line

CONSOLE = Console(highlight=False)


def say(line: str, console: Console, style: str | None = None) -> None:
    """Print one line as it is, neither wrapped nor read as markup."""
    console.print(one_line(line, 1000), style=style, markup=False, soft_wrap=True)


def note(what: str, console: Console) -> None:
    """Print what a user may want to know."""
    say(f"note: {what}", console)


def warn(problem: str, console: Console) -> None:
    """Print what is amiss and is worked around."""
    say(f"warning: {problem}", console, "yellow")


def refuse(message: str) -> None:
    """Print to the error stream why nothing is done."""
    say(f"error: {message}", Console(stderr=True, highlight=False))
