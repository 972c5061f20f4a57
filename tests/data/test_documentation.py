"""The embedded documentation search: what the file promises, and that damage is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench.data.embedded import documentation
from bench.data.embedded.build import normalise, similar_pairs
from bench.data.embedded.documentation import build
from bench.errors import BenchError

WHEELS = os.environ.get("BENCH_WHEELS")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return documentation.read_documentation()


def test_manifest_describes_the_file(frame: pd.DataFrame) -> None:
    manifest = json.loads((documentation.FOLDER / "MANIFEST.json").read_text())
    content = (documentation.FOLDER / documentation.FILE).read_bytes()
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest() == documentation.sha256()
    assert manifest["bytes"] == len(content) < 1_500_000
    assert manifest["rows"] == len(frame)
    assert manifest["splits"] == frame["split"].value_counts().to_dict()
    assert [source["name"] for source in manifest["sources"]] == [
        release.name for release in build.RELEASES
    ]
    for release in build.RELEASES:
        assert f"{release.name} {release.version}" in documentation.REVISION


def test_every_licence_is_there() -> None:
    text = (documentation.FOLDER / build.LICENCES).read_text(encoding="utf-8")
    for release in build.RELEASES:
        assert f"{release.name} {release.version}\n=" in text
    assert text.count("Redistributions of source code must retain") == len(build.RELEASES)


def test_no_module_is_in_two_splits(frame: pd.DataFrame) -> None:
    assert (frame.groupby("module")["split"].nunique() == 1).all()
    assert set(frame["split"]) == {"train", "validation", "test"}


@pytest.mark.parametrize("column", ["query", "passage"])
def test_no_text_comes_twice_or_nearly(frame: pd.DataFrame, column: str) -> None:
    texts = frame[column].map(normalise).tolist()
    assert len(set(texts)) == len(texts) and all(texts)
    assert not list(similar_pairs(texts))


def test_passages_do_not_name_what_they_are_of_nor_repeat_the_query(frame: pd.DataFrame) -> None:
    for row in frame.itertuples():
        name = row.id.rsplit(".", 1)[1]
        assert not re.search(rf"\b{re.escape(name)}\b", row.passage), row.id
        assert row.query.lower() not in row.passage.lower(), row.id
        assert f" {normalise(row.query)} " not in f" {normalise(row.passage)} ", row.id
        assert build.SUMMARY_WORDS[0] <= len(row.query.split()) <= build.SUMMARY_WORDS[1]
        assert build.PASSAGE_WORDS[0] <= len(row.passage.split()) <= build.PASSAGE_WORDS[1]
    assert frame["id"].is_unique


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (documentation.FILE, "MANIFEST.json"):
        shutil.copy(documentation.FOLDER / name, tmp_path / name)
    monkeypatch.setattr(documentation, "FOLDER", tmp_path)
    assert len(documentation.read_documentation())
    content = bytearray((tmp_path / documentation.FILE).read_bytes())
    content[100] ^= 1
    (tmp_path / documentation.FILE).write_bytes(content)
    with pytest.raises(BenchError, match="not the one that MANIFEST"):
        documentation.read_documentation()
    (tmp_path / "MANIFEST.json").write_text("{}")
    with pytest.raises(BenchError, match="no checksum"):
        documentation.read_documentation()
    (tmp_path / "MANIFEST.json").unlink()
    with pytest.raises(BenchError, match="cannot be read"):
        documentation.sha256()


DOCSTRING = """
Return the spread of `values` along an axis.

The spread is what :func:`numpy.ptp` returns.

Parameters
----------
values : array_like
    What spread(values) is computed of, which may have any number of axes at all.

Examples
--------
>>> spread([1, 2])
"""


def test_a_pair_from_a_docstring() -> None:
    made = build.pair("Array.spread", DOCSTRING)
    assert made == (
        "Return the spread of values along an axis.",
        "The [NAME] is what numpy.ptp returns. Parameters values : array_like What [NAME](values) "
        "is computed of, which may have any number of axes at all.",
    )


@pytest.mark.parametrize(
    "said",
    [
        "return the spread of values along an axis",
        "RETURN the spread, of `values` along -- an axis",
    ],
)
def test_a_body_that_says_the_summary_again_is_left_out(said: str) -> None:
    again = DOCSTRING.replace("array_like\n", f"array_like: {said}.\n")
    assert said in again and build.pair("Array.spread", again) is None
    # one word more and it is another sentence; past the cut it does not show
    assert build.pair("Array.spread", again.replace("spread", "wide spread", 1)) is not None
    far = DOCSTRING.replace("any number", "any number " + "of words " * 45 + said)
    assert build.pair("Array.spread", far) is not None


@pytest.mark.parametrize("text", ["", "One line alone.", "Short.\n\n" + "word " * 30])
def test_what_makes_no_fair_pair_is_left_out(text: str) -> None:
    assert build.pair("name", text) is None


def test_a_missing_or_other_wheel_is_named(tmp_path: Path) -> None:
    (tmp_path / "numpy-2.4.6-py3-none-any.whl").write_bytes(b"something else")
    with pytest.raises(SystemExit, match=r"no pinned wheel of numpy 2\.4\.6"):
        build.build(tmp_path, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not WHEELS, reason="BENCH_WHEELS names no folder with the pinned wheels")
def test_rebuilding_gives_the_same_bytes(tmp_path: Path) -> None:
    assert WHEELS is not None
    build.build(Path(WHEELS), tmp_path)
    for name in (documentation.FILE, build.LICENCES, "MANIFEST.json"):
        assert (tmp_path / name).read_bytes() == (documentation.FOLDER / name).read_bytes()
