"""The embedded data: what the files promise, and that damage is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from processes import python

from bench.data import embedded
from bench.data.embedded import build
from bench.errors import BenchError

Name = Literal["amazon_snippets", "tweets"]
Triple = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.str_]]

NAMES: tuple[Name, ...] = ("amazon_snippets", "tweets")
SPLITS = ("train", "validation", "test")
each_file = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    return {name: embedded.read_text(name) for name in NAMES}


@pytest.fixture(scope="module")
def digits() -> Triple:
    return embedded.read_digits()


@pytest.fixture(scope="module")
def pairs() -> Triple:
    return embedded.read_digit_pairs()


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A writable copy of the files, which the readers then use."""
    for name in ("amazon_snippets.parquet", "tweets.parquet", "MANIFEST.json"):
        shutil.copy(embedded.EMBEDDED_DIR / name, tmp_path / name)
    monkeypatch.setattr(embedded, "EMBEDDED_DIR", tmp_path)
    return tmp_path


def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((embedded.EMBEDDED_DIR / "MANIFEST.json").read_text())
    return loaded


# --- the text files ------------------------------------------------------------------------


@each_file
def test_manifest_describes_the_file(name: Name, frames: dict[str, pd.DataFrame]) -> None:
    entry = manifest()["files"][f"{name}.parquet"]
    content = (embedded.EMBEDDED_DIR / f"{name}.parquet").read_bytes()
    frame = frames[name]
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert entry["bytes"] == len(content)
    assert entry["rows"] == len(frame)
    assert entry["splits"] == frame["split"].value_counts().to_dict()
    assert list(frame.columns) == ["id", "group", "split", "text", "rating", "raters"]
    assert set(entry["columns"]) == set(frame.columns)


@each_file
def test_ids_unique_and_texts_clean(name: Name, frames: dict[str, pd.DataFrame]) -> None:
    frame = frames[name]
    assert frame["id"].is_unique
    assert (frame["text"] == frame["text"].str.strip()).all()
    assert (frame["text"] != "").all()
    joined = "\n".join(frame["text"])
    assert not re.search(r"&(amp|lt|gt|quot|#\d+);|\ufffd|\ufeff|[\t\r]", joined)
    assert len(joined.split("\n")) == len(frame)


@each_file
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(None, id="group"),
        pytest.param(lambda text: " ".join(text.lower().split()), id="lower-case text"),
        pytest.param(build.normalise, id="normalised text"),
    ],
)
def test_nothing_crosses_splits(
    name: Name, key: Callable[[str], str] | None, frames: dict[str, pd.DataFrame]
) -> None:
    frame = frames[name]
    keys = frame["group"] if key is None else frame["text"].map(key)
    crossing = frame.groupby(keys)["split"].nunique()
    assert list(crossing[crossing > 1].index) == []


def test_no_similar_tweets_cross_splits(frames: dict[str, pd.DataFrame]) -> None:
    """Brute force over test x train, against the builder's prefix filter."""
    frame = frames["tweets"]
    tokens = [frozenset(build.normalise(text).split()) for text in frame["text"]]
    held_out = np.flatnonzero(frame["split"] == "test")
    known: dict[str, set[int]] = defaultdict(set)
    for row in np.flatnonzero(frame["split"] == "train"):
        for token in tokens[row]:
            known[token].add(int(row))
    for row in held_out:
        shared = Counter(other for token in tokens[row] for other in known[token])
        for other, common in shared.items():
            assert 5 * common < 4 * (len(tokens[row]) + len(tokens[other]) - common)


@each_file
def test_split_proportions(name: Name, frames: dict[str, pd.DataFrame]) -> None:
    shares = frames[name]["split"].value_counts(normalize=True)
    assert set(shares.index) == set(SPLITS)
    for split, expected in zip(SPLITS, (0.70, 0.10, 0.20), strict=True):
        assert abs(shares[split] - expected) <= 0.03


@each_file
def test_ratings_are_the_raters_means(name: Name, frames: dict[str, pd.DataFrame]) -> None:
    frame = frames[name]
    means = np.array([np.mean(raters) for raters in frame["raters"]])
    assert frame["rating"].dtype == np.float32
    assert np.allclose(frame["rating"], means, rtol=0, atol=1e-6)
    scores = np.concatenate(frame["raters"].to_list())
    assert scores.dtype == np.int8
    assert scores.min() == -4
    assert scores.max() == 4
    counts = {len(raters) for raters in frame["raters"]}
    assert counts <= ({20} if name == "amazon_snippets" else {20, *range(92, 100)})


@each_file
def test_binary_labels_are_balanced_alike(name: Name, frames: dict[str, pd.DataFrame]) -> None:
    frame = frames[name]
    binary = frame[frame["rating"].abs() > 0.5]
    positive = (binary["rating"] > 0).groupby(binary["split"]).mean()
    overall = float((binary["rating"] > 0).mean())
    assert 0.55 < overall < 0.70
    assert (positive - overall).abs().max() < 0.05
    assert len(binary) / len(frame) > 0.75


