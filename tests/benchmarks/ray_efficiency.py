"""How much of a Ray cluster's time reaches the cells: overhead a cell, efficiency by workers.

The cells wait instead of computing, so that two cores can carry eight workers::

    python tests/benchmarks/ray_efficiency.py --workers 1,2,4,8 --seconds 20 --waves 3
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ray.cluster_utils import Cluster
from rich.console import Console

from bench.environment import cores
from bench.executors.base import Event
from bench.executors.ray_cluster import connect
from bench.executors.ray_driver import RayExecutor
from bench.executors.requests import Requests
from bench.plan import Plan, make_plan
from bench.progress import Progress
from bench.registry import load_plugin
from bench.runner import jobs_for, run_plan
from bench.store import read_records
from bench.suites import Suite

PLUGIN = '''"""A method that waits."""

import time

import torch.nn.functional as F

from bench import Config, Method, register_method


class Wait(Config):
    seconds: float = 0.0


@register_method("waiting")
class Waiting(Method):
    """Sleep, then train on 64 digits."""

    signals = frozenset()
    Config = Wait

    def setup(self, context):
        time.sleep(self.config.seconds)

    def loss(self, *, batch, student, teacher, progress):
        return {"ce": F.cross_entropy(student.scores, batch.labels)}
'''
STORE = 80 * 2**20


class Timed(RayExecutor):
    """Notes when jobs begin and end."""

    def watch(self) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []

    def events(self, timeout: float) -> Iterator[Event]:
        for event in super().events(timeout):
            if event.kind in ("begun", "done"):
                (self.began if event.kind == "begun" else self.ended).append(time.perf_counter())
            yield event


def plan(plugin: Path, seconds: float, seeds: int) -> Plan:
    suite = Suite(
        methods=(f"waiting:seconds={seconds}",),
        tasks=("cifar10",),
        seeds=tuple(range(seeds)),
        overrides={"train_limit": 64, "epochs": 1},
    )
    return make_plan(suite, device="cpu", plugins=(str(plugin),))


def measure(base: Path, plugin: Path, workers: int, seconds: float, waves: int) -> str:
    """Run ``waves`` cells a worker on a cluster that is warm; returns a row of the table."""
    nodes = min(workers, 2)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False},
    )
    for _ in range(nodes):
        cluster.add_node(num_cpus=workers // nodes, object_store_memory=STORE)
    cluster.wait_for_nodes()
    results = base / f"results-{workers}"
    wanted = plan(plugin, seconds, workers * waves)
    keys = {cell.key for cell in wanted.cells}
    started = time.perf_counter()
    executor = Timed(
        connect(cluster.address),
        wanted.cells,
        results=results,
        requests=Requests(1, False, ["*:memory=0.1"]),
        threads=1,
        plugins=(str(plugin),),
    )
    executor.watch()
    for job in jobs_for(plan(plugin, 19.5, workers), set(), results=base / "warm", threads=1):
        executor.submit(job)
    while executor.running:
        list(executor.events(1.0))
    cold = max(executor.began) - started
    executor.watch()
    summary = run_plan(
        wanted,
        results=results,
        workers=workers,
        threads=1,
        progress=Progress(Console(file=io.StringIO())),
        executor=executor,
    )
    cluster.shutdown()
    assert summary.done == workers * waves, summary
    span = max(executor.ended) - min(executor.began)
    records = [record for record in read_records(results)[0] if record["key"] in keys]
    cells = [record["timings"]["total_s"] for record in records]
    outside = (workers * span - sum(cells)) / len(cells)
    own = sum(cells) / len(cells) - seconds
    efficiency = len(cells) * seconds / (workers * span)
    return (
        f"| {workers} | {nodes} | {len(cells)} | {span:.1f} | {outside:.2f} | {own:.2f} "
        f"| {efficiency:.3f} | {cold:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2,4,8")
    parser.add_argument("--seconds", type=float, default=20.0, help="that every cell waits")
    parser.add_argument("--waves", type=int, default=3, help="cells for each worker")
    given = parser.parse_args()
    print(
        f"{cores()} cores, load {os.getloadavg()[0]:.1f} at the start, cells wait {given.seconds} s"
    )
    print(
        "| workers | nodes | cells | makespan (s) | outside the cell (s a cell) "
        "| in the cell, beside waiting (s a cell) | efficiency | cold start (s) |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        os.environ["BENCH_CACHE"] = str(base / "cache")
        plugin = base / "waiting.py"
        plugin.write_text(PLUGIN, encoding="utf-8")
        load_plugin(str(plugin))
        for workers in map(int, given.workers.split(",")):
            print(measure(base, plugin, workers, given.seconds, given.waves), flush=True)


if __name__ == "__main__":
    main()
