"""What tests share: a cache of their own, the command line, the worlds to train in."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import worlds
from hypothesis import settings
from processes import ROOT, Said, bench, bench_here

if TYPE_CHECKING:
    import torch
    from worlds import World

    from bench.method import Method


os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the hub's library is loaded


# what else the machine is doing is no property of the code
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture
def no_new_methods() -> Iterator[None]:
    """Forget what plug-ins register during a test: later tests in this process know it not."""
    from plug_ins import forget_plug_ins

    yield
    forget_plug_ins()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give every test a cache folder of its own.

    Worker processes keep the one that their server was started with: only a program of the test's
    own (``process``) has all of it anew.
    """
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tests are small: more threads cost more than they give."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def interrupts_arrive() -> None:
    """Let started programs be interrupted: a shell's background jobs inherit SIGINT ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


Call = Callable[..., Said]


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    """Return a function that runs the command line here, in an empty working directory."""
    from bench.terminal import CONSOLE

    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setattr(CONSOLE, "width", 200)
    monkeypatch.chdir(tmp_path)

    return functools.partial(bench_here, capsys, monkeypatch)


@pytest.fixture
def process(tmp_path: Path) -> Call:
    """Return a function that runs ``python -m bench`` in a process, in an empty directory."""

    return functools.partial(bench, cwd=tmp_path, COLUMNS="100")


@pytest.fixture(scope="session")
def published() -> list[Path]:
    """Return the records that are part of the project, and not those of somebody's own runs."""
    from bench.store import record_files

    listed = subprocess.run(
        ["git", "ls-files", "-z", "results"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("no git checkout: published records cannot be told from others")
    tracked = {ROOT / name for name in listed.stdout.decode().split("\0") if name}
    return [path for path in record_files(ROOT / "results") if path in tracked]


@pytest.fixture
def image_world() -> World:
    """Return 64 + 48 scanned digits and two small ResNets."""
    return worlds.image_world()


@pytest.fixture
def text_world() -> World:
    """Return 48 + 24 token sequences and two small BERTs."""
    return worlds.text_world()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """Return the world named by an indirect parameter ("image" or "text")."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


@pytest.fixture(scope="session")
def new_method() -> Callable[..., Method]:
    """Return a builder: ``new_method("kd", temperature=2)``."""
    return lambda name, **options: worlds.make_method(name, options)


@pytest.fixture(scope="session")
def differing() -> Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], list[str]]:
    """Return a function that names the tensors of two state dicts that differ in any bit."""

    def names(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
        assert one.keys() == other.keys()
        return [name for name, value in one.items() if not value.equal(other[name])]

    return names


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Any], dict[str, torch.Tensor]]:
    """Return a function that copies a module's parameters and buffers."""
    return lambda module: {name: value.clone() for name, value in module.state_dict().items()}