def test_amazon_group_is_the_review(frames: dict[str, pd.DataFrame]) -> None:
    frame = frames["amazon_snippets"]
    review = frame["id"].str.split("_").str[0]
    assert review.nunique() == 300  # numbered 1..309, nine numbers are not used
    assert (frame["group"].groupby(review).nunique() == 1).all()


def test_reordered_review_keeps_its_own_scores(frames: dict[str, pd.DataFrame]) -> None:
    """The source's two files order review 263 differently; a join by line would shift these."""
    frame = frames["amazon_snippets"].set_index("id")
    assert frame.loc["263_3", "text"] == "it is an extremely cool gizmo."
    assert frame.loc["263_3", "rating"] == pytest.approx(2.95)
    assert frame.loc["263_6", "rating"] == pytest.approx(-1.8)


def test_contrived_tweets_are_one_train_group(frames: dict[str, pd.DataFrame]) -> None:
    frame = frames["tweets"]
    contrived = frame[frame["group"] == "contrived"]
    assert set(contrived["id"]) == build.CONTRIVED
    assert len(contrived) == 200
    assert set(contrived["split"]) == {"train"}
    assert contrived["raters"].map(len).min() >= 92
    assert contrived["text"].map(build.normalise).nunique() < 80


# --- damage --------------------------------------------------------------------------------


@each_file
def test_corrupted_file_is_refused(name: Name, copied: Path) -> None:
    path = copied / f"{name}.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(BenchError, match=re.escape(f"{name}.parquet")):
        embedded.read_text(name)


def test_missing_files_are_refused(copied: Path) -> None:
    (copied / "tweets.parquet").unlink()
    with pytest.raises(BenchError, match=r"tweets\.parquet"):
        embedded.read_text("tweets")
    (copied / "MANIFEST.json").unlink()
    with pytest.raises(BenchError, match=r"MANIFEST\.json"):
        embedded.read_text("amazon_snippets")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {"tweets.parquet": null}}'])
def test_damaged_manifest_is_refused(content: str, copied: Path) -> None:
    (copied / "MANIFEST.json").write_text(content)
    with pytest.raises(BenchError, match=r"MANIFEST\.json"):
        embedded.read_text("tweets")


def test_unknown_name_is_refused() -> None:
    with pytest.raises(BenchError, match="unknown"):
        embedded.read_text("../secrets")  # type: ignore[arg-type]


# --- the builder ---------------------------------------------------------------------------


def test_rebuild_gives_the_same_files(tmp_path: Path) -> None:
    sdist = os.environ.get("BENCH_SDIST")
    if not sdist:
        pytest.skip(f"set BENCH_SDIST to a {build.SDIST_NAME} to check the rebuild")
    build.main(["--sdist", sdist, "--out", str(tmp_path)])
    names = [*manifest()["files"], build.LICENSE_FILE, "MANIFEST.json"]
    same_pyarrow = manifest()["pyarrow"] == pa.__version__
    for name in names:
        built, kept = tmp_path / name, embedded.EMBEDDED_DIR / name
        if same_pyarrow:
            assert built.read_bytes() == kept.read_bytes()
        elif name.endswith(".parquet"):
            # Another pyarrow may lay the bytes out differently; the content must be the same.
            assert pq.read_table(built).equals(pq.read_table(kept))


