"""Several runners, here or elsewhere, that share one results folder."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from processes import wait_for
from suite_runs import Runs, in_thread

from bench.leases import Leases
from bench.runner import Summary
from bench.store import read_record, read_records, record_files, write_record


@pytest.fixture
def runs(tmp_path: Path, no_new_methods: None) -> Runs:
    return Runs(tmp_path)


def test_two_runners_share_the_cells_and_run_each_once(runs: Runs) -> None:
    """The second takes what is left, waits for the rest, and runs nothing again."""
    begun = runs.base / "begun"
    shared = [f"slow:seconds=1:begun={begun}", "scratch", "label_smoothing"]
    ended: list[tuple[Summary, str]] = []
    with in_thread(lambda: ended.append(runs(*shared))):
        wait_for(begun.exists, 90, "the first runner's first cell")
        second, said = runs(*shared)
    first, _ = ended[0]
    records, problems = read_records(runs.results)
    assert [record["status"] for record in records] == ["ok"] * 3 and not problems
    assert first.done + second.done == 3 and first.elsewhere + second.elsewhere == 3
    assert second.done >= 1 and "slow" in said and "another runner is running it" in said
    assert begun.read_text().split() == ["step"] * 4  # two epochs of two steps, once
    assert not (runs.results / ".leases").exists()


def test_a_live_lease_keeps_others_away_and_its_result_is_adopted(
    runs: Runs, tmp_path: Path
) -> None:
    runs("scratch", results=tmp_path / "other")
    (done,) = record_files(tmp_path / "other")
    key = read_record(done)["key"]
    ended: list[tuple[Summary, str]] = []
    with Leases(runs.results) as others:
        assert others.acquire(key[:32])
        with in_thread(lambda: ended.append(runs("scratch"))):
            time.sleep(4)  # it looks once a second
            assert not ended and not list(record_files(runs.results))
            target = runs.results / done.relative_to(tmp_path / "other")
            target.parent.mkdir(parents=True)
            target.write_bytes(done.read_bytes())
            others.release(key[:32])
    summary, said = ended[0]
    assert (summary.done, summary.elsewhere) == (0, 1) and target.read_bytes() == done.read_bytes()
    assert "another runner is running it" in said and "by another runner" in said


def test_that_another_machine_lacks_a_package_says_nothing_of_this_one(
    runs: Runs, tmp_path: Path
) -> None:
    runs("scratch", results=tmp_path / "other")
    (done,) = record_files(tmp_path / "other")
    record = read_record(done)
    error = {"class": "MissingPackage", "message": "No module named 'x'"}
    ended: list[Summary] = []
    with Leases(runs.results) as others:
        assert others.acquire(record["key"][:32])
        with in_thread(lambda: ended.append(runs("scratch")[0])):
            time.sleep(4)
            write_record(runs.results, {**record, "status": "skipped", "error": error})
            others.release(record["key"][:32])
    assert (ended[0].done, ended[0].elsewhere) == (1, 0)
    (again,) = record_files(runs.results)
    assert read_record(again)["status"] == "ok"


def test_a_result_is_kept_whatever_other_copies_of_its_cell_say(runs: Runs) -> None:
    runs("scratch")
    (done,) = record_files(runs.results)
    failed = {**read_record(done), "status": "failed", "error": {"class": "E", "message": "x"}}
    copy = runs.results / "z-old" / "cell.json"  # merged from another machine, read later
    copy.parent.mkdir()
    copy.write_text(json.dumps(failed), encoding="utf-8")
    summary, _ = runs("scratch")
    assert (summary.done, summary.reused) == (0, 1)


def test_lease_of_a_dead_runner_is_taken_over_at_once(runs: Runs) -> None:
    runs("scratch", results=runs.base / "other")
    key = runs_key(runs.base / "other")
    gone = os.fork()
    if gone == 0:  # a runner that is killed while it holds the lease
        Leases(runs.results).acquire(key[:32])
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(gone, 0)
    (left,) = (runs.results / ".leases").iterdir()
    assert json.loads(left.read_text())["pid"] == gone
    summary, _ = runs("scratch")
    assert summary.done == 1 and not (runs.results / ".leases").exists()


def runs_key(results: Path) -> str:
    (path,) = record_files(results)
    return str(read_record(path)["key"])
