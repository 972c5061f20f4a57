"""Runs on a Ray cluster of several nodes on this machine: nothing is imitated but the distance."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processes import wait_for

from bench.data.cache import cache_dir
from bench.errors import BenchError
from bench.executors.requests import Requests
from bench.store import Record, read_predictions, read_records

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")

from ray.cluster_utils import Cluster  # noqa: E402

from bench.executors.ray_cluster import connect, death  # noqa: E402
from bench.executors.ray_driver import RayExecutor  # noqa: E402

STORE = 80 * 2**20  # bytes; the least Ray takes
Tiny = Any
TINY = {"train_limit": 64, "epochs": 2, "teacher_recipe.epochs": 1}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Return a cluster whose head runs nothing; nodes are added by the test."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "object_store_memory": STORE,
            "include_dashboard": False,
        },
    )
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def add(cluster: Cluster) -> Callable[..., Any]:
    """Return a function that adds a node of one core with these environment variables."""

    def node(name: str, cpus: int = 1, gpus: int = 0, **variables: str) -> Any:
        return cluster.add_node(
            num_cpus=cpus,
            num_gpus=gpus,
            object_store_memory=STORE,
            node_name=name,
            env_vars=variables,
        )

    return node


def start(cluster: Cluster, tiny: Tiny, plan: Any, results: str, **changes: Any) -> RayExecutor:
    cluster.wait_for_nodes()
    return RayExecutor(
        connect(cluster.address),
        plan.cells,
        results=tiny.base / results,
        requests=Requests(1, changes.get("accelerated", False), changes.get("rules", ())),
        threads=1,
        plugins=plan.cells[0].plugins,
    )


def records(folder: Path) -> dict[str, Record]:
    found, problems = read_records(folder)
    assert not problems
    return {record["key"]: record for record in found}


def same_whatever_ran_it(record: Record) -> dict[str, Any]:
    """Return what must not depend on where and when a cell ran."""
    kept = {
        name: value
        for name, value in record.items()
        if name not in ("timings", "memory", "started", "finished", "teacher", "epochs")
    }
    kept["epochs"] = [
        {name: value for name, value in epoch.items() if not name.endswith(("_s", "seconds"))}
        for epoch in record["epochs"]
    ]
    kept["teacher"] = (record["teacher"] or {}).get("test")
    return kept


@pytest.mark.slow
def test_a_cluster_writes_the_records_a_single_machine_writes(
    cluster: Cluster, add: Callable[..., Any], tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("sharing")
    add("apart", BENCH_NODE_FOLDER=str(tiny.base / "apart"))
    plan = tiny.plan("scratch", "kd", "fitnets", "teacher", seeds=2)
    summary, said = tiny.run(plan, "far", start(cluster, tiny, plan, "far"))
    assert (summary.done, summary.failed) == (len(plan.cells), []), said
    cache = cache_dir()
    monkeypatch.setenv("BENCH_CACHE", str(tiny.base / "another-cache"))
    tiny.run(plan, "near")

    far, near = records(tiny.base / "far"), records(tiny.base / "near")
    assert far.keys() == near.keys() == {cell.key for cell in plan.cells}
    for key, record in far.items():
        assert same_whatever_ran_it(record) == same_whatever_ran_it(near[key])
    for path in (tiny.base / "far").rglob("*.npz"):
        other = read_predictions(tiny.base / "near" / path.relative_to(tiny.base / "far"))
        for name, array in read_predictions(path).items():
            assert array.tobytes() == other[name].tobytes()
    # the node apart wrote nothing of its own into the driver's folders, and yet was of use
    manifests = list((tiny.base / "apart").glob("*/*/manifest.json"))
    assert {path.parent.parent.name for path in manifests} >= {"teachers"}
    for path in manifests:
        driver = json.loads((cache / path.relative_to(tiny.base / "apart")).read_text())
        assert json.loads(path.read_text())["sha256"].items() <= driver["sha256"].items()
    assert not [*(tiny.base / "far").glob(".shared-*"), *cache.glob(".shared-*")]


def test_a_node_with_other_versions_is_refused_before_anything_runs(
    cluster: Cluster, add: Callable[..., Any], tiny: Tiny
) -> None:
    fake = tiny.base / "site" / "torch-9.9.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9\n")
    add("odd", PYTHONPATH=str(fake.parent))
    plan = tiny.plan("scratch")
    with pytest.raises(BenchError, match=r"node .*odd.*: torch is 9\.9 there and .* here$"):
        start(cluster, tiny, plan, "results")
    assert not records(tiny.base / "results")
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_lost_node_costs_its_cells_an_attempt_and_a_new_one_takes_over(
    cluster: Cluster, add: Callable[..., Any], tiny: Tiny
) -> None:
    doomed = add("doomed")
    told = tiny.base / "told"
    plan = tiny.plan(*(f"waiting:seconds={1 + at / 10}:told={told}" for at in range(3)))
    executor = start(cluster, tiny, plan, "results")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(tiny.run, plan, "results", executor)
        wait_for(lambda: told.is_file() or running.done(), 90, "a first message")
        cluster.remove_node(doomed, allow_graceful=False)
        add("new")
    summary, said = running.result()
    assert (summary.done, summary.failed) == (3, []), said
    found = records(tiny.base / "results")
    assert found.keys() == {cell.key for cell in plan.cells}
    lost = [record["lost_attempts"] for record in found.values() if "lost_attempts" in record]
    assert lost == [["its node was lost"]]
    assert said.count("its node was lost; retry 1 of 3") == 1
    assert told.read_text().count("begin") == 4
    assert told.read_text().count("end") == 3


@pytest.mark.slow
def test_what_kills_every_worker_it_runs_in_fails_after_a_few_attempts(
    cluster: Cluster, add: Callable[..., Any], tiny: Tiny
) -> None:
    """A cell that takes Ray's own worker down with it must not go round for ever."""
    add("only")
    plan = tiny.plan("killing", "scratch")
    summary, said = tiny.run(plan, "results", start(cluster, tiny, plan, "results"))
    assert summary.done == 1 and len(summary.failed) == 1, said
    (failed,) = (r for r in records(tiny.base / "results").values() if r["status"] != "ok")
    assert failed["status"] == "failed"
    assert failed["error"]["class"] == "WorkerLost"
    assert len(failed["lost_attempts"]) == 4


