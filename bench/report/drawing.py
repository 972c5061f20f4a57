"""Draws pictures to files, on several processor cores where that helps."""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.context
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from pathlib import Path

from bench.report.content import Picture

FORMS = ("png", "svg")
Forms = dict[str, bytes]
Drawn = dict[str, Forms]
# Another process loads the drawing libraries anew, which takes as long as drawing a few pictures.
PICTURES_WORTH_WORKERS = 12
FILES_WORTH_WORKERS = 2000


@contextmanager
def early_drawer(results: Path) -> Iterator[ProcessPoolExecutor | None]:
    """Start the process that draws while the caller still reads its records.

    Args:
        results: folder of the records.

    Yields:
        The process, or ``None`` where there are too few records, or cores, to be worth it.
    """
    files = sum(name.endswith(".json") for _, _, names in os.walk(results) for name in names)
    if files < FILES_WORTH_WORKERS or _cores() < 2:
        yield None
        return
    with _drawer() as drawer:
        drawer.submit(_warm_up)  # the first call starts it
        yield drawer


@contextmanager
def drawing(
    pictures: Sequence[Picture], drawer: ProcessPoolExecutor | None = None
) -> Iterator[Callable[[], Drawn]]:
    """Draw ``pictures`` while the body runs, each once for all forms.

    Args:
        pictures: what to draw.
        drawer: the process of :func:`early_drawer`, if it was started.

    Yields:
        A function that waits and returns the files of each picture by name and form.
    """
    # those of every method on every task come last, and should not be waited for alone
    last_first = pictures[::-1]
    own = drawer is None and _cores() > 1 and len(pictures) >= PICTURES_WORTH_WORKERS
    with _drawer() if own else nullcontext(drawer) as process:
        if process:
            made = process.submit(_draw_all, last_first)
            process.shutdown(wait=False)  # it ends while the caller goes on
            yield lambda: _named(pictures, _finished(made, last_first))
        else:
            yield lambda: _named(pictures, _draw_here(last_first))


def _finished(made: Future[list[Forms]], pictures: Sequence[Picture]) -> Iterable[Forms]:
    try:
        return made.result()
    except BrokenProcessPool:  # killed, for want of memory say: one after another takes the least
        return _draw_here(pictures)


def _draw_here(pictures: Iterable[Picture]) -> list[Forms]:
    """Draw in this process; what was alive before is no figure's garbage, nor searched for any."""
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    try:
        return [_draw(picture) for picture in pictures]
    finally:
        if ours:
            gc.unfreeze()


def _drawer() -> ProcessPoolExecutor:
    """Return an executor of one process, which loads the drawing libraries once for its copies."""
    return ProcessPoolExecutor(1, mp_context=_processes())


def _draw_all(pictures: Sequence[Picture]) -> list[Forms]:
    _load()
    gc.freeze()
    with ProcessPoolExecutor(_cores(), mp_context=_processes(), initializer=_follow) as workers:
        return list(workers.map(_draw, pictures))


def _follow() -> None:
    """End this process when its parent ends, which a forked copy would not notice by itself."""
    maker = multiprocessing.parent_process()
    assert maker is not None

    def wait() -> None:
        maker.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _named(pictures: Sequence[Picture], last_first: Iterable[Forms]) -> Drawn:
    made = [*last_first][::-1]
    return {picture.name: forms for picture, forms in zip(pictures, made, strict=True)}


def _cores() -> int:
    """Return the number of workers that can run at once, at most four."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 4)


def _processes() -> multiprocessing.context.BaseContext:
    """Return the way to start workers: by forking where that is safe.

    A process with threads must not be forked, and torch starts some.
    """
    forks = "fork" in multiprocessing.get_all_start_methods()
    alone = threading.active_count() == 1 and "torch" not in sys.modules
    return multiprocessing.get_context("fork" if forks and alone else "spawn")


def _load() -> None:
    """Load the libraries that nearly every picture needs."""
    import scipy.stats  # noqa: F401

    import bench.report.figures.style  # noqa: F401


def _warm_up() -> None:
    """Load and draw once, so that no worker has to load and prepare the same for itself."""
    _load()
    import scikit_posthocs  # noqa: F401

    from bench.report.figures.style import encode, styled

    with styled(1, 1) as figure:
        figure.subplots()
    for form in FORMS:
        encode(figure, form)


def _draw(picture: Picture) -> Forms:
    from bench.report.figures.style import encode

    figure = picture.draw()
    forms = {form: encode(figure, form) for form in FORMS}
    del figure
    if not gc.isenabled():  # a figure is full of cycles
        gc.collect()
    return forms
