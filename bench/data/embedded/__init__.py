"""Small real data that is installed with the package, for runs without any download.

- Text: human sentiment ratings of Amazon review snippets and tweets (Hutto & Gilbert 2014, MIT);
  see README.md beside this file, and ``build.py`` for how the files are made.
- Images: scikit-learn's handwritten digits (UCI "Optical Recognition of Handwritten Digits"), and
  a harder 100-class task made of pairs of them. Both are computed on every call.

Nothing is cached and nothing is written.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.errors import BenchError

EMBEDDED_DIR = Path(__file__).parent

Images: TypeAlias = npt.NDArray[np.uint8]
Labels: TypeAlias = npt.NDArray[np.int64]
Splits: TypeAlias = npt.NDArray[np.str_]

SPLITS = ("train", "validation", "test")
# Cumulative cut points in percent: 60/15/25. Whole numbers, so that no rounding moves an image.
_DIGIT_CUTS = ((60, "train"), (75, "validation"), (100, "test"))
_DIGIT_SALT = b"digits-1"
_PAIR_SEED = 20140601
_PAIR_CLASSES = 100
_REBUILD = "rebuild the files with: python -m bench.data.embedded.build"


def read_text(name: Literal["amazon_snippets", "tweets"]) -> pd.DataFrame:
    """Read one embedded text set, after checking its sha256 against MANIFEST.json.

    Returns:
        One row per text: ``id``, ``group``, ``split`` (train, validation or test; no group is in
        two splits), ``text``, ``rating`` (float32, mean of the raters, -4 very negative to 4 very
        positive) and ``raters`` (int8 arrays, one score per person, -4..4).

    Raises:
        BenchError: the name is unknown, or a file is missing, unreadable or not the one listed.
    """
    if name not in ("amazon_snippets", "tweets"):
        raise BenchError(f"unknown embedded text data {name!r}", "amazon_snippets or tweets")
    file_name = f"{name}.parquet"
    expected = _manifest_sha256(file_name)
    content = _read_bytes(file_name)
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        message = f"{file_name}: sha256 is {found[:12]}..., MANIFEST.json says {expected[:12]}..."
        raise BenchError(message, _REBUILD)
    # Parsed from the bytes that were checked: the file is not opened a second time.
    return pd.read_parquet(io.BytesIO(content), engine="pyarrow")


def _read_bytes(file_name: str) -> bytes:
    """Return the content of one file of EMBEDDED_DIR; BenchError when it cannot be read."""
    try:
        return (EMBEDDED_DIR / file_name).read_bytes()
    except OSError as error:
        raise BenchError(f"{file_name}: cannot be read ({error.strerror})", _REBUILD) from error


def _manifest_sha256(file_name: str) -> str:
    """Return the sha256 (hex) that MANIFEST.json lists; BenchError when it lists none."""
    content = _read_bytes("MANIFEST.json")
    try:
        manifest: dict[str, Any] = json.loads(content)
        return str(manifest["files"][file_name]["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"MANIFEST.json: no checksum for {file_name}", _REBUILD) from error


def read_digits() -> tuple[Images, Labels, Splits]:
    """Return scikit-learn's 1,797 handwritten digits as small colour images, with fixed splits.

    Returns:
        Images, uint8 (1797, 32, 32, 3), 0 = paper and 255 = full ink: 8x8 values 0..16 scaled to
        0..255, upscaled bilinearly, three equal channels. Labels, int64 (1797,), 0..9. Splits,
        str (1797,): 60/15/25 percent train/validation/test within each class, by the sha256 of
        the image, so equal images are never in two splits. Rows are in scikit-learn's order.

    The source does not say who wrote which digit, so one person's digits may be in several splits.
    """
    small, labels = _small_digits()
    return _to_rgb(_upscale(small, width=32)), labels, _digit_splits(small, labels)


def read_digit_pairs(
    train: int = 4000, validation: int = 1000, test: int = 2000
) -> tuple[Images, Labels, Splits]:
    """Return two-digit numbers 00..99: two digits side by side, a task of 100 classes.

    Args:
        train: training images. Classes are balanced: where a size is not a multiple of 100,
            the lowest classes hold one image more.
        validation: validation images. A split's images do not depend on the others' sizes.
        test: test images.

    Returns:
        Images, uint8 (N, 32, 32, 3), each half an 8x8 digit upscaled to height 32, width 16.
        Labels, int64 (N,), 10 * left + right. Splits, str (N,), in the order train, validation,
        test. Both digits of a pair come from that split of :func:`read_digits`, and no pair of
        images occurs twice. The digits themselves do recur in many pairs.

    Raises:
        BenchError: a size is negative, or larger than the number of different pairs allows.
    """
    small, labels = _small_digits()
    splits = _digit_splits(small, labels)
    halves = _upscale(small, width=16)
    images, numbers, names = [], [], []
    for index, (name, size) in enumerate(zip(SPLITS, (train, validation, test), strict=True)):
        rows = np.flatnonzero(splits == name)
        left, right = _draw_pairs(_distinct(small, rows), labels, size, index)
        images.append(np.concatenate([halves[left], halves[right]], axis=2))
        numbers.append(10 * labels[left] + labels[right])
        names.append(np.full(size, name, dtype="<U10"))
    return _to_rgb(np.concatenate(images)), np.concatenate(numbers), np.concatenate(names)


def _small_digits() -> tuple[Images, Labels]:
    """Return scikit-learn's digits: uint8 (1797, 8, 8) scaled to 0..255, and labels (1797,)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = np.rint(np.asarray(bunch.images, dtype=np.float64) * (255 / 16)).astype(np.uint8)
    return small, np.asarray(bunch.target, dtype=np.int64)