def test_wrong_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / build.SDIST_NAME
    with pytest.raises(SystemExit, match=r"cannot read"):
        build.main(["--sdist", str(path), "--out", str(tmp_path)])
    path.write_bytes(b"not the archive")
    with pytest.raises(SystemExit, match=rf"{re.escape(build.SDIST_NAME)}: sha256 is .* expected"):
        build.main(["--sdist", str(path), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no readable member LICENSE\.txt"):
        build.member(b"not an archive", "LICENSE.txt")
    assert not (tmp_path / "MANIFEST.json").exists()


@pytest.mark.parametrize(
    ("truth", "raw", "message"),
    [
        (b"1\t0.5\tfine", b"2\t0.5\t0.5\t[0, 1]", "same ids"),
        (b"1\t0.5\tfine\tmore", b"1\t0.5\t0.5\t[0, 1]", "line 1"),
        (b"1\t0.5\tfine\r\n1\t0.5\tfine", b"1\t0.5\t0.5\t[0, 1]", "line 2"),
        (b"1\t2.5\tfine", b"1\t2.5\t0.5\t[0, 5]", "not as expected"),
        (b"1\t0.5\tfine", b"1\t0.5\t0.5\t[0, 0]", "not as expected"),
        (b"1\t1.5\tfine", b"1\t0.5\t0.5\t[0, 1]", "1 published means differ"),
    ],
)
def test_odd_rows_stop_the_build(truth: bytes, raw: bytes, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        build.parse(truth, raw, "amazon_snippets")


def test_parse_drops_empty_text_and_reads_byte_order_mark() -> None:
    truth = b'1_1\t0.5\t" a &amp;#38; b \r\n1_2\t0.5\t  '
    raw = b"\xef\xbb\xbf1_1\t0.5\t0.5\t[0, 1]\r\n1_2\t0.5\t0.5\t[0, 1]"
    rows = build.parse(truth, raw, "amazon_snippets")
    assert rows == [build.Row("1_1", '" a & b', 0.5, (0, 1))]


def test_normalise() -> None:
    text = "RT @anonymous: I DON'T like 2 http://url_removed !!"
    assert build.normalise(text) == "rt i dont like"
    assert build.normalise(":-) 42") == ""


def test_neither_module_imports_torch() -> None:
    code = "import sys, bench.data.embedded.build; print('torch' in sys.modules)"
    assert python("-c", code).out.strip() == "False"


# --- digits --------------------------------------------------------------------------------


def test_digits_shapes_and_classes(digits: Triple) -> None:
    images, labels, splits = digits
    assert images.shape == (1797, 32, 32, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert (images.min(), images.max()) == (0, 255)
    assert (images[..., 0] == images[..., 1]).all()
    assert (images[..., 0] == images[..., 2]).all()
    for split, share in zip(SPLITS, (0.60, 0.15, 0.25), strict=True):
        for label in range(10):
            in_class = splits[labels == label] == split
            assert abs(in_class.mean() - share) < 0.01


def test_no_digit_crosses_splits(digits: Triple) -> None:
    images, _, splits = digits
    places: dict[bytes, set[str]] = defaultdict(set)
    for image, split in zip(images, splits, strict=True):
        places[image.tobytes()].add(str(split))
    assert all(len(found) == 1 for found in places.values())


def test_equal_digits_share_a_split() -> None:
    """scikit-learn's set has no equal images, so the rule is shown on made-up ones."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, size=(300, 8, 8), dtype=np.uint8)
    small = np.concatenate([small, small])
    labels = np.tile(np.arange(300, dtype=np.int64) % 10, 2)
    splits = embedded._digit_splits(small, labels)
    assert (splits[:300] == splits[300:]).all()
    assert set(splits) == set(SPLITS)


@pytest.mark.parametrize("read", [embedded.read_digits, embedded.read_digit_pairs])
def test_two_calls_are_equal(read: Callable[[], Triple]) -> None:
    for one, other in zip(read(), read(), strict=True):
        assert np.array_equal(one, other)


# --- digit pairs ---------------------------------------------------------------------------


def test_pairs_shapes_and_classes(pairs: Triple) -> None:
    images, labels, splits = pairs
    assert images.shape == (7000, 32, 32, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    for split, size in zip(SPLITS, (4000, 1000, 2000), strict=True):
        counts = np.bincount(labels[splits == split], minlength=100)
        assert counts.tolist() == [size // 100] * 100
    assert len({image.tobytes() for image in images}) == len(images)


def test_pair_halves_come_from_their_split(pairs: Triple, digits: Triple) -> None:
    """Made here a second time from scikit-learn's digits, whose order read_digits keeps."""
    from PIL import Image
    from sklearn.datasets import load_digits

    source: dict[bytes, tuple[int, str]] = {}
    for small, label, split in zip(load_digits().images, digits[1], digits[2], strict=True):
        image = Image.fromarray(np.rint(small * 255 / 16).astype(np.uint8))
        half = np.asarray(image.resize((16, 32), Image.Resampling.BILINEAR))
        source[half.tobytes()] = (int(label), str(split))
    images, labels, splits = pairs
    for image, number, split in zip(images[..., 0], labels, splits, strict=True):
        left, right = source[image[:, :16].tobytes()], source[image[:, 16:].tobytes()]
        assert (10 * left[0] + right[0], left[1], right[1]) == (number, split, split)


def test_pair_sizes_are_independent_and_balanced(pairs: Triple) -> None:
    images, labels, splits = embedded.read_digit_pairs(train=250, validation=0, test=2000)
    counts = np.bincount(labels[splits == "train"], minlength=100)
    assert counts.tolist() == [3] * 50 + [2] * 50
    assert not (splits == "validation").any()
    assert np.array_equal(images[splits == "test"], pairs[0][pairs[2] == "test"])


@pytest.mark.parametrize("size", [-1, 100_000])
def test_impossible_pair_sizes_are_refused(size: int) -> None:
    with pytest.raises(BenchError, match="digit pairs"):
        embedded.read_digit_pairs(train=0, validation=size, test=0)
