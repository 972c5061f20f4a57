"""Leases: one owner at a time, whatever dies when."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from bench.leases import Leases, _machine


def leases(folder: Path, expiry: float = 60.0, beat: float = 0.05) -> Leases:
    return Leases(folder, beat=beat, expiry=expiry)


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    with leases(tmp_path) as one, leases(tmp_path) as two:
        assert one.acquire("a") and not two.acquire("a") and two.acquire("b")
        assert not one.acquire("b")
        one.release("a")
        assert two.acquire("a")
        one.release("a")  # not its own any more: nothing happens
        assert not one.acquire("a")
    assert not (tmp_path / ".leases").exists()


def foreign(path: Path, **changes: object) -> dict[str, object]:
    """Make the lease of another machine's runner."""
    owner = {"token": "0" * 16, "machine": "elsewhere", "pid": 1, "born": None, **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(owner))
    return owner


@pytest.mark.parametrize("moment", [0.0, 4e9, None])
def test_silent_lease_expires_by_the_observers_clock(tmp_path: Path, moment: float | None) -> None:
    """Whatever its own clock said: far in the past, far in the future, or now."""
    path = tmp_path / ".leases" / "a.lease"
    foreign(path)
    if moment is not None:
        os.utime(path, (moment, moment))
    with leases(tmp_path, expiry=0.3) as mine:
        assert not mine.acquire("a")
        time.sleep(0.4)
        assert mine.acquire("a")


def test_sign_of_life_keeps_a_lease(tmp_path: Path) -> None:
    with leases(tmp_path, beat=0.05) as one, leases(tmp_path, expiry=1.5) as two:
        assert one.acquire("a")
        for _ in range(20):  # longer than a silent lease would live
            assert not two.acquire("a")
            time.sleep(0.1)
        assert not one.lost()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": "../../../evil"}', "[" * 9000])
def test_torn_or_hostile_lease_blocks_until_it_expires(tmp_path: Path, content: str) -> None:
    results = tmp_path / "a" / "b" / "c"  # deep enough that ../../../ stays in the test's folder
    path = results / ".leases" / "a.lease"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with leases(results, expiry=0.2) as mine:
        assert not mine.acquire("a")
        time.sleep(0.3)
        assert mine.acquire("a")
    assert not list(tmp_path.rglob("*evil*"))


def test_who_was_held_up_learns_that_its_lease_is_lost(tmp_path: Path) -> None:
    path = tmp_path / ".leases" / "a.lease"
    with leases(tmp_path, beat=0.05) as mine:
        assert mine.acquire("a") and not mine.lost()
        path.unlink()
        foreign(path)
        limit = time.monotonic() + 10
        while not mine.lost():
            assert time.monotonic() < limit
            time.sleep(0.02)
        mine.release("a")
        assert path.exists() and not mine.lost()
        path.unlink()


def test_a_lease_of_an_earlier_process_with_our_pid_is_taken(tmp_path: Path) -> None:
    foreign(tmp_path / ".leases" / "a.json", machine=_machine(), pid=os.getpid(), born="0")
    with leases(tmp_path) as mine:
        assert mine.acquire("a")


def test_dead_claim_does_not_block_for_ever(tmp_path: Path) -> None:
    path = tmp_path / ".leases" / "a.lease"
    foreign(path)
    (path.parent / f"a.{'0' * 16}.claim").touch()
    with leases(tmp_path, expiry=0.2) as mine:
        limit = time.monotonic() + 10
        while not mine.acquire("a"):
            assert time.monotonic() < limit
            time.sleep(0.05)


def test_leases_of_dead_runners_go_although_nobody_asks_for_them(tmp_path: Path) -> None:
    """Killed between writing a record and giving the lease back; its cell is never run again."""
    dead = multiprocessing.get_context("fork").Process(target=int)
    dead.start()
    dead.join()
    folder = tmp_path / ".leases"
    foreign(folder / "a.lease", machine=_machine(), pid=dead.pid)
    with leases(tmp_path):
        pass
    assert not folder.exists()
    foreign(folder / "a.lease", machine=_machine(), pid=dead.pid)
    foreign(folder / "b.lease")  # of another machine: it may live
    with leases(tmp_path) as other:
        assert other.acquire("c")
        with leases(tmp_path):
            pass
        assert sorted(path.name for path in folder.iterdir()) == ["b.lease", "c.lease"]


def _contend(folder: Path, together: Any, taken: multiprocessing.Queue[int]) -> None:
    mine = leases(folder)
    together.wait(timeout=60)
    limit = time.monotonic() + 0.5
    while time.monotonic() < limit:
        if mine.acquire("a"):
            taken.put(os.getpid())
            break
    together.wait(timeout=60)  # live on until all have tried, as a runner does


def test_of_many_who_see_a_dead_lease_one_takes_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    dead = context.Process(target=int)
    dead.start()
    dead.join()
    for trial in range(3):
        folder = tmp_path / str(trial)
        foreign(folder / ".leases" / "a.lease", machine=_machine(), pid=dead.pid)
        taken = context.Queue()
        together = context.Barrier(6)
        arguments = (folder, together, taken)
        racers = [context.Process(target=_contend, args=arguments) for _ in range(6)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        winners = [taken.get(timeout=5)]
        assert taken.empty(), winners


def test_a_folder_that_another_runner_removes_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between this one's looking for the folder and its writing into it."""
    opened, left = os.open, ["once"]

    def opens(path: Any, *given: Any, **named: Any) -> int:
        if left and str(path).endswith(".lease"):
            left.pop()
            (tmp_path / ".leases").rmdir()
        return opened(path, *given, **named)

    monkeypatch.setattr("bench.leases.os.open", opens)
    with leases(tmp_path) as mine:
        assert mine.acquire("a") and not left
        assert (tmp_path / ".leases" / "a.lease").is_file()
