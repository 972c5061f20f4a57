"""Encoded images of a table column as one array of pixels, decoded once and kept."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from bench.data.base import DatasetRef, Source
from bench.data.cache import cache_dir
from bench.data.fingerprint import digest, file_sha256
from bench.errors import BenchError
from bench.store import replacing, slug, write_atomically

log = logging.getLogger(__name__)
# Only these: other decoders of Pillow start programs or are seldom looked after.
FORMATS = ("PNG", "JPEG", "WEBP")
# What Pillow raises for broken bytes, by format.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
ROWS = 512  # rows a thread decodes at a time


def decode_images(column: pa.ChunkedArray | pa.Array, size: tuple[int, int]) -> np.ndarray:
    """Decode a column of encoded images.

    Args:
        column: N images, PNG, JPEG or WebP, as ``struct<bytes, path>`` or plain bytes.
        size: height and width that every image must have, in pixels.

    Returns:
        ``uint8``, (N, height, width, 3), RGB.

    Raises:
        BenchError: naming the first row that is empty, broken or of another size.
    """
    encoded = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
    pixels = np.empty((len(encoded), *size, 3), dtype=np.uint8)
    Image.init()  # loads the decoders here and not in several threads at once

    def decode_rows(start: int) -> None:
        _decode_into(pixels, encoded.slice(start, ROWS).to_pylist(), start)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(decode_rows, range(0, len(encoded), ROWS)):
            pass  # asking for the results in order raises for the first broken row
    return pixels


def _decode_into(pixels: np.ndarray, encoded: Sequence[bytes | None], start: int) -> None:
    """Decode ``encoded`` into the rows of ``pixels`` from ``start`` on."""
    height, width = pixels.shape[1:3]
    for row, data in enumerate(encoded, start):
        if not data:
            raise BenchError(f"row {row}: no image bytes", "images must lie inside the table")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.size != (width, height):
                    raise BenchError(
                        f"row {row}: image of {image.width} x {image.height} pixels",
                        f"{width} x {height} expected",
                    )
                pixels[row] = np.asarray(image.convert("RGB"))
        except PIL.UnidentifiedImageError as error:
            raise BenchError(f"row {row}: not a readable image", ", ".join(FORMATS)) from error
        except BROKEN as error:
            raise BenchError(f"row {row}: not a readable image: {error}") from error


def cached_images(
    source: Source, ref: DatasetRef, split: str, column: str, size: tuple[int, int]
) -> np.ndarray:
    """Return the images of ``column``, decoded at most once for the same data.

    The array is kept as ``.npy`` below the cache folder and mapped read-only.  A file without the
    noted sha256, shape and type is built again.  Where nothing can be kept, a warning says so and
    the array stays in memory.

    Returns:
        ``uint8``, (N, height, width, 3), RGB.

    Raises:
        BenchError: as :func:`decode_images`, naming dataset and split before the row.
    """
    key = digest(
        # Pillow's version: decoders of lossy formats differ by a unit here and there.
        [source.kind, source.fingerprint(ref, [split]), split, column, size, PIL.__version__]
    )
    try:
        path = cache_dir() / "images" / f"{slug(ref.name)}-{slug(split)}-{key[:16]}.npy"
    except BenchError as error:
        path = None
        warnings.warn(f"decoded images are not kept: {error}", stacklevel=2)
    if path and (kept := _load(path, size)) is not None:
        return kept
    try:
        pixels = decode_images(source.read(ref, split)[column], size)
    except BenchError as error:
        raise BenchError(f"{ref.name}, {split}: {error.message}", error.hint) from error
    if path is None:
        return pixels
    try:
        _save(path, pixels)
    except OSError as error:
        warnings.warn(f"decoded images are not kept: {error}", stacklevel=2)
        return pixels
    # Mapped like every later time, so that the array is read-only and shared from the start.
    kept = _load(path, size)
    return pixels if kept is None else kept


def _load(path: Path, size: tuple[int, int]) -> np.ndarray | None:
    """Return the array kept at ``path``, ``None`` when there is none or it was altered."""
    if not path.exists():
        return None
    try:
        noted = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if noted["sha256"] == file_sha256(path):
            pixels: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
            if pixels.dtype == np.uint8 and pixels.shape == (noted["rows"], *size, 3):
                return pixels
    except (OSError, ValueError, TypeError, KeyError, EOFError, RecursionError):
        pass
    log.warning("decoded images %s are damaged and are made again", path.name)
    return None


def _save(path: Path, pixels: np.ndarray) -> None:
    """Write ``pixels`` atomically, then the note with their checksum."""
    with replacing(path) as stream:
        np.save(stream, pixels, allow_pickle=False)
        stream.seek(0)
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    note = json.dumps({"sha256": sha256, "rows": len(pixels)})
    write_atomically(path.with_suffix(".json"), note.encode())
