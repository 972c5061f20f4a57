"""Killed anywhere, started again: the records of a run that nothing disturbed, bit for bit.

The moments are drawn from a seed that is printed; ``KILL_SEED`` repeats them, as far as the
machine is as fast.  ``KILL_TALLY`` names a file to which each kill and each round adds a line::

    KILL_TALLY=tally.jsonl python -m pytest -m slow tests/test_kill_anywhere.py
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from processes import session, start, wait_for

from bench.store import read_predictions, read_records

GRID = [
    *["run", "--methods", "scratch,kd,fitnets", "--tasks", "cifar10", "--seeds", "1"],
    *["--device", "cpu", "--workers", "2", "--set", "train_limit=64", "--set", "epochs=6"],
    *["--set", "teacher_recipe.epochs=6"],
]
CELLS = 3
PHASES = ("starting", "teacher", "filling the cache", "cells", "report")
RECORD = "writing a record"
CODE = """
import sys
from bench.cli import main

def call(arguments):
    sys.argv = ["bench", *arguments]
    try:
        return main()
    except SystemExit as left:
        return int(left.code or 0)

if __name__ == "__main__":
    at = sys.argv.index("report")
    run, report = sys.argv[1:at], sys.argv[at:]
    code = call(run)
    sys.exit(max(code, call(report)) if code in (0, 1) else code)
"""
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").is_file(), reason="finds workers in /proc"
)


@dataclass
class Grid:
    """The grid's command on folders of its own."""

    base: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def results(self) -> Path:
        return self.base / "results"

    def start(self) -> subprocess.Popen[str]:
        """Start the run and the report after it, in a session of its own."""
        report = ["report", "--reports", self.base / "reports"]
        process = start(
            *["-c", CODE, *GRID, "--results", self.results],
            *[*report, "--results", self.results],
            BENCH_CACHE=str(self.base / "cache"),
            BENCH_CHECKPOINT_SECONDS="0",
        )
        self.started.append(process)
        return process

    def phase(self) -> str:
        """Tell by what lies on disk how far the run has come."""
        if self.successes() == CELLS:
            return "report"
        if list((self.base / "cache").glob("signals/*/manifest.json")):
            return "cells"
        if list((self.base / "cache").glob("teachers/*/manifest.json")):
            return "filling the cache"
        return "teacher" if (self.base / "cache" / "teachers").exists() else "starting"

    def successes(self) -> int:
        records = self.results.rglob("seed*.json")
        return sum('"status": "ok"' in record.read_text() for record in records)

    def written(self) -> int:
        """Return how many files lie among the results, half-written ones among them."""
        folder = self.results / "quick" / "cifar10"
        return sum(len(list(each.iterdir())) for each in folder.glob("*"))

    def outcome(self) -> dict[str, Any]:
        """Return all that must not depend on what happened on the way."""
        found, problems = read_records(self.results)
        assert not problems
        return {record["cell"]["method"]: essence(record, self.results) for record in found}


def essence(record: dict[str, Any], results: Path) -> dict[str, Any]:
    """Return what of a record is a result, and not a time or a process's memory."""
    kept = {name: record.get(name) for name in ("key", "status", "metrics", "parameters", "seeds")}
    kept["epochs"] = [
        {name: value for name, value in entry.items() if name != "seconds"}
        for entry in record.get("epochs") or ()
    ]
    kept["teacher"] = {
        name: value for name, value in (record.get("teacher") or {}).items() if name != "served"
    }
    if record["status"] == "ok":
        (path,) = results.rglob(f"{record['cell']['method']}/{record['predictions']['file']}")
        kept["predictions"] = {name: v.tobytes() for name, v in read_predictions(path).items()}
    return kept


def workers(leader: int) -> list[int]:
    """Return the processes that do jobs: children of the server that the runner forks from."""
    family = session(leader)
    return [pid for pid, parent in family.items() if family.get(parent) == leader]


