"""The part of generated inputs: rendered from the files beside records, inert whatever they say."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import record as make_record
from PIL import Image
from processes import python

from bench.report import write_reports
from bench.report.content import Picture
from bench.report.figures.samples import RIGHT, WRONG, draw
from bench.report.sample_files import MOST_PIXELS, decode, parse, read_samples
from bench.report.samples import sample_parts
from bench.report.select import load
from bench.store import samples_path, write_record

KINDS = ("real", "reconstructed", "perturbed")


def png(value: int, form: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), value, dtype=np.uint8)).save(buffer, form)
    return base64.b64encode(buffer.getvalue()).decode()


def samples(
    record: dict[str, Any], shown: list[str], names: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a sample file's content for ``record``: the same inputs in each row."""
    verdicts = [{"class": at % 2, "probability": 0.75} for at in range(len(shown))]
    return {
        "schema": 1,
        "key": record["key"],
        "cell": record["cell"],
        "task": record["task"],
        "class_names": list(names),
        "labels": [0] * len(shown),
        "generator": {
            "name": "autoencoder-w8-z2",
            "parameters": 12_000,
            "epochs": 3,
            "seconds": 4.2,
            "judged": {
                "samples": 200, "real": 0.9, "reconstructed": 0.5, "kept": 0.5556, "enough": False,
            },
        },
        "rows": [{"kind": kind, "shown": shown, "verdicts": verdicts} for kind in KINDS],
    }  # fmt: skip


def put(results: Path, shown: list[str], family: str = "text", **changes: Any) -> dict[str, Any]:
    record = make_record(method="tgt", **changes)
    record["task"]["family"] = family
    write_record(results, record)
    content = samples(record, shown, ("negative", "positive") if family == "text" else ())
    samples_path(results, record).write_text(json.dumps(content), encoding="utf-8")
    return content


TITLE = "What the generators make"


def reports(tmp_path: Path) -> tuple[str, str, tuple[str, ...]]:
    """Render what lies in ``tmp_path/results``; returns leaderboard, page and problems."""
    summary = write_reports(tmp_path / "results", tmp_path / "reports")
    board, index = (tmp_path / "reports" / name for name in ("leaderboard.md", "index.html"))
    return board.read_text(encoding="utf-8"), index.read_text(encoding="utf-8"), summary.problems


def test_no_samples_no_part(tmp_path: Path) -> None:
    write_record(tmp_path / "results", make_record())
    board, index, problems = reports(tmp_path)
    assert TITLE not in board and TITLE not in index
    assert not list((tmp_path / "reports").rglob("*generated*"))
    assert not problems


def test_images_become_a_figure_in_the_leaderboard_and_the_page(tmp_path: Path) -> None:
    put(tmp_path / "results", [png(10), png(200)], "image", task="cifar10")
    board, index, problems = reports(tmp_path)
    (figure,) = (tmp_path / "reports" / "figures").glob("generated-*.png")
    assert figure.name == "generated-tgt-cifar10-quick-embedded-cpu.png"
    assert f"](figures/{figure.stem}.svg)" in board and figure.with_suffix(".svg").is_file()
    with Image.open(figure) as image:
        assert image.width > 200 and image.height > 200
    assert f"## {TITLE}" in board and f">{TITLE}</h2>" in index
    assert "50.0% reconstructed (56% of it is kept, less than two thirds: too little)" in board
    assert re.search(r'<img src="[^"]*" alt="Images[^"]*" class="photo"', index)
    assert "Images and the teacher&#39;s verdicts: real, reconstructed, perturbed" in index
    assert not problems
    again = write_reports(tmp_path / "results", tmp_path / "reports")
    assert not again.written  # the same bytes


