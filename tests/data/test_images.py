"""Decoding images and keeping what was decoded."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bench.data import images
from bench.data.fingerprint import file_sha256
from bench.data.images import cached_images, decode_images
from bench.data.sources import DatasetRef, Mirror
from bench.errors import BenchError

REF = DatasetRef(name="some/pictures", revision="main", columns=("img", "label"))
SIZE = (6, 4)  # height, width: not square, so that swapping the two is seen


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test's cache in its own folder."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pixels() -> np.ndarray:
    """Return 5 images of noise."""
    return np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)


@pytest.fixture
def mirror(tmp_path: Path, pixels: np.ndarray) -> Mirror:
    """Return a mirror with the images of ``pixels``."""
    folder = tmp_path / "mirror" / REF.name
    folder.mkdir(parents=True)
    table = pa.table({"img": column_of(map(encode, pixels)), "label": range(len(pixels))})
    pq.write_table(table, folder / "test.parquet")
    return Mirror(tmp_path / "mirror")


def encode(image: np.ndarray, form: str = "PNG") -> bytes:
    """Return ``image`` as the bytes of a file, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, lossless=True)
    return buffer.getvalue()


def column_of(encoded: Iterable[bytes | None]) -> pa.Array:
    """Return encoded images as the hub stores them."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": data, "path": None} for data in encoded], kind)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_lossless_images_come_back(pixels: np.ndarray, form: str) -> None:
    column = column_of([encode(image, form) for image in pixels])
    decoded = decode_images(column, SIZE)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels)


def test_slices_chunks_and_plain_bytes(pixels: np.ndarray) -> None:
    column = column_of(map(encode, pixels))
    chunked = pa.chunked_array([column.slice(1, 2), column.slice(4)])
    np.testing.assert_array_equal(decode_images(chunked, SIZE), pixels[[1, 2, 4]])
    plain = pa.array([encode(image) for image in pixels])
    np.testing.assert_array_equal(decode_images(plain, SIZE), pixels)
    assert decode_images(plain.slice(0, 0), SIZE).shape == (0, *SIZE, 3)


def test_grey_jpeg_becomes_three_channels() -> None:
    buffer = io.BytesIO()
    Image.new("L", (4, 6), 120).save(buffer, "JPEG")
    decoded = decode_images(pa.array([buffer.getvalue()]), SIZE)
    assert decoded.shape == (1, *SIZE, 3)
    assert np.abs(decoded.astype(int) - 120).max() <= 2


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda data: data[:-30], "row 700: not a readable image"),
        (lambda data: b"no image at all", "row 700: not a readable image"),
        (lambda data: b"", "row 700: no image bytes"),
        (lambda data: None, "row 700: no image bytes"),
        (lambda data: encode(np.zeros((4, 6, 3), np.uint8)), "row 700: image of 6 x 4 pixels"),
        (lambda data: encode(np.zeros((6, 4, 3), np.uint8), "GIF"), "row 700: not a readable"),
    ],
)
def test_broken_image_names_its_row(
    pixels: np.ndarray, spoil: Callable[[bytes], bytes | None], expected: str
) -> None:
    encoded: list[bytes | None] = [encode(pixels[0])] * 1500
    encoded[700] = spoil(encode(pixels[0]))
    encoded[1400] = b"a later one"
    with pytest.raises(BenchError, match=expected):
        decode_images(column_of(encoded), SIZE)


def test_kept_images_are_mapped_and_not_decoded_again(
    mirror: Mirror, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached_images(mirror, REF, "test", "img", SIZE)
    monkeypatch.setattr(images, "decode_images", None)
    again = cached_images(mirror, REF, "test", "img", SIZE)
    for array in (first, again):
        np.testing.assert_array_equal(array, pixels)
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_altered_or_cut_file_is_built_again(
    mirror: Mirror, pixels: np.ndarray, cache: Path
) -> None:
    cached_images(mirror, REF, "test", "img", SIZE)
    (path,) = (cache / "images").glob("*.npy")
    whole = path.read_bytes()
    altered = bytearray(whole)
    altered[-1] ^= 1
    for spoiled in (bytes(altered), whole[:-40], whole[:20], b""):
        path.write_bytes(spoiled)
        np.testing.assert_array_equal(cached_images(mirror, REF, "test", "img", SIZE), pixels)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"sha256": "00", "rows": 5}'])
def test_spoiled_note_is_built_again(
    mirror: Mirror, pixels: np.ndarray, cache: Path, note: str
) -> None:
    cached_images(mirror, REF, "test", "img", SIZE)
    (path,) = (cache / "images").glob("*.json")
    whole = path.read_text()
    path.write_text(note)
    np.testing.assert_array_equal(cached_images(mirror, REF, "test", "img", SIZE), pixels)
    assert json.loads(path.read_text()) == json.loads(whole)


def test_pickled_array_is_never_loaded(mirror: Mirror, pixels: np.ndarray, cache: Path) -> None:
    cached_images(mirror, REF, "test", "img", SIZE)
    (path,) = (cache / "images").glob("*.npy")
    np.save(path, np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    note = {"sha256": file_sha256(path), "rows": 5}
    path.with_suffix(".json").write_text(json.dumps(note))
    np.testing.assert_array_equal(cached_images(mirror, REF, "test", "img", SIZE), pixels)


def test_changed_data_is_another_array(mirror: Mirror, pixels: np.ndarray) -> None:
    cached_images(mirror, REF, "test", "img", SIZE)
    table = pa.table({"img": column_of(map(encode, pixels[::-1])), "label": range(5)})
    pq.write_table(table, mirror.root / REF.name / "test.parquet")
    np.testing.assert_array_equal(cached_images(mirror, REF, "test", "img", SIZE), pixels[::-1])


def test_another_decoder_decodes_anew(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    cached_images(mirror, REF, "test", "img", SIZE)
    monkeypatch.setattr(images.PIL, "__version__", "0.0.0")
    made = Mock(wraps=images.decode_images)
    monkeypatch.setattr(images, "decode_images", made)
    cached_images(mirror, REF, "test", "img", SIZE)
    assert made.called


def test_without_a_cache_the_array_is_still_given(
    mirror: Mirror, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="set BENCH_CACHE"):
        array = cached_images(mirror, REF, "test", "img", SIZE)
    np.testing.assert_array_equal(array, pixels)


def test_error_names_dataset_split_and_row(mirror: Mirror) -> None:
    with pytest.raises(BenchError, match="some/pictures, test: row 0: image of 4 x 6 pixels"):
        cached_images(mirror, REF, "test", "img", (32, 32))
