"""The page of generated inputs: rendered from the files beside records, inert whatever they say."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import record as make_record
from PIL import Image

from bench.report import write_reports
from bench.report.samples import PAGE, draw, read_samples, render_samples
from bench.store import samples_path, write_record

KINDS = ("real", "reconstructed", "perturbed")


def png(value: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), value, dtype=np.uint8)).save(buffer, "PNG")
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


def test_no_samples_no_page(tmp_path: Path) -> None:
    write_record(tmp_path / "results", make_record())
    summary = write_reports(tmp_path / "results", tmp_path / "reports")
    assert not (tmp_path / "reports" / PAGE).exists()
    assert PAGE not in (tmp_path / "reports" / "leaderboard.md").read_text()
    assert not summary.problems


def test_images_become_a_figure_and_the_leaderboard_points_to_it(tmp_path: Path) -> None:
    put(tmp_path / "results", [png(10), png(200)], "image", task="cifar10")
    summary = write_reports(tmp_path / "results", tmp_path / "reports")
    page = (tmp_path / "reports" / PAGE).read_text()
    (figure,) = (tmp_path / "reports" / "figures").glob("generated-*.png")
    assert f"figures/{figure.name}" in page
    with Image.open(figure) as image:
        assert image.width > 200 and image.height > 200
    assert f"]({PAGE})" in (tmp_path / "reports" / "leaderboard.md").read_text()
    assert "50.0% reconstructed (56% of it is kept, less than two thirds: too little)" in page
    assert not summary.problems
    again = write_reports(tmp_path / "results", tmp_path / "reports")
    assert not again.written  # the same bytes


def test_sentences_become_an_inert_table(tmp_path: Path) -> None:
    put(tmp_path, ["<b>bad</b> | `x` [y](z)", "fine"])
    files, problems = render_samples(tmp_path)
    page = files[PAGE].decode()
    assert not problems
    assert "<b>" not in page and "&lt;b&gt;bad" in page and "\\|" in page and "\\[y\\]" in page
    assert "negative 0.75" in page and "positive 0.75" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1


def test_the_lowest_seed_is_shown(tmp_path: Path) -> None:
    put(tmp_path, ["the later one"], seed=2)
    put(tmp_path, ["the first one"], seed=0)
    page = render_samples(tmp_path)[0][PAGE].decode()
    assert "the first one" in page and "the later one" not in page and "Seed 0." in page


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("rows"),
        lambda content: content["rows"][0]["shown"].pop(),
        lambda content: content["generator"].pop("judged"),
        lambda content: content["rows"][1]["shown"].__setitem__(0, "no picture"),
        lambda content: content["cell"].pop("label"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_the_rest_is_shown(tmp_path: Path, damage) -> None:
    content = put(tmp_path, [png(3)], "image", task="cifar10")
    put(tmp_path, ["fine"])
    damage(content)
    (path,) = (path for path in tmp_path.rglob("*.samples.json") if "cifar10" in path.parts)
    path.write_text(json.dumps(content))
    found, problems = read_samples(tmp_path)
    assert len(found) == 1
    assert len(problems) == 1 and "cifar10" in problems[0] and str(tmp_path) not in problems[0]
    path.write_text("{")
    assert len(read_samples(tmp_path)[1]) == 1


def test_a_wrong_verdict_is_marked(tmp_path: Path) -> None:
    content = put(tmp_path, [png(10), png(10)], "image", task="cifar10")
    right = draw(content)
    content["labels"] = [1, 1]
    assert draw(content) != right