def test_sentences_become_an_inert_table(tmp_path: Path) -> None:
    put(tmp_path / "results", ["<b>bad</b> | `x` [y](z)", "fine"])
    board, index, problems = reports(tmp_path)
    assert not problems
    part = board[board.index(f"## {TITLE}") :]
    assert "<b>" not in part and "&lt;b&gt;bad" in part and "\\|" in part and "\\[y\\]" in part
    assert "<b>" not in index and "&lt;b&gt;bad&lt;/b&gt; | `x` [y](z)" in index
    assert index.count('<td class="w">&lt;b&gt;bad') == 2  # and the row's head; all of them wrap
    assert "&amp;lt;" not in board + index  # escaped once
    assert "negative 0.75" in part and "positive 0.75" in part
    rows = [line for line in part.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert (tmp_path / "reports/tables/generated-tgt-amazon-quick-embedded-cpu.tex").is_file()


def test_the_lowest_seed_is_shown(tmp_path: Path) -> None:
    put(tmp_path / "results", ["the later one"], seed=2)
    put(tmp_path / "results", ["the first one"], seed=0)
    board, _, _ = reports(tmp_path)
    assert "the first one" in board and "the later one" not in board and "Seed 0." in board


def test_samples_of_a_cell_that_does_not_count_are_not_shown(tmp_path: Path) -> None:
    put(tmp_path / "results", ["the old one"], finished="2024-01-01T00:00:00+00:00")
    put(tmp_path / "results", ["the new one"], score=0.7)
    content = put(tmp_path / "results", ["of no record"], seed=4, task="imdb")
    (path,) = (path for path in tmp_path.rglob("seed4-*.json") if "samples" not in path.name)
    path.unlink()
    board, _, problems = reports(tmp_path)
    assert "the new one" in board
    assert "the old one" not in board and "of no record" not in board
    assert not problems and content["key"]


def test_devices_and_presets_are_shown_apart(tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        for overrides in ({}, {"epochs": 2}):
            put(tmp_path / "results", [f"{device} {overrides}"], device=device, overrides=overrides)
    (part,) = sample_parts(load(tmp_path / "results"))
    assert len({table.name for table in part.tables}) == 4
    assert len({table.title for table in part.tables}) == 4
    assert len({table.rows[0][0].text for table in part.tables}) == 4


DAMAGE = {
    "no rows": lambda content: content.pop("rows"),
    "rows empty": lambda content: content["rows"].clear(),
    "an input short": lambda content: content["rows"][0]["shown"].pop(),
    "not judged": lambda content: content["generator"].pop("judged"),
    "a share in words": lambda content: content["generator"]["judged"].update(kept="all"),
    "no picture": lambda content: content["rows"][1]["shown"].__setitem__(0, "no picture"),
    "half a picture": lambda content: content["rows"][2]["shown"].__setitem__(0, cut(png(3))),
    "a huge picture": lambda content: content["rows"][2]["shown"].__setitem__(0, huge()),
    "another form": lambda content: content["rows"][2]["shown"].__setitem__(0, png(3, "GIF")),
    "no text": lambda content: content["rows"][1]["shown"].__setitem__(0, 3),
    "no seed": lambda content: content["cell"].pop("seed"),
    "no labels": lambda content: content["labels"].clear(),
    "labels a number": lambda content: content.update(labels=3),
    "a verdict in words": lambda content: content["rows"][0]["verdicts"][0].update(probability="x"),
    "a giant": lambda content: content["rows"][0]["verdicts"][0].update(probability=10**400),
    "another schema": lambda content: content.update(schema=2),
}


def cut(encoded: str) -> str:
    data = base64.b64decode(encoded)
    return base64.b64encode(data[: len(data) - 30]).decode()


def huge() -> str:
    buffer = io.BytesIO()
    Image.new("1", (MOST_PIXELS // 8, 9)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_file_that_cannot_be_used_is_named_and_the_rest_is_shown(tmp_path: Path, damage) -> None:
    results = tmp_path / "results"
    content = put(results, [png(3)], "image", task="cifar10")
    put(results, ["fine"])
    assert len(read_samples(results)[0]) == 2
    damage(content)
    (path,) = (path for path in results.rglob("*.samples.json") if "cifar10" in path.parts)
    path.write_text(json.dumps(content))
    found, problems = read_samples(results)
    assert len(found) == 1
    assert len(problems) == 1 and "cifar10" in problems[0] and str(tmp_path) not in problems[0]
    for text in ("{", "[]", '"x"', "[" * 100_000, "\xff"):
        path.write_bytes(text.encode("latin-1"))
        assert len(read_samples(results)[1]) == 1


def test_a_pipe_among_the_files_is_named_and_not_waited_for(tmp_path: Path) -> None:
    put(tmp_path, ["fine"])
    os.mkfifo(tmp_path / "x.samples.json")
    read: list[Any] = []
    reader = threading.Thread(target=lambda: read.extend(read_samples(tmp_path)), daemon=True)
    reader.start()
    reader.join(timeout=20)
    found, (problem,) = read
    assert len(found) == 1
    assert problem.startswith("x.samples.json: ") and "no ordinary file" in problem


def test_a_damaged_file_is_a_footnote_and_a_problem(tmp_path: Path) -> None:
    put(tmp_path / "results", ["fine"])
    (tmp_path / "results" / "<x>.samples.json").write_text("{oops", encoding="utf-8")
    board, index, problems = reports(tmp_path)
    assert len(problems) == 1 and problems[0].startswith("<x>.samples.json: no readable samples")
    assert "- &lt;x&gt;.samples.json: no readable samples" in board
    assert "&lt;x&gt;.samples.json: no readable samples" in index and "<x>" not in index
    assert "fine" in board


def colours(content: dict[str, Any]) -> list[str]:
    return [ax.title.get_color() for ax in draw(parse(content)).axes]


def test_a_wrong_verdict_is_marked(tmp_path: Path) -> None:
    content = put(tmp_path, [png(10), png(10)], "image", task="cifar10")
    assert colours(content) == [RIGHT, WRONG] * 3  # the classes are 0 and 1, the labels 0
    content["labels"] = [1, 1]
    assert colours(content) == [WRONG, RIGHT] * 3


def test_the_images_drawn_are_those_of_the_file(tmp_path: Path) -> None:
    content = put(tmp_path, [png(10), png(200)], "image", task="cifar10")
    shown = [np.asarray(ax.images[0].get_array()).mean() for ax in draw(parse(content)).axes]
    assert shown == [10.0, 200.0] * 3
    assert decode(png(7)).size == (32, 32)


def test_pictures_can_be_sent_to_another_process(tmp_path: Path) -> None:
    put(tmp_path, [png(10)], "image", task="cifar10", label="tgt ($x$=1)")
    (part,) = sample_parts(load(tmp_path))
    (picture,) = (block for block in part.blocks if isinstance(block, Picture))
    again = pickle.loads(pickle.dumps(picture))  # noqa: S301
    assert len(again.draw().axes) == 3


def test_tables_alone_load_nothing_that_draws(tmp_path: Path) -> None:
    put(tmp_path, ["fine"])
    code = (
        "import sys; from pathlib import Path; from bench.report.select import load; "
        "from bench.report.parts import build; build(load(Path(sys.argv[1]))); "
        "sys.exit(', '.join({'matplotlib', 'seaborn', 'PIL', 'torch'} & set(sys.modules)) or 0)"
    )
    said = python("-c", code, tmp_path)
    assert (said.code, said.err) == (0, "")
