"""Where jobs run: on this machine, or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import BenchError, unknown

if TYPE_CHECKING:
    from bench.cells import Cell
    from bench.executors.base import Executor
    from bench.running import Running

Started = tuple["Executor", int]  # and how many jobs run at once, as far as is known


@dataclass(frozen=True)
class Placement:
    """Where the cells of a run will run.

    Attributes:
        device: the kind of device of all cells.
        start: returns the executor for given cells.
    """

    device: str
    start: Callable[[Sequence[Cell]], Started]


def open_place(running: Running) -> Placement:
    """Return the placement that ``running`` asks for.

    Raises:
        BenchError: for an unknown executor, a device that is not available, options that exclude
            each other, or a cluster that cannot be reached.
    """
    places = {"local": _local, "ray": _ray}
    if running.executor not in places:
        raise unknown("executor", running.executor, places)
    return places[running.executor](running)


def _local(running: Running) -> Placement:
    from bench.environment import choose_device, cores
    from bench.executors.local import LocalExecutor

    for flag, given in (("--address", running.address), ("--request", running.requests)):
        if given:
            raise BenchError(f"{flag} is for a cluster", "add --executor ray")
    if running.devices is not None:
        if running.workers is not None or running.device != "auto":
            flag = "--device" if running.workers is None else "--workers"
            raise BenchError(f"{flag} cannot be given with --devices", "one worker per device")
        named = parse_devices(running.devices)
        device = choose_device("cuda")
        for name in named:
            choose_device(name)
        visible = visible_devices(named)
        return Placement(device, lambda _: (LocalExecutor(len(visible), visible), len(visible)))
    device = choose_device(running.device)
    if device != "cuda":
        spare = max(cores() // running.threads, 1) if device == "cpu" else 1
        workers = running.workers or spare
        return Placement(device, lambda _: (LocalExecutor(workers), workers))
    visible = visible_devices([f"cuda:{at}" for at in range(_count())])
    several = running.workers or len(visible)
    return Placement(device, lambda _: (LocalExecutor(several, visible), several))


def _ray(running: Running) -> Placement:
    from bench.executors.ray_cluster import cluster_device, connect
    from bench.executors.ray_driver import RayExecutor
    from bench.executors.requests import Requests

    for flag, given in (("--workers", running.workers), ("--devices", running.devices)):
        if given is not None:
            raise BenchError(f"{flag} cannot be given with --executor ray", "use --request")
    ray = connect(running.address)
    try:
        device = cluster_device(ray, running.device)
        requests = Requests(running.threads, device == "cuda", running.requests)
    except BaseException:
        ray.shutdown()
        raise

    def start(cells: Sequence[Cell]) -> Started:
        executor = RayExecutor(
            ray,
            cells,
            results=running.results,
            requests=requests,
            threads=running.threads,
            plugins=cells[0].plugins,
        )
        smallest = requests.of_cell(cells[0])
        return executor, executor.nodes.places(smallest)

    return Placement(device, start)


def parse_devices(text: str) -> list[str]:
    """Return the devices of ``cuda:0,cuda:1``.

    Raises:
        BenchError: for anything but numbered CUDA devices, each named once.
    """
    names = []
    for name in (part.strip() for part in text.split(",") if part.strip()):
        kind, _, index = name.partition(":")
        if kind != "cuda" or not index.isdecimal():
            raise BenchError(
                f"--devices: '{name}' is not a CUDA device with a number",
                "cuda:0,cuda:1; for the processor use --workers",
            )
        names.append(f"cuda:{int(index)}")
        if names.count(names[-1]) > 1:
            raise BenchError(f"--devices: '{name}' is named twice", "one cell per device at a time")
    if not names:
        raise BenchError("--devices names no device", "cuda:0,cuda:1")
    return names


def visible_devices(names: Sequence[str]) -> list[str]:
    """Return the ``CUDA_VISIBLE_DEVICES`` that shows each device alone.

    Where the variable is already set, numbers are places in its list.
    """
    listed = [each.strip() for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    listed = [each for each in listed if each]
    indices = [int(name.partition(":")[2]) for name in names]
    return [listed[at] if listed else str(at) for at in indices]


def _count() -> int:
    import torch

    return torch.cuda.device_count()
