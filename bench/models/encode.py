"""Embeddings of many texts by one tower; those of a model that is fixed are kept on disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from bench.config import content_hash
from bench.data.cache import cache_dir
from bench.locks import locked
from bench.store import write_atomically

if TYPE_CHECKING:
    from bench.data.retrieval import TokenTable
    from bench.models.dual import DualEncoder

Tower = Literal["query", "passage"]
KEPT_BYTES = 4 * 2**30  # embeddings above this are kept neither on disk nor between splits
TILE = 65_536  # passages encoded at once where they are not kept


def encode(model: DualEncoder, table: TokenTable, tower: Tower, size: int) -> Tensor:
    """Return the embeddings of all texts, ``(M, D)`` float32 on the CPU.

    Those of a model that is fixed are looked up by the content of model and texts, or kept for the
    next time: teachers are asked for the same ones by evaluation, mining and every method.

    Args:
        model: in evaluation mode.
        table: the texts.
        tower: which tower.
        size: texts a forward pass.
    """
    if not model.fixed or not _kept(model, table):
        return _encode(model, table, tower, size, np.arange(len(table)))
    path = cache_dir() / "embeddings" / f"{_key(model, table, tower)}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")):
        found = _load(path, (len(table), model.width))
        if found is None:
            found = _encode(model, table, tower, size, np.arange(len(table))).numpy()
            buffer = io.BytesIO()
            np.save(buffer, found, allow_pickle=False)
            data = buffer.getvalue()
            write_atomically(path, hashlib.sha256(data).digest() + data)
    return torch.from_numpy(found)


def encoded_tiles(
    model: DualEncoder, table: TokenTable, size: int, shared: dict[str, Any]
) -> Iterator[Tensor]:
    """Yield the embeddings of a collection in order, tile by tile.

    Kept in ``shared`` for the next split where they fit :data:`KEPT_BYTES`.
    """
    if _kept(model, table):
        if "collection" not in shared:
            shared["collection"] = encode(model, table, "passage", size)
        yield shared["collection"]
        return
    for at in range(0, len(table), TILE):
        yield _encode(model, table, "passage", size, np.arange(at, min(at + TILE, len(table))))


def _kept(model: DualEncoder, table: TokenTable) -> bool:
    return len(table) * model.width * 4 <= KEPT_BYTES


def _encode(
    model: DualEncoder, table: TokenTable, tower: Tower, size: int, rows: np.ndarray
) -> Tensor:
    """Encode ``rows``, texts of similar length together."""
    device = next(model.parameters()).device
    order = np.argsort(table.lengths[rows], kind="stable")
    found = torch.empty(len(rows), model.width)
    with torch.no_grad():
        for at in range(0, len(order), size):
            part = order[at : at + size]
            ids, mask = table.batch(rows[part], device)
            found[torch.from_numpy(part)] = model.encode(ids, mask, tower).float().cpu()
    return found


def _key(model: DualEncoder, table: TokenTable, tower: Tower) -> str:
    """Return a hash of all that shapes the embeddings."""
    weights = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        weights.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    kind = next(model.parameters()).device.type
    low = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else "float32"
    parts = [weights.hexdigest(), model.pooling, model.similarity, table.digest, tower, low, kind]
    return content_hash([*parts, torch.__version__])[:32]


def _load(path: Any, shape: tuple[int, int]) -> np.ndarray | None:
    """Return what was kept, ``None`` when it is missing or damaged."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        found = np.load(io.BytesIO(content[32:]), allow_pickle=False)
    except (OSError, ValueError):
        return None
    return found if found.shape == shape and found.dtype == np.float32 else None
