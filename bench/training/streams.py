"""Separate random streams, so that comparisons are paired.

Initialisation, batch order, augmentation, dropout and a method's own draws each come from a stream
named by its purpose; no stream depends on the draws of another.
"""

from __future__ import annotations

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream_seed(seed: int, name: str, *position: int) -> int:
    """Return the 63-bit seed of stream ``name`` of ``seed`` at ``position``."""
    text = ":".join((str(seed), name, *map(str, position)))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def permutation(seed: int, name: str, *position: int, length: int) -> np.ndarray:
    """Return a random order of ``range(length)``, ``(length,)`` int64."""
    generator = np.random.Generator(np.random.PCG64(stream_seed(seed, name, *position)))
    return generator.permutation(length)


def uniform(seed: int, name: str, *position: int, index: np.ndarray, draws: int) -> np.ndarray:
    """Return numbers in [0, 1) that are a function of (stream, position, sample index) alone.

    A sample's draws do not depend on its batch or its place there: so a cached teacher output can
    be paired with the very view it was computed on.

    Args:
        seed: the cell's seed.
        name: the stream.
        position: for example the epoch.
        index: sample indices, ``(N,)``.
        draws: numbers per sample.

    Returns:
        ``(N, draws)`` float64.

    Source: SplitMix64 (Steele, Lea and Flood 2014) as a counter-based generator.
    """
    base = np.uint64(stream_seed(seed, name, *position))
    with np.errstate(over="ignore"):
        counter = index.astype(np.uint64)[:, None] * np.uint64(draws)
        counter = counter + np.arange(draws, dtype=np.uint64)[None, :]
        state = base + (counter + np.uint64(1)) * _GOLDEN
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
