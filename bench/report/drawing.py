"""Pictures to files, on as many processor cores as help."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from bench.report.content import Picture

FORMS = ("png", "svg")
Drawn = dict[str, dict[str, bytes]]
# A worker loads the drawing libraries anew, which takes as long as drawing a few pictures.
PICTURES_WORTH_WORKERS = 12
CELLS_WORTH_WORKERS = 2000


@contextmanager
def drawing(pictures: Sequence[Picture], cells: int = 0) -> Iterator[Callable[[], Drawn]]:
    """Draw ``pictures`` while the body runs, each once for all forms.

    Args:
        pictures: what to draw.
        cells: how many records they show.

    Yields:
        A function that waits and returns the files of each picture by name and form.
    """
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 4)
    many = len(pictures) >= PICTURES_WORTH_WORKERS or cells >= CELLS_WORTH_WORKERS
    names = [picture.name for picture in pictures]
    if workers > 1 and len(pictures) > 1 and many:
        with ProcessPoolExecutor(workers, mp_context=_processes()) as pool:
            # those of every method on every task come last, and should not be waited for alone
            made = pool.map(_draw, reversed(pictures))
            yield lambda: dict(zip(reversed(names), made, strict=True))
    else:
        yield lambda: dict(zip(names, map(_draw, pictures), strict=True))


def _processes() -> multiprocessing.context.BaseContext:
    """Return how to start workers: forked with the libraries loaded, where that is safe.

    A process with threads must not be forked, and torch starts some.
    """
    forks = "fork" in multiprocessing.get_all_start_methods()
    if forks and threading.active_count() == 1 and "torch" not in sys.modules:
        import scipy.stats  # noqa: F401

        import bench.report.figures.style  # noqa: F401

        return multiprocessing.get_context("fork")
    return multiprocessing.get_context("spawn")


def _draw(picture: Picture) -> dict[str, bytes]:
    from bench.report.figures.style import encode

    figure = picture.draw()
    return {form: encode(figure, form) for form in FORMS}
