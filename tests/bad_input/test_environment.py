"""The machine itself: disks that are full or read-only, no home, a clock that goes backwards."""

from __future__ import annotations

import datetime as real
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.store import read_record

GROUP = "Machine"
Mount = Callable[[str, str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount small file systems in memory, where the user may."""
    made: list[Path] = []

    def new(name: str, options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=20)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"cannot mount a small file system here: {type(error).__name__}")
        made.append(folder)
        return folder

    yield new
    for folder in made:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True, timeout=20)


def scratch(desk: Any, *arguments: str) -> list[str]:
    return ["run", "--methods", "scratch", *desk.tiny, *arguments]


def test_read_only_results_are_refused(desk: Any, mount: Mount) -> None:
    folder = mount("locked", "ro")
    given = scratch(desk, "--results", str(folder))
    desk.refuses("--results on a read-only disk", *given, says=["Read-only", "use --results"])


def test_full_disk_ends_the_run_and_loses_no_record(desk: Any, mount: Mount) -> None:
    """There is room for the check at the start and not for the cell's predictions."""
    folder = mount("small", "size=24k")
    shutil.copytree(desk.results, folder, dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    given = scratch(desk, "--results", str(folder))
    says = ["the disk is full: cannot write seed0-", "records written so far are complete"]
    desk.refuses("--results on a disk that fills up", *given, says=says)
    assert before and {path: path.read_bytes() for path in folder.rglob("*.json")} == before
    assert not [path for path in folder.rglob("*") if path.suffix in (".tmp", ".npz", ".lease")]


def test_full_disk_from_the_start_is_refused(desk: Any, mount: Mount) -> None:
    folder = mount("full", "size=8k")
    with pytest.raises(OSError, match="No space"):
        (folder / "rest").write_bytes(bytes(20_000))
    given = scratch(desk, "--results", str(folder))
    desk.refuses("--results on a full disk", *given, says=["cannot be written: No space left"])


def test_cache_on_a_full_disk_ends_the_run(
    desk: Any, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(mount("cache", "size=64k")))
    given = ["run", "--methods", "kd:temperature=3", *desk.tiny]
    says = ["train teacher · cifar10: the disk is full: cannot write model.safetensors"]
    desk.refuses("BENCH_CACHE on a disk that fills up", *given, says=says)


def test_report_on_a_full_disk_keeps_the_old_one(desk: Any, mount: Mount) -> None:
    folder = mount("reports", "size=16k")
    (folder / "leaderboard.md").write_text("the old one")
    given = ["report", "--reports", str(folder)]
    says = ["the disk is full: cannot write", "finished work is kept"]
    desk.refuses("--reports on a disk that fills up", *given, says=says)
    assert not list(folder.rglob("*.tmp"))


def no_home(patch: pytest.MonkeyPatch) -> None:
    for name in ("BENCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        patch.delenv(name, raising=False)
    patch.setattr("pwd.getpwuid", lambda number: {}[number])  # a user that nobody has entered


def home_is_a_file(patch: pytest.MonkeyPatch) -> None:
    no_home(patch)
    Path("file").touch()
    patch.setenv("HOME", str(Path("file").resolve()))


def cache_is_a_file(patch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    patch.setenv("BENCH_CACHE", "file")


@pytest.mark.parametrize(
    ("what", "spoil", "says"),
    [
        ("no home directory", no_home, ["the cache folder in ~/.cache cannot be written"]),
        ("HOME that is a file", home_is_a_file, ["~/.cache cannot be written", "BENCH_CACHE"]),
        ("BENCH_CACHE that is a file", cache_is_a_file, ["cannot be written", "File exists"]),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="users are asked of the system's list")
def test_cache_without_a_place_is_refused(
    desk: Any,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    spoil: Callable[[pytest.MonkeyPatch], None],
    says: list[str],
) -> None:
    spoil(monkeypatch)
    line = desk.refuses(what, *scratch(desk), says=says)
    assert "set BENCH_CACHE to a folder you can write" in line
    desk.refuses(f"{what}, doctor", "doctor", "--device", "cpu", says=says)


def test_clock_set_back_during_a_cell_changes_no_duration(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the clock is a day before the last one."""
    now = [2e9]

    def earlier() -> float:
        now[0] -= 86_400
        return now[0]

    class Clock(real.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.datetime.fromtimestamp(earlier(), tz)

    monkeypatch.setattr("time.time", earlier)
    monkeypatch.setattr("bench.run_cell.datetime", Clock)
    said = desk(*scratch(desk))
    assert said.code == 0, said.text
    desk.tells("a clock set back during the run", said, ["1 cells run, 0 already there"])
    (path,) = desk.results.rglob("scratch/seed0-*.json")
    record = read_record(path)
    assert record["finished"] >= record["started"]
    assert all(seconds >= 0 for seconds in record["timings"].values())
    assert record["timings"]["total_s"] < 600
    assert desk(*scratch(desk)).text.count("0 cells run, 1 already there") == 1
