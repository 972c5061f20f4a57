"""Pictures to files, on as many processor cores as help."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

from bench.report.content import Picture

FORMS = ("png", "svg")
Drawn = dict[str, dict[str, bytes]]
# A worker loads the drawing libraries anew, which takes as long as drawing a few pictures.
PICTURES_WORTH_WORKERS = 12
FILES_WORTH_WORKERS = 2000


@contextmanager
def early_workers(results: Path) -> Iterator[ProcessPoolExecutor | None]:
    """Start workers that load the drawing libraries while the caller still reads its records.

    Args:
        results: folder of the records.

    Yields:
        The workers, or ``None`` where too few records are there to be worth them.
    """
    files = sum(name.endswith(".json") for _, _, names in os.walk(results) for name in names)
    if files < FILES_WORTH_WORKERS or _cores() < 2:
        yield None
        return
    with _pool() as pool:
        pool.submit(_load)  # the first call starts them
        yield pool


@contextmanager
def drawing(
    pictures: Sequence[Picture], workers: ProcessPoolExecutor | None = None
) -> Iterator[Callable[[], Drawn]]:
    """Draw ``pictures`` while the body runs, each once for all forms.

    Args:
        pictures: what to draw.
        workers: those of :func:`early_workers`, if any were started.

    Yields:
        A function that waits and returns the files of each picture by name and form.
    """
    # those of every method on every task come last, and should not be waited for alone
    last_first = pictures[::-1]
    own = workers is None and _cores() > 1 and len(pictures) >= PICTURES_WORTH_WORKERS
    with _pool() if own else nullcontext(workers) as pool:
        made = pool.map(_draw, last_first) if pool else map(_draw, last_first)
        yield lambda: _named(pictures, made)


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(_cores(), mp_context=_processes(), initializer=_load)


def _named(pictures: Sequence[Picture], last_first: Iterable[dict[str, bytes]]) -> Drawn:
    made = [*last_first][::-1]
    return {picture.name: forms for picture, forms in zip(pictures, made, strict=True)}


def _cores() -> int:
    """Return how many workers can run at once, four at most."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 4)


def _processes() -> multiprocessing.context.BaseContext:
    """Return how to start workers: forked, where that is safe.

    A process with threads must not be forked, and torch starts some.
    """
    forks = "fork" in multiprocessing.get_all_start_methods()
    alone = threading.active_count() == 1 and "torch" not in sys.modules
    return multiprocessing.get_context("fork" if forks and alone else "spawn")


def _load() -> None:
    """Load what nearly every picture needs."""
    import scipy.stats  # noqa: F401

    import bench.report.figures.style  # noqa: F401


def _draw(picture: Picture) -> dict[str, bytes]:
    from bench.report.figures.style import encode

    figure = picture.draw()
    return {form: encode(figure, form) for form in FORMS}
