"""Data files of a mirror."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

GROUP = "Data files"
IMAGES, REVIEWS = "uoft-cs/cifar10", "fancyzhx/amazon_polarity"
Rows = dict[str, list[Any]]


def picture(size: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def images(**changes: Any) -> Rows:
    rows: Rows = {"img": [picture()] * 40, "label": [row % 10 for row in range(40)]}
    return {**rows, **changes}


def reviews(**changes: Any) -> Rows:
    rows: Rows = {"label": [0, 1] * 20, "title": ["t"] * 40, "content": ["c"] * 40}
    return {**rows, **changes}


def put(root: Path, name: str, rows: Rows | pa.Table, split: str = "train") -> Path:
    """Write ``split`` in the set's own columns; the test split is as it should be."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    good = images() if name == IMAGES else reviews()
    pq.write_table(pa.table(good), folder / "test.parquet")
    path = folder / f"{split}.parquet"
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.table(rows), path)
    return path


def changed(column: str, row: int, value: Any) -> Callable[[Path], object]:
    rows = images() if column in ("img",) else reviews()
    rows[column] = [value if at == row else old for at, old in enumerate(rows[column])]
    return lambda root: put(root, IMAGES if column == "img" else REVIEWS, rows)


def without(column: str) -> Callable[[Path], object]:
    rows = {name: values for name, values in reviews().items() if name != column}
    return lambda root: put(root, REVIEWS, {**rows, "heading": ["x"] * 40})


def no_utf8(root: Path) -> None:
    made = pa.table(reviews())
    title = pa.array([b"t"] * 7 + [b"\xff\xfe"] + [b"t"] * 32).view(pa.string())
    put(root, REVIEWS, made.set_column(1, "title", title))


def overwritten(content: bytes | None) -> Callable[[Path], object]:
    """Replace a whole file; ``None`` cuts it in the middle."""

    def write(root: Path) -> None:
        path = put(root, REVIEWS, reviews())
        path.write_bytes(path.read_bytes()[:-200] if content is None else content)

    return write


def shards(root: Path) -> None:
    path = put(root, REVIEWS, reviews())
    path.rename(path.with_name("train-00000-of-00002.parquet"))


def outside(root: Path) -> None:
    path = put(root, REVIEWS, reviews())
    path.symlink_to(path.rename(root.parent / "elsewhere.parquet"))


def empty(root: Path) -> None:
    put(root, REVIEWS, pa.table(reviews()).slice(0, 0))


CASES: list[tuple[str, str, Callable[[Path], object], list[str]]] = [
    ("a mirror without the set", "amazon", lambda root: None, ["no folder fancyzhx/"]),
    (
        "a mirror without the split",
        "amazon",
        lambda root: put(root, REVIEWS, reviews(), "trian"),
        ["no split 'train'", "did you mean 'trian'?"],
    ),
    ("a column that is missing", "amazon", without("label"), ["no column 'label'"]),
    ("a split without rows", "amazon", empty, ["train: no rows"]),
    ("a label out of range", "amazon", changed("label", 3, 7), ["row 3: label 7", "0 to 1"]),
    ("a negative label", "amazon", changed("label", 5, -1), ["row 5: label -1", "0 to 1"]),
    ("a label that is half", "amazon", changed("label", 2, 0.5), ["row 2", "0.5", "whole"]),
    ("a label that is missing", "amazon", changed("label", 4, None), ["row 4", "label is empty"]),
    ("a text of 100 MB", "amazon", changed("content", 6, "a" * 10**8), ["row 6", "at most"]),
    ("a text that is no UTF-8", "amazon", no_utf8, ["'title' is not UTF-8"]),
    ("a broken image", "cifar10", changed("img", 9, picture()[:60]), ["row 9", "not a readable"]),
    ("an image of 8 x 8", "cifar10", changed("img", 1, picture(8)), ["row 1", "8 x 8", "32 x 32"]),
    ("an image without bytes", "cifar10", changed("img", 0, b""), ["row 0: no image bytes"]),
    (
        "a GIF",
        "cifar10",
        changed("img", 0, b"GIF89a" + bytes(50)),
        ["row 0: not a readable image (PNG, JPEG, WEBP)"],
    ),
    ("a file that is no parquet", "amazon", overwritten(b"label,title\n"), ["not readable as"]),
    ("a file cut in the middle", "amazon", overwritten(None), ["not readable as parquet"]),
    ("one of two shards", "amazon", shards, ["1 files for split 'train'", "2 expected"]),
    ("a link out of the mirror", "amazon", outside, ["leads outside the mirror"]),
]


@pytest.mark.parametrize(
    ("what", "task", "write", "says"), CASES, ids=[case[0].replace(" ", "-") for case in CASES]
)
def test_data_file_is_refused_in_one_line(
    desk: Any,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    task: str,
    write: Callable[[Path], object],
    says: list[str],
) -> None:
    root = desk.base / "mirror"
    root.mkdir()
    monkeypatch.setenv("BENCH_DATA", str(root))
    write(root)
    given = ["data", "--preset", "small", "--source", "mirror", "--tasks", task, "--prefetch"]
    desk.refuses(what, *given, says=[f"cannot be read: {task}", *says])


def test_labels_that_are_texts_are_refused(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(desk.base))
    put(desk.base, REVIEWS, reviews(label=["good"] * 40))
    given = ["data", "--preset", "small", "--source", "mirror", "--tasks", "amazon", "--prefetch"]
    says = ["column 'label' holds string", "whole numbers expected"]
    desk.refuses("labels that are texts", *given, says=says)


@pytest.mark.parametrize(
    ("where", "says"), [("gone", "does not exist"), ("a-file", "is not a directory")]
)
def test_mirror_that_is_no_folder_is_refused(
    desk: Any, monkeypatch: pytest.MonkeyPatch, where: str, says: str
) -> None:
    Path("a-file").touch()
    monkeypatch.setenv("BENCH_DATA", where)
    given = ["run", "--preset", "small", "--source", "mirror", "--tasks", "cifar10"]
    desk.refuses(f"BENCH_DATA={where}", *given, says=[f"the mirror {where} {says}"])
