"""Caches and checkpoints that were altered: named and made again, with the same result."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.plan import make_plan
from bench.store import read_record
from bench.suites import Suite
from bench.training.checkpoint import FORMAT, checkpoint_path, made_by

GROUP = "Caches and checkpoints"
# another cell than the earlier record's, which would be reused
RUN = ["run", "--methods", "kd:temperature=3"]


class Evil:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made-by-a-pickle",)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def replaced(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def pickled(path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, train=np.array([Evil()], dtype=object))
    path.write_bytes(buffer.getvalue())


def signed(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode() + b"\n" + data


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return signed(buffer.getvalue())


TEACHER, SIGNALS = "the teacher is made again", "are made again"
CASES: list[tuple[str, str, Callable[[Path], object], list[str]]] = [
    ("teacher weights with a bit flipped", "model.safetensors", flipped, ["checksum", TEACHER]),
    ("teacher weights cut short", "model.safetensors", cut, ["checksum", TEACHER]),
    ("teacher weights removed", "model.safetensors", Path.unlink, ["No such file", TEACHER]),
    ("teacher predictions with a pickle in them", "predictions.npz", pickled, ["checksum"]),
    ("a teacher's manifest that is half", "teachers/*/manifest.json", cut, [TEACHER]),
    (
        "a teacher's manifest that is a list",
        "teachers/*/manifest.json",
        replaced(b"[]"),
        ["TypeError", TEACHER],
    ),
    ("signals with a bit flipped", "view-0-0-logits.npy", flipped, ["checksum", SIGNALS]),
    ("signals cut short", "view-0-0-embedding.npy", cut, ["checksum", SIGNALS]),
    ("signals removed", "view-0-0-logits.npy", Path.unlink, ["No such file", SIGNALS]),
    ("the signals' manifest as binary", "signals/*/manifest.json", replaced(b"\xff"), [SIGNALS]),
]
STATE: dict[str, Any] = {}


@pytest.fixture
def prepared(desk: Any) -> dict[str, Any]:
    """Fill the cache of this test with that of one undisturbed run, whose metrics are returned."""
    cache = Path(os.environ["BENCH_CACHE"])
    if not STATE:
        said = desk(*RUN, *desk.tiny)
        assert said.code == 0, said.text
        STATE["cache"] = cache.with_name(cache.name + "-kept")
        shutil.copytree(cache, STATE["cache"])
        STATE["metrics"] = taken(desk)
    else:
        shutil.copytree(STATE["cache"], cache, dirs_exist_ok=True)
    return STATE


def taken(desk: Any) -> Any:
    """Return the metrics of the cell that was run, and forget its record."""
    (path,) = desk.results.rglob("kd-temperature=3*/seed0-*.json")
    metrics = read_record(path)["metrics"]
    shutil.rmtree(path.parent)
    return metrics


@pytest.mark.parametrize(("what", "name", "alter", "says"), CASES, ids=[case[0] for case in CASES])
def test_altered_cache_is_named_and_made_again(
    desk: Any,
    prepared: dict[str, Any],
    what: str,
    name: str,
    alter: Callable[[Path], object],
    says: list[str],
) -> None:
    pattern = name if "/" in name else f"*/*/{name}"
    (path,) = Path(os.environ["BENCH_CACHE"]).glob(pattern)
    alter(path)
    said = desk(*RUN, *desk.tiny)
    assert said.code == 0, said.text
    assert path.name in desk.tells(what, said, ["note: ", *says])
    assert taken(desk) == prepared["metrics"]
    assert not Path("made-by-a-pickle").exists()


CHECKPOINTS: list[tuple[str, Callable[[], bytes]]] = [
    ("a checkpoint of random bytes", lambda: os.urandom(3000)),
    ("an empty checkpoint", lambda: b""),
    ("a checkpoint that holds code, with a checksum", lambda: signed(pickle.dumps(Evil()))),
    ("a checkpoint of another format", lambda: saved({"format": 99})),
    (
        "a checkpoint of another model",
        lambda: saved(
            {
                **{"format": FORMAT, "made_by": made_by(), "progress": {}, "optimizer": {}},
                **{"student": {"w": 0}, "method": {}},
            }
        ),
    ),
]


@pytest.mark.parametrize(("what", "content"), CHECKPOINTS, ids=[case[0] for case in CHECKPOINTS])
def test_altered_checkpoint_costs_a_restart(
    desk: Any, prepared: dict[str, Any], what: str, content: Callable[[], bytes]
) -> None:
    pairs = [text.split("=", 1) for text in desk.tiny if "=" in text]
    suite = Suite(methods=(RUN[2],), tasks=("cifar10",), seeds=(0,), overrides=dict(pairs))
    (cell,) = make_plan(suite, device="cpu").cells
    path = checkpoint_path(f"cell-{cell.key[:24]}")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content())
    said = desk(*RUN, *desk.tiny)
    assert said.code == 0, said.text
    desk.tells(what, said, ["note: ", path.name, "is damaged: starting over"])
    assert taken(desk) == prepared["metrics"] and not path.exists()
    assert not Path("made-by-a-pickle").exists()
