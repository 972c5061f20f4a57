"""The cache folder and the hashes remembered in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench.data import fingerprint
from bench.data.cache import cache_dir
from bench.data.fingerprint import files_fingerprint
from bench.errors import BenchError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test's cache in its own folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file old enough for its hash to be remembered."""
    path = tmp_path / "data" / "some.bin"
    path.parent.mkdir()
    path.write_bytes(b"one")
    os.utime(path, ns=(10**18, 10**18))
    return path


def test_bench_cache_goes_first(cache: Path) -> None:
    assert cache_dir() == cache
    assert cache.is_dir()
    assert not list(cache.iterdir()), "the probe is gone"


def test_xdg_then_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "distillation-bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "distillation-bench"


def test_unwritable_cache_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BenchError, match="set BENCH_CACHE") as caught:
        cache_dir()
    assert str(tmp_path / "file") in caught.value.message


def test_fingerprint_follows_bytes_and_names_not_times(file: Path) -> None:
    root = file.parent
    first = files_fingerprint(root, [file])
    assert len(first) == 64
    os.utime(file, ns=(10**18, 10**18 + 10**10))
    assert files_fingerprint(root, [file]) == first
    file.write_bytes(b"onf")
    changed = files_fingerprint(root, [file])
    assert changed != first
    file.write_bytes(b"one")
    assert files_fingerprint(root, [file]) == first
    assert files_fingerprint(root, [file.rename(root / "other.bin")]) != first


def test_hash_is_remembered(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = files_fingerprint(file.parent, [file])
    noted = json.loads((cache / "fingerprints.json").read_text())
    assert list(noted) == [str(file.resolve())]

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(fingerprint, "file_sha256", refuse)
    assert files_fingerprint(file.parent, [file]) == first


def test_hash_of_a_young_file_is_not_remembered(file: Path, cache: Path) -> None:
    file.write_bytes(b"two")
    files_fingerprint(file.parent, [file])
    assert not (cache / "fingerprints.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"x": 1}', "PATH-TO-NONSENSE", "\x00"])
def test_spoiled_notes_are_ignored(file: Path, cache: Path, content: str) -> None:
    first = files_fingerprint(file.parent, [file])
    if content == "PATH-TO-NONSENSE":
        content = json.dumps({str(file.resolve()): [3, 10**18, "short"]})
    (cache / "fingerprints.json").write_text(content)
    assert files_fingerprint(file.parent, [file]) == first


def test_unwritable_cache_is_no_error_for_a_fingerprint(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = files_fingerprint(file.parent, [file])
    monkeypatch.setenv("BENCH_CACHE", str(file / "cache"))
    assert files_fingerprint(file.parent, [file]) == first


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"gone\.parquet"):
        files_fingerprint(tmp_path, [tmp_path / "gone.parquet"])