@pytest.mark.slow
def test_a_node_that_joins_late_and_differs_gets_nothing(
    cluster: Cluster, add: Callable[..., Any], tiny: Tiny
) -> None:
    add("first")
    told = tiny.base / "told"
    plan = tiny.plan(*(f"waiting:seconds={3 + at / 10}:told={told}" for at in range(5)))
    executor = start(cluster, tiny, plan, "results")
    fake = tiny.base / "site" / "numpy-0.1.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(tiny.run, plan, "results", executor)
        add("odd", PYTHONPATH=str(fake.parent))
    summary, said = running.result()
    assert (summary.done, summary.failed) == (5, []), said
    assert said.count("nothing runs on node") == 1
    assert "numpy is 0.1 there" in said
    assert not any("lost_attempts" in r for r in records(tiny.base / "results").values())


@pytest.mark.slow
def test_a_driver_that_dies_is_replaced_by_the_same_command(
    cluster: Cluster, add: Callable[..., Any], tiny: Tiny
) -> None:
    add("one")
    add("two")
    cluster.wait_for_nodes()
    told, results = tiny.base / "told", tiny.base / "results"
    methods = ["scratch", *(f"waiting:seconds={2 + at / 10}:told={told}" for at in range(4))]
    command = [
        *[sys.executable, "-m", "bench", "run", "--methods", ",".join(methods)],
        *["--tasks", "cifar10", "--seeds", "1", "--results", str(results)],
        *[f"--set={name}={value}" for name, value in TINY.items()],
        *["--plugin", str(tiny.plugin), "--device", "cpu"],
        *["--executor", "ray", "--address", cluster.address],
    ]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for(lambda: told.is_file() and "end" in told.read_text(), 90, "the end")
    wait_for(lambda: list(results.rglob("*.json")), 90, "a record")
    first.kill()
    first.communicate()
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*.json")}
    second = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert second.returncode == 0, second.stdout + second.stderr
    found = records(results)
    assert len(found) == 5
    assert all(record["status"] == "ok" for record in found.values())
    assert {path: path.stat().st_mtime_ns for path in before} == before, "run again"


@pytest.mark.slow
def test_an_interrupt_stops_the_cells_of_a_cluster_at_a_checkpoint(
    cluster: Cluster, add: Callable[..., Any], tiny: Tiny
) -> None:
    add("only")
    told = tiny.base / "told"
    plan = tiny.plan(*(f"waiting:seconds={2 + at / 10}:told={told}" for at in range(3)))
    executor = start(cluster, tiny, plan, "results")

    def ask() -> None:
        wait_for(told.is_file, 90, "a first message")
        os.kill(os.getpid(), signal.SIGINT)

    asking = threading.Thread(target=ask)
    asking.start()
    summary, said = tiny.run(plan, "results", executor)
    asking.join()
    assert summary.interrupted and not summary.failed, said
    assert told.read_text().count("begin") == 1
    again, _ = tiny.run(plan, "results")
    assert again.done + again.reused == 3
    assert len(records(tiny.base / "results")) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("share", "at_once"), [("0.5", 2), ("1", 1)])
def test_jobs_share_a_device_as_far_as_they_ask_for_parts_of_it(
    share: str, at_once: int, cluster: Cluster, add: Callable[..., Any], tiny: Tiny
) -> None:
    add("with a device", cpus=4, gpus=1)
    told = tiny.base / "told"
    plan = tiny.plan(*(f"waiting:seconds={3 + at / 10}:told={told}" for at in range(4)))
    executor = start(
        cluster, tiny, plan, "results", accelerated=True, rules=[f"*/cell:gpus={share}"]
    )
    summary, said = tiny.run(plan, "results", executor)
    assert summary.done == 4, said
    running = most = 0
    for line in sorted(told.read_text().splitlines(), key=lambda line: float(line.split()[1])):
        what, _, device = line.split()
        assert device == "0", "the one that Ray chose"
        running += 1 if what == "begin" else -1
        most = max(most, running)
    assert most == at_once


def test_every_way_a_task_can_die_has_a_status() -> None:
    known = ray.exceptions

    def status(error: Exception, *, interrupted: bool = False) -> str:
        return str(death(ray, error, interrupted=interrupted)["status"])

    assert status(known.OutOfMemoryError("all of it")) == "oom"
    assert status(known.WorkerCrashedError()) == "lost"
    assert status(known.TaskCancelledError()) == "stopped"
    assert status(RuntimeError("in the driver")) == "failed"


def test_a_driver_outside_the_cluster_is_refused() -> None:
    with pytest.raises(BenchError, match="outside the cluster"):
        connect("ray://somewhere:10001")
    with pytest.raises(BenchError, match="no Ray cluster can be used at 'localhost:1'"):
        connect("localhost:1")
