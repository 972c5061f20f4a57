"""A killed run goes on bit for bit; a checkpoint that is no good costs a restart."""

from __future__ import annotations

import errno
import functools
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from bench.training import loop
from bench.training.checkpoint import Checkpoint


class Interrupted(Exception):
    """What a killed process looks like from inside the test."""


@pytest.fixture
def eager_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint after every epoch."""
    monkeypatch.setattr(loop, "Checkpoint", functools.partial(Checkpoint, interval=0.0))


def _stop_at(epoch: int) -> Callable[[dict[str, Any]], None]:
    def report(entry: dict[str, Any]) -> None:
        if entry["epoch"] == epoch:  # before this epoch's checkpoint: the one before it is there
            raise Interrupted

    return report


OPTIONS = {
    "fitnets": {"hint_share": 0.5},
    "gpd": {"branches": 3, "ema": 0.9},
    "crd": {"negatives": 8},
}


@pytest.mark.usefixtures("eager_checkpoints")
@pytest.mark.parametrize(
    ("world", "name", "epoch"),
    [
        ("image", "kd", 1),
        ("image", "kd", 2),
        ("image", "kd", 4),
        ("text", "kd", 3),
        ("image", "fitnets", 2),  # inside stage 1
        ("image", "fitnets", 3),  # stage 1 is done, stage 2 has not begun
        ("image", "fitnets", 4),  # inside stage 2
        ("text", "fitnets", 2),
        ("text", "fitnets", 3),
        ("text", "fitnets", 4),
        ("image", "fitnets_joint", 3),
        ("image", "crd", 3),  # whose banks must come back
        ("image", "gpd", 3),
        ("text", "gpd", 2),
    ],
    indirect=["world"],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    world, name: str, epoch: int, tmp_path: Path, differing
) -> None:
    options = OPTIONS.get(name, {})
    whole = world.run(name, options=options, epochs=4)
    path = tmp_path / "running" / "cell.pt"
    with pytest.raises(Interrupted):
        world.run(name, options=options, epochs=4, checkpoint=path, report=_stop_at(epoch))
    assert path.is_file() == (epoch > 1)
    torch.manual_seed(12345)
    done: list[int] = []
    resumed = world.run(
        name,
        options=options,
        epochs=4,
        checkpoint=path,
        report=lambda entry: done.append(entry["epoch"]),
    )
    assert done == list(range(epoch, 5))  # nothing is done twice
    assert differing(whole.student.state_dict(), resumed.student.state_dict()) == []
    assert differing(whole.method.state_dict(), resumed.method.state_dict()) == []
    assert differing(whole.trained.best_state, resumed.trained.best_state) == []
    assert whole.trained.best_epoch == resumed.trained.best_epoch
    assert whole.told == resumed.told
    assert resumed.trained.seconds["train"] > sum(
        entry["seconds"] for entry in resumed.trained.epochs[: epoch - 1]
    )


@pytest.mark.usefixtures("eager_checkpoints")
def test_a_finished_run_is_not_trained_again(image_world, tmp_path: Path, differing) -> None:
    first = image_world.run("kd", checkpoint=tmp_path / "cell.pt")
    entries: list[Any] = []
    again = image_world.run("kd", checkpoint=tmp_path / "cell.pt", report=entries.append)
    assert entries == []
    assert differing(first.student.state_dict(), again.student.state_dict()) == []
    assert differing(first.trained.best_state, again.trained.best_state) == []


def test_short_runs_write_no_checkpoint(image_world, tmp_path: Path) -> None:
    image_world.run("scratch", checkpoint=tmp_path / "cell.pt")
    assert not (tmp_path / "cell.pt").exists()


@pytest.fixture
def checkpoint(image_world, tmp_path: Path, eager_checkpoints: None) -> Path:
    """Return the checkpoint of a finished run."""
    path = tmp_path / "cell.pt"
    image_world.run("scratch", checkpoint=path)
    return path


def test_a_checkpoint_of_another_teacher_is_not_gone_on_from(
    image_world, checkpoint: Path, differing, caplog
) -> None:
    whole = image_world.run("scratch")
    saved = _opened(checkpoint)
    moved = {name: value + 1 for name, value in saved["student"].items()}
    _sealed(checkpoint, {**saved, "taught_by": "a copy with other weights", "student": moved})
    again = image_world.run("scratch", checkpoint=checkpoint)
    assert "is of another copy of the teacher or generator: starting over" in caplog.text
    assert differing(whole.student.state_dict(), again.student.state_dict()) == []


@pytest.mark.parametrize("what", ["threads", "torch"])
def test_a_checkpoint_of_other_bits_is_not_gone_on_from(
    image_world, checkpoint: Path, differing, caplog, what: str
) -> None:
    whole = image_world.run("scratch")
    saved = _opened(checkpoint)
    moved = {name: value + 1 for name, value in saved["student"].items()}
    made = {**saved["made_by"], what: "another"}
    _sealed(checkpoint, {**saved, "made_by": made, "student": moved})
    again = image_world.run("scratch", checkpoint=checkpoint)
    assert "is of other versions or threads: starting over" in caplog.text
    assert differing(whole.student.state_dict(), again.student.state_dict()) == []


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _garble(path: Path) -> None:
    path.write_bytes(b"not a checkpoint")


def _opened(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, whose first line is the checksum of the rest."""
    _, _, data = path.read_bytes().partition(b"\n")
    return torch.load(io.BytesIO(data), weights_only=True)


