"""Teachers and signals on their way: verified on arrival, never half there, never mixed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.data.cache import teacher_identity
from bench.data.fingerprint import file_sha256
from bench.errors import BenchError
from bench.executors.artefacts import Parcel, parcels, receive, unpack
from bench.teachers.store import TeacherFiles

KEY = "a" * 64
TEACHER = Path("teachers") / f"cifar10-{KEY[:16]}"


def teacher(cache: Path, weights: bytes = b"weights") -> None:
    """Write what :class:`bench.teachers.store.TeacherFiles` writes, only shorter."""
    folder = cache / TEACHER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "head.npz").write_bytes(b"head")
    sums = {name: file_sha256(folder / name) for name in ("model.safetensors", "head.npz")}
    (folder / "manifest.json").write_text(json.dumps({"key": KEY, "sha256": sums}))


def signals(cache: Path, *names: str, value: int = 1) -> Path:
    """Write what :func:`bench.teachers.fill.fill` writes for these arrays."""
    folder = cache / "signals" / "0123456789abcdef"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "manifest.json"
    sums = json.loads(path.read_text())["sha256"] if path.is_file() else {}
    for name in names:
        np.save(folder / f"{name}.npy", np.full(4, value, np.float16))
        sums[name] = file_sha256(folder / f"{name}.npy")
    weights = file_sha256(cache / TEACHER / "model.safetensors")
    path.write_text(json.dumps({"teacher": teacher_identity(KEY, weights), "sha256": sums}))
    return folder


def send(source: Path, target: Path) -> int:
    offers = list(parcels(source, "cifar10", KEY))
    return receive(target, offers, lambda data: data)


def contents(cache: Path) -> dict[str, bytes]:
    return {
        path.relative_to(cache).as_posix(): path.read_bytes()
        for path in cache.rglob("*.*")
        if path.name != ".lock"
    }


def test_what_travels_is_the_teacher_that_a_cell_looks_for(own_cache: Path) -> None:
    files = TeacherFiles.of("cifar10", KEY)
    files.folder.mkdir(parents=True)
    files.manifest.write_text("{}")
    (sent,) = parcels(own_cache, "cifar10", KEY)
    assert own_cache / sent.path == files.manifest


def test_all_files_travel_once(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    teacher(here)
    signals(here, "view-0-0-logits", "offsets")
    assert send(here, there) == 6
    sent, arrived = contents(here), contents(there)
    assert sent.keys() == arrived.keys()
    assert all(json.loads(sent[n]) == json.loads(arrived[n]) for n in sent if n.endswith("json"))
    assert all(sent[name] == arrived[name] for name in sent if not name.endswith("json"))
    assert send(here, there) == 0
    known = frozenset((item.path, item.sha256) for item in parcels(here, "cifar10", KEY))
    assert not list(parcels(here, "cifar10", KEY, known))


def test_signals_of_two_machines_come_together(tmp_path: Path) -> None:
    one, two, driver = tmp_path / "1", tmp_path / "2", tmp_path / "driver"
    for cache, view in ((one, "view-0-0-logits"), (two, "view-1-0-logits")):
        teacher(cache)
        folder = signals(cache, view)
        send(cache, driver)
    manifest = json.loads((driver / folder.relative_to(two) / "manifest.json").read_text())
    assert manifest["sha256"].keys() == {"view-0-0-logits", "view-1-0-logits"}


def test_what_is_damaged_on_its_way_does_not_arrive(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    teacher(here)
    offers = [replace(item, data=item.data[:-1] + b"?") for item in parcels(here, "cifar10", KEY)]
    with pytest.raises(BenchError, match="damaged in transfer"):
        receive(there, offers, lambda data: data)
    assert not contents(there)


def test_what_is_damaged_before_it_leaves_is_not_sent(tmp_path: Path) -> None:
    teacher(tmp_path)
    (tmp_path / TEACHER / "head.npz").write_bytes(b"other")
    sent = [Path(item.path).name for item in parcels(tmp_path, "cifar10", KEY)]
    assert sent == ["model.safetensors", "manifest.json"]


def test_signals_of_another_teacher_under_this_name_do_not_travel(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    teacher(here, weights=b"trained before")
    old = signals(here, "view-0-0-logits", "view-5-0-logits", value=2)
    teacher(here)
    send(here, there)
    assert (there / TEACHER / "model.safetensors").read_bytes() == b"weights"
    assert not (there / old.relative_to(here)).exists()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "teachers/../../x", ""])
def test_no_file_leaves_its_folder(path: str, tmp_path: Path) -> None:
    import hashlib

    item = Parcel(path, hashlib.sha256(b"x").hexdigest(), b"x")
    with pytest.raises(BenchError, match="refused a file"):
        unpack(tmp_path / "cache", item, b"x")
    assert not list(tmp_path.rglob("x"))
