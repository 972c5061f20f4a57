"""Drawing in another process, and what becomes of a report when that process is lost."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest
from factory import context, world
from matplotlib.figure import Figure

from bench.report import drawing
from bench.report.content import Picture
from bench.report.figures.ranks import draw as draw_ranks
from bench.report.figures.style import styled

several_cores = pytest.mark.skipif(drawing._cores() < 2, reason="one core draws by itself")


def written(word: str) -> Figure:
    with styled(1, 1) as figure:
        figure.text(0.1, 0.5, word)
    return figure


def killing(path: Path, word: str) -> Figure:
    """Kill the process that made this one, the first time."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return written(word)
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
    raise AssertionError("outlived the process that draws")


def pictures(last: Picture | None = None) -> list[Picture]:
    words = [f"word{at}" for at in range(drawing.PICTURES_WORTH_WORKERS)]
    made = [Picture(word, partial(written, word), word) for word in words]
    return [*made, *([last] if last else [])]


def drawn(asked: list[Picture]) -> drawing.Drawn:
    with drawing.drawing(asked) as pending:
        return pending()


@several_cores
def test_processes_draw_what_this_one_would() -> None:
    asked = pictures()
    assert drawn(asked) == {picture.name: drawing._draw(picture) for picture in asked}


@several_cores
def test_a_report_outlives_the_process_that_draws(tmp_path: Path) -> None:
    flag = tmp_path / "killed"
    last = Picture("last", partial(killing, flag, "last"), "last")
    found = drawn(pictures(last))
    assert flag.exists()
    assert found["last"] == drawing._draw(last)
    assert len(found) == drawing.PICTURES_WORTH_WORKERS + 1


def test_names_that_are_cut_alike_are_told_apart() -> None:
    records, _ = world(seeds=2, tasks=5, methods=4)
    common = "tgt (mode=gradient, source=generator, temperature=4.0, w_gen={})"
    for record in records:
        if record["cell"]["label"] in ("lelp", "fitnets"):
            record["cell"]["label"] = common.format(len(record["cell"]["label"]))
    made = context(records)
    (group,) = made.groups
    (axes,) = draw_ranks(group, made.looks).axes
    shown = [text.get_text().strip() for text in axes.texts]
    assert len(shown) == len(set(shown)) == len(group.labels) == 4
    assert sum("[" in each for each in shown) == 4