@pytest.fixture
def new_grid(tmp_path: Path) -> Iterator[Callable[[str], Grid]]:
    made: list[Grid] = []

    def make(name: str) -> Grid:
        made.append(Grid(tmp_path / name))
        return made[-1]

    yield make
    for process in (process for grid in made for process in grid.started):
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


@dataclass(frozen=True)
class Undisturbed:
    """The outcome of a run that nothing disturbed, and how many seconds its phases took."""

    outcome: dict[str, Any]
    seconds: dict[str, float]


def left_alone(grid: Grid) -> Undisturbed:
    process, seconds = grid.start(), dict.fromkeys(PHASES, 0.0)
    before = time.monotonic()
    while process.poll() is None:
        phase = grid.phase()
        time.sleep(0.01)
        now = time.monotonic()
        seconds[phase] += now - before
        before = now
    return Undisturbed(checked(grid, process), seconds)


def checked(grid: Grid, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a run that nothing disturbs; returns its outcome."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    outcome = grid.outcome()
    assert sorted(outcome) == ["fitnets", "kd", "scratch"]
    assert {found["status"] for found in outcome.values()} == {"ok"}
    return outcome


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return left_alone(Grid(tmp_path_factory.mktemp("undisturbed")))


def half_done(grid: Grid, expected: dict[str, Any]) -> list[str]:
    """Return which records that say "ok" are not those of an undisturbed run."""
    return [
        method
        for method, found in grid.outcome().items()
        if found["status"] == "ok" and found != expected[method]
    ]


def until_done(grid: Grid, expected: dict[str, Any]) -> None:
    """Start the grid again and again until it is done; the outcome is as expected."""
    for _ in range(4):
        process = grid.start()
        if not outlived(grid, process, expected):
            break
    assert process.returncode == 0
    assert grid.outcome() == expected
    assert (grid.base / "reports" / "leaderboard.md").is_file()
    assert not (grid.results / ".leases").exists()


def outlived(grid: Grid, process: subprocess.Popen[str], expected: dict[str, Any]) -> bool:
    """Wait for a run to end, killed or not; returns whether something is left to do."""
    said, _ = process.communicate(timeout=300)
    wait_for(lambda: not session(process.pid), 20, "the workers to go away")
    assert not half_done(grid, expected), said
    return process.returncode != 0


def kill_and_restart(
    new_grid: Callable[[str], Grid], undisturbed: Undisturbed, kills: int, seed: int
) -> Counter[str]:
    """Kill runner and workers ``kills`` times in all, in as many grids as that takes."""
    draw, tally, rounds = random.Random(seed), Counter[str](), 0
    note({"KILL_SEED": seed})
    while sum(tally.values()) < kills:
        rounds += 1
        grid, again, reported = new_grid(f"round{rounds}"), True, False
        # once killed at its report a grid has nothing else left to be killed at
        while again and not reported and sum(tally.values()) < kills:
            process = grid.start()
            where = strike(grid, process, undisturbed.seconds, draw)
            again = outlived(grid, process, undisturbed.outcome)
            if where:
                tally[where] += 1
                reported = where.endswith("report")
        if again:
            until_done(grid, undisturbed.outcome)
        assert grid.outcome() == undisturbed.outcome
        note({"round": rounds, "records": len(grid.outcome()), "equal to an undisturbed run": True})
    return tally


def strike(
    grid: Grid, process: subprocess.Popen[str], seconds: dict[str, float], draw: random.Random
) -> str | None:
    """Kill the run or one of its workers at a random moment; returns whom and when.

    A phase is drawn, all that are left being equally likely, then a moment in it.
    """
    victim = draw.choice(["runner", "worker"])
    left = list(PHASES[PHASES.index(grid.phase()) :])
    if len(left) > 1:
        left.append(RECORD)
    if victim == "worker":
        left = [phase for phase in left if phase not in ("starting", "report")] or ["report"]
    phase = draw.choice(left)
    before = grid.written()

    def reached() -> bool:
        if phase == RECORD:
            return grid.written() > before
        return PHASES.index(grid.phase()) >= PHASES.index(phase)

    while process.poll() is None and not reached():
        time.sleep(0.001)
    time.sleep(draw.uniform(0, 0.02 if phase == RECORD else 0.9 * seconds[phase]))
    while victim == "worker" and process.poll() is None and not workers(process.pid):
        time.sleep(0.005)
    where = RECORD if phase == RECORD else grid.phase()
    found = workers(process.pid) if victim == "worker" else [process.pid]
    if process.poll() is not None or not found:
        return None  # it was done before
    try:
        os.kill(draw.choice(found), signal.SIGKILL)
    except ProcessLookupError:
        return None
    note({"killed": victim, "where": where})
    return f"{victim} · {where}"


def note(line: dict[str, Any]) -> None:
    print(json.dumps(line))
    if os.environ.get("KILL_TALLY"):
        with Path(os.environ["KILL_TALLY"]).open("a") as stream:
            stream.write(json.dumps(line) + "\n")


def chosen_seed() -> int:
    """Return ``$KILL_SEED``: a number, or "random" for another one each time."""
    given = os.environ.get("KILL_SEED") or "20"
    return random.SystemRandom().randrange(10**6) if given == "random" else int(given)


@pytest.mark.slow  # .ci/run has it
def test_worker_and_runner_killed_the_run_ends_as_if_undisturbed(
    new_grid: Callable[[str], Grid],
) -> None:
    """The small version: one kill of each, while another grid runs undisturbed beside it."""
    draw = random.Random(seed := chosen_seed())
    note({"KILL_SEED": seed})
    other, grid = new_grid("undisturbed"), new_grid("killed")
    beside, process = other.start(), grid.start()
    for victim in ("worker", "runner"):
        found: list[int] = []
        while not found:
            at_work = lambda p=process: p.poll() is not None or workers(p.pid)  # noqa: E731
            wait_for(at_work, 120, "a worker")
            time.sleep(draw.uniform(0, 1.5))
            if process.poll() is not None:  # it was done before it could be killed
                grid = new_grid(f"{grid.base.name}-again")
                process = grid.start()
                continue
            found = workers(process.pid) if victim == "worker" else [process.pid]
        where = grid.phase()
        os.kill(draw.choice(found), signal.SIGKILL)
        note({"killed": victim, "where": where})
    expected = checked(other, beside)
    assert outlived(grid, process, expected)
    until_done(grid, expected)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_killed_fifty_times_the_run_ends_as_if_undisturbed(
    new_grid: Callable[[str], Grid], undisturbed: Undisturbed, part: int
) -> None:
    tally = kill_and_restart(new_grid, undisturbed, kills=10, seed=chosen_seed() + part)
    assert sum(tally.values()) == 10
    print(dict(tally))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_of_two_runners_one_is_killed_and_the_other_finishes(
    new_grid: Callable[[str], Grid], undisturbed: Undisturbed, part: int
) -> None:
    """Two processes on one results directory and cache; the survivor takes over at once."""
    seed = chosen_seed() + part
    note({"KILL_SEED": seed})
    draw, grid = random.Random(seed), new_grid("shared")
    first, second = grid.start(), grid.start()
    wait_for(lambda: workers(first.pid) or workers(second.pid), 120, "a worker")
    phases = ("teacher", "filling the cache", "cells")
    time.sleep(draw.uniform(0, sum(undisturbed.seconds[phase] for phase in phases)))
    victim, survivor = (first, second) if draw.random() < 0.5 else (second, first)
    where = grid.phase()
    victim.kill()
    said, _ = survivor.communicate(timeout=300)
    assert survivor.returncode == 0, said
    assert grid.outcome() == undisturbed.outcome
    assert not (grid.results / ".leases").exists()
    note({"killed": "one of two runners", "where": where})
