"""Waiting for another process, and being asked to stop meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bench import locks, stopping
from bench.locks import locked
from bench.stopping import Stopped


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return a request to stop of this test's own."""
    event = threading.Event()
    monkeypatch.setattr(stopping, "_asked", event)
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.02)
    return event


def held(path: Path, held_until: threading.Event) -> threading.Thread:
    """Hold the lock in another thread; returns once it is held."""
    ready = threading.Event()

    def hold() -> None:
        with locked(path):
            ready.set()
            held_until.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert ready.wait(60)
    return thread


def test_who_waits_for_a_lock_can_be_stopped(tmp_path: Path, asked: threading.Event) -> None:
    release = threading.Event()
    other = held(tmp_path / ".lock", release)
    asked.set()
    with pytest.raises(Stopped), locked(tmp_path / ".lock"):
        pytest.fail("two at once")
    release.set()
    other.join()


def test_a_free_lock_is_taken_even_then(tmp_path: Path, asked: threading.Event) -> None:
    asked.set()  # who holds it decides where to stop
    with locked(tmp_path / ".lock"):
        pass


def test_the_lock_is_had_once_it_is_free(tmp_path: Path, asked: threading.Event) -> None:
    release = threading.Event()
    other = held(tmp_path / ".lock", release)
    threading.Timer(0.1, release.set).start()
    with locked(tmp_path / ".lock"):
        assert release.is_set()
    other.join()


def test_a_lock_is_given_back_after_an_error(tmp_path: Path, asked: threading.Event) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / ".lock"):
        1 / 0  # noqa: B018
    with locked(tmp_path / ".lock"):
        pass