def _upscale(small: Images, width: int) -> Images:
    """Resize uint8 (N, 8, 8) bilinearly to (N, 32, width)."""
    from PIL import Image

    resample = Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(i).resize((width, 32), resample)) for i in small])


def _to_rgb(grey: Images) -> Images:
    """Copy uint8 (N, H, W) into three equal channels, (N, H, W, 3)."""
    return np.repeat(grey[..., np.newaxis], 3, axis=3)


def _digit_splits(small: Images, labels: Labels) -> Splits:
    """Return the split name of each digit, (N,): per class, by rank of the image's sha256."""
    digests = [hashlib.sha256(_DIGIT_SALT + image.tobytes()).hexdigest() for image in small]
    splits = np.empty(len(small), dtype="<U10")
    for label in range(10):
        rows = [int(row) for row in np.flatnonzero(labels == label)]
        # Ranks go over different images only: equal images have one digest, so one rank.
        ranks = {digest: rank for rank, digest in enumerate(sorted({digests[r] for r in rows}))}
        for row in rows:
            percent = 100 * ranks[digests[row]] / len(ranks)
            splits[row] = next(name for cut, name in _DIGIT_CUTS if percent < cut)
    return splits


def _distinct(small: Images, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Keep the first row of each different image."""
    first: dict[bytes, int] = {}
    for row in rows:
        first.setdefault(small[row].tobytes(), int(row))
    return np.array(list(first.values()), dtype=np.int64)


def _draw_pairs(
    rows: npt.NDArray[np.int64], labels: Labels, size: int, stream: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw ``size`` different (left, right) pairs from ``rows``, balanced over the 100 classes.

    ``stream`` gives each split its own random numbers. Raises BenchError when ``size`` is
    negative or a class has too few different pairs.
    """
    if size < 0:
        raise BenchError(f"digit pairs: a split cannot hold {size} images", "use 0 or more")
    generator = np.random.Generator(np.random.PCG64([_PAIR_SEED, stream]))
    chosen: list[tuple[int, int]] = []
    for number in range(_PAIR_CLASSES):
        left = rows[labels[rows] == number // 10]
        right = rows[labels[rows] == number % 10]
        wanted = size // _PAIR_CLASSES + (number < size % _PAIR_CLASSES)
        if wanted > len(left) * len(right):
            message = f"digit pairs: {size} images need {wanted} pairs of number {number:02d}"
            raise BenchError(message, f"that split has {len(left) * len(right)}")
        for place in generator.permutation(len(left) * len(right))[:wanted]:
            one, other = divmod(int(place), len(right))
            chosen.append((int(left[one]), int(right[other])))
    order = generator.permutation(len(chosen))
    pairs = np.array(chosen, dtype=np.int64).reshape(-1, 2)[order]
    return pairs[:, 0], pairs[:, 1]
