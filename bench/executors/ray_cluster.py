"""A Ray cluster as the executor sees it: how to connect, its nodes, how tasks die there."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from bench.errors import BenchError
from bench.executors.requests import Request
from bench.failures import ended, failure

REFRESH = 1.0  # seconds between two looks at which nodes there are
ONCE: dict[str, Any] = {"max_retries": 0, "num_returns": "streaming"}  # of every task


def connect(address: str | None) -> Any:
    """Connect to a Ray cluster, or start one on this machine, and return the module ``ray``.

    Args:
        address: ``HOST:PORT`` or "auto"; ``None`` takes ``$RAY_ADDRESS`` or a cluster that runs
            here, or else starts one for this run.

    Raises:
        BenchError: when Ray is not installed or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise BenchError("--executor ray needs Ray", "pip install -e '.[ray]'") from None
    if (address or os.environ.get("RAY_ADDRESS", "")).startswith("ray://"):
        raise BenchError(
            "a driver cannot run outside the cluster (ray://)",
            "start it on one of its machines, or with 'ray job submit'",
        )
    _reach(address)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False,
        )
    except Exception as error:  # Ray raises whatever went wrong below it, a bare one too
        where = f"at '{address}'" if address else "here"
        why = " ".join(str(error).split())[:200]
        # 'ray start' asks for a token wherever this user has one, and Ray gives none by itself to a
        # cluster that is named; nor can that be tried: one without tokens then never answers
        named = address is not None and "RAY_AUTH_MODE" not in os.environ
        hint = "if it asks for a token: export RAY_AUTH_MODE=token" if named else ""
        raise BenchError(f"no Ray cluster can be used {where}: {why}", hint) from error
    return ray


def _reach(address: str | None) -> None:
    """Raise at once if nothing listens at ``address``, where Ray would retry for minutes."""
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BenchError(f"no Ray cluster can be used at '{address}': {why}") from error


def cluster_device(ray: Any, device: str) -> str:
    """Return ``device``, with "auto" resolved to what the cluster has; Ray chooses its number."""
    if device == "auto":
        return "cuda" if ray.cluster_resources().get("GPU") else "cpu"
    if device not in ("cpu", "cuda"):
        raise BenchError(
            f"device '{device}' cannot be given with --executor ray", "auto, cpu or cuda"
        )
    return device


class Nodes:
    """The nodes of a cluster that jobs may run on.

    Args:
        ray: the module, connected.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self.refused: set[str] = set()
        self._nodes: list[dict[str, Any]] = []
        self._places: dict[Request, int] = {}
        self._looked = 0.0

    def usable(self) -> list[dict[str, Any]]:
        """Return the nodes that are alive, have processors and were not refused."""
        if time.monotonic() - self._looked > REFRESH:
            self._looked = time.monotonic()
            self._nodes = [
                node
                for node in self._ray.nodes()
                if node["Alive"] and node["Resources"].get("CPU")
                if node["NodeID"] not in self.refused
            ]
            self._places.clear()
        return self._nodes

    def changed(self) -> None:
        """Forget the list of nodes, so that it is read again."""
        self._looked = 0.0

    def refuse(self, node_id: str) -> None:
        """Run nothing on this node any more."""
        self.refused.add(node_id)
        self.changed()

    def places(self, request: Request) -> int:
        """Return how many jobs with ``request`` could run at once."""
        nodes = self.usable()
        if request not in self._places:
            self._places[request] = sum(request.fits(node["Resources"]) for node in nodes)
        return self._places[request]

    def options(self, request: Request, avoid: str | None) -> dict[str, Any]:
        """Return the options of a task: never on a refused node, on ``avoid`` only if it must."""
        options = {
            **ONCE,
            "num_cpus": request.cpus,
            "num_gpus": request.gpus,
            "memory": int(request.resources().get("memory", 0)),
        }
        never = sorted(self.refused)
        if not avoid or avoid in never:
            return {**options, "label_selector": _none_of(never)} if never else options
        return {
            **options,
            "label_selector": _none_of([*never, avoid]),
            "fallback_strategy": [{"label_selector": _none_of(never)}],
        }

    def name(self, node_id: str) -> str:
        """Return a readable name of a node."""
        for node in self._ray.nodes():
            if node["NodeID"] == node_id:
                names = [node["NodeManagerHostname"], node["NodeName"], node["NodeManagerAddress"]]
                return f"node {' / '.join(dict.fromkeys(filter(None, names)))}"
        return f"node {node_id[:8]}"


def _none_of(nodes: Sequence[str]) -> dict[str, str]:
    return {"ray.io/node-id": f"!in({','.join(nodes)})"} if nodes else {}


def death(ray: Any, error: Exception, *, interrupted: bool) -> dict[str, Any]:
    """Return the outcome of a task that could not report it."""
    known = ray.exceptions
    if isinstance(error, known.TaskCancelledError) or (
        interrupted and isinstance(error, known.RayTaskError)
    ):
        return {"status": "stopped", "error": None}
    if isinstance(error, known.OutOfMemoryError):
        return ended("oom", "NodeOutOfMemory", "Ray ended it: its node ran out of memory")
    if isinstance(error, known.RayTaskError):
        return failure(error.cause if isinstance(error.cause, Exception) else error)
    if isinstance(error, known.NodeDiedError | known.ObjectLostError):
        return ended("lost", "NodeLost", "its node was lost")
    if isinstance(error, known.WorkerCrashedError | known.RaySystemError):
        return ended("lost", "WorkerLost", "its worker was lost")
    return failure(error)


def without_a_word(interrupted: bool) -> dict[str, Any]:
    """Return the outcome of a task whose stream stopped without one."""
    if interrupted:
        return {"status": "stopped", "error": None}
    return ended("lost", "WorkerLost", "its worker ended without a result")
