"""How to run what a suite names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.arguments import parse_retry
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.runner import Policy


@dataclass(frozen=True, kw_only=True)
class Running:
    """How to run: devices, workers, where records go, how teachers are served.

    Args:
        plugins: what :func:`bench.commands.use_plugins` returned.
    """

    device: str
    workers: int | None
    threads: int
    results: Path
    plugins: tuple[str, ...] = ()
    cache_gb: float = 8.0
    live: bool = False
    check_cache: bool = False
    retry: str = "failed"
    cell_timeout: float | None = None
    executor: str = "local"
    devices: str | None = None
    address: str | None = None
    requests: tuple[str, ...] = ()

    def policy(self) -> Policy:
        """Return how the run deals with what goes wrong.

        Raises:
            BenchError: for a time limit, cache size, checkpoint interval or status not allowed.
        """
        from bench.runner import Policy
        from bench.training.checkpoint import chosen_interval

        limit = self.cell_timeout
        if limit is not None and not 0 < limit < float("inf"):
            raise BenchError(f"cannot limit a cell to {limit:g} seconds", "must be more than 0")
        if not self.cache_gb * 2**30 < float("inf"):
            raise BenchError(f"cannot keep {self.cache_gb:g} gigabytes of teacher signals")
        chosen_interval()  # refused here, before any cell would be
        return Policy(parse_retry(self.retry), limit)
