"""Exact search by inner product: brute force in tiles, ties broken by position."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.errors import Diverged

TILE = 16_384  # passages compared at once
QUERIES = 512  # queries compared at once
_LOW = 2**32


def ranked_positions(scores: Tensor, depth: int) -> Tensor:
    """Return the positions of the ``depth`` best scores of each row, best first.

    Equal scores are ordered by position, so the ranking is a function of the scores alone
    (``topk`` leaves the order of ties open).

    Args:
        scores: ``(N, M)`` float32.
        depth: at most ``M`` are returned.
    """
    keys = _keys(scores, 0).topk(min(depth, scores.shape[1]), dim=1).values
    return _positions(keys)


class ExactSearch:
    """The best passages of every query among all that are added, tile by tile.

    Args:
        queries: ``(N, D)``; scores are inner products in float32.
        depth: how many passages a query keeps.
    """

    def __init__(self, queries: Tensor, depth: int) -> None:
        _check(queries)
        self.queries = queries.float()
        self.depth = depth
        self.count = 0
        self.best: list[Tensor | None] = [None] * len(self._chunks())

    def add(self, passages: Tensor) -> None:
        """Compare with further passages ``(M, D)``, on the queries' device."""
        _check(passages)
        for at in range(0, len(passages), TILE):
            tile = passages[at : at + TILE].float()
            for number, queries in enumerate(self._chunks()):
                with torch.autocast(tile.device.type, enabled=False):
                    keys = _keys(queries @ tile.T, self.count)
                known = self.best[number]
                keys = keys if known is None else torch.cat([known, keys], dim=1)
                self.best[number] = keys.topk(min(self.depth, keys.shape[1]), dim=1).values
            self.count += len(tile)

    def ranking(self) -> Tensor:
        """Return positions in the order they were added, ``(N, depth)`` int64, best first."""
        return torch.cat([_positions(keys) for keys in self.best if keys is not None])

    def _chunks(self) -> list[Tensor]:
        return list(torch.split(self.queries, QUERIES))


def _keys(scores: Tensor, offset: int) -> Tensor:
    """Return int64 keys whose order is (score, then lower position): no two are equal.

    The bits of a float32, read as a signed integer, are ordered as the number is once those of
    negative numbers are inverted but for the sign.
    """
    bits = (scores.float() + 0.0).contiguous().view(torch.int32)  # + 0.0: −0.0 equals 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    position = torch.arange(offset, offset + scores.shape[1], device=scores.device)
    return ordered.long() * _LOW + (_LOW - 1 - position)


def _positions(keys: Tensor) -> Tensor:
    return _LOW - 1 - keys % _LOW


def _check(vectors: Tensor) -> None:
    if not bool(torch.isfinite(vectors).all()):
        raise Diverged("an embedding is not finite, so nothing can be ranked by it")