def _sealed(path: Path, saved: Any) -> None:
    """Write a checkpoint whose checksum is right, whatever is in it."""
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest().encode()
    path.write_bytes(checksum + b"\n" + buffer.getvalue())


def _pickle(path: Path) -> None:
    """Put an object there that only an unsafe load would build."""
    _sealed(path, {"student": Interrupted("run me")})


def _other_model(path: Path) -> None:
    _sealed(path, {**_opened(path), "student": nn.Linear(3, 2).state_dict()})


def _other_method(path: Path) -> None:
    """Leave a student that fits, though a moved one, with a method that does not."""
    saved = _opened(path)
    moved = {name: value + 1 for name, value in saved["student"].items()}
    _sealed(path, {**saved, "student": moved, "method": nn.Linear(3, 2).state_dict()})


def _other_format(path: Path) -> None:
    _sealed(path, {**_opened(path), "format": 0})


def _drop_progress(path: Path) -> None:
    saved = _opened(path)
    del saved["progress"]
    _sealed(path, saved)


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    weight = _opened(path)["student"]["network.stages.2.0.conv1_kxk.conv.weight"]
    at = content.find(weight.permute(0, 2, 3, 1).contiguous().numpy().tobytes()[:64])
    assert at > 0
    content[at + 3] ^= 0x01
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _empty,
        _garble,
        _pickle,
        _other_model,
        _other_method,
        _other_format,
        _drop_progress,
        _flip_a_byte,
    ],
)
def test_a_damaged_checkpoint_is_removed_and_said(
    image_world, checkpoint: Path, damage: Callable[[Path], None], differing, caplog
) -> None:
    damage(checkpoint)
    damaged = checkpoint.read_bytes()
    whole = image_world.run("scratch")
    afresh = image_world.run("scratch", checkpoint=checkpoint)
    assert f"checkpoint {checkpoint.name} is damaged: starting over" in caplog.text
    assert checkpoint.read_bytes() != damaged
    assert differing(whole.student.state_dict(), afresh.student.state_dict()) == []


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), MemoryError(), torch.OutOfMemoryError("memory")],
    ids=["disk", "memory", "device memory"],
)
def test_a_checkpoint_that_cannot_be_read_now_is_kept(
    image_world, checkpoint: Path, error: Exception, differing, monkeypatch, caplog
) -> None:
    saved = checkpoint.read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr("bench.training.checkpoint.torch.load", Mock(side_effect=error))
        with pytest.raises(type(error)):
            image_world.run("scratch", checkpoint=checkpoint)
    assert checkpoint.read_bytes() == saved
    assert "damaged" not in caplog.text
    resumed = image_world.run("scratch", checkpoint=checkpoint)
    whole = image_world.run("scratch")
    assert differing(whole.student.state_dict(), resumed.student.state_dict()) == []
