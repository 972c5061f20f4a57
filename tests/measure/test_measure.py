"""Measurements: that they measure what they say."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from processes import python

from bench.measure import energy as energy_module
from bench.measure import memory as memory_module
from bench.measure.energy import counts_energy, energy
from bench.measure.flops import count_flops
from bench.measure.memory import peak_memory_growth
from bench.measure.phases import Phases
from bench.measure.timing import Timing, time_calls


def test_a_sleep_in_loading_shows_in_the_data_phase(image_world, monkeypatch) -> None:
    """Fifty milliseconds of slow loading appear as such, and phases add up to the wall time."""
    split = image_world.train
    original = type(split).batch

    def slow(self, index, view=None):  # type: ignore[no-untyped-def]
        if view is not None:
            time.sleep(0.05)
        return original(self, index, view)

    monkeypatch.setattr(type(split), "batch", slow)
    trained = image_world.run("kd", epochs=2).trained
    steps = 2 * split.steps(image_world.recipe["batch_size"])
    assert trained.seconds["data"] >= 0.05 * steps
    assert trained.seconds["data"] < 0.05 * steps + 0.5 * trained.seconds["train"]
    parts = sum(trained.seconds[name] for name in ("data", "teacher", "step"))
    assert parts == pytest.approx(trained.seconds["train"], rel=0.02)


def test_phases_add_up_over_repeats() -> None:
    phases = Phases()
    for _ in range(3):
        with phases.measure("a"):
            time.sleep(0.01)
    with pytest.raises(RuntimeError, match="inside"), phases.measure("b"):
        raise RuntimeError("inside")
    assert phases.seconds["a"] >= 0.03
    assert phases.seconds["b"] >= 0.0


GROWTH = """
import torch
from bench.measure.memory import peak_memory_growth

with peak_memory_growth("cpu") as small:
    pass
with peak_memory_growth("cpu") as large:
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    del block
print(small["rss_growth_bytes"], large["rss_growth_bytes"])
"""


def test_memory_growth_shows_an_allocation() -> None:
    """In a process of its own, as costs are measured: an allocator that has grown shows none."""
    if not memory_module._reset_peak():
        pytest.skip("the kernel's peak cannot be reset here")
    small, large = map(int, python("-c", GROWTH).out.split())
    assert large >= 60 * 2**20
    assert small < 16 * 2**20


def test_memory_is_absent_where_it_cannot_be_read(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory_module, "_STATUS", tmp_path / "none")
    with peak_memory_growth("cpu") as found:
        pass
    assert found == {}


def test_energy_is_absent_without_a_counter_and_counted_with_one(
    monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(energy_module, "RAPL", tmp_path)
    assert not counts_energy("cpu")
    with energy("cpu") as none:
        pass
    assert none == {}
    (tmp_path / "energy_uj").write_text("999000000")
    (tmp_path / "max_energy_range_uj").write_text("1000000000")
    assert counts_energy("cpu")
    with energy("cpu") as wrapped:
        (tmp_path / "energy_uj").write_text("1000000")
    assert wrapped == {"package_joules": pytest.approx(2.0)}


def test_flops_of_a_linear_layer() -> None:
    layer, batch = torch.nn.Linear(7, 5), torch.randn(3, 7)
    assert count_flops(lambda: layer(batch)) == 2 * 3 * 7 * 5
    # backward: one product for the weight; none for an input that needs no gradient
    assert count_flops(lambda: layer(batch).sum().backward()) == 2 * (2 * 3 * 7 * 5)


def test_warm_up_does_not_count() -> None:
    calls: list[int] = []

    def call(at: int) -> None:
        calls.append(at)
        time.sleep(0.3 if at < 2 else 0.001)

    timing = time_calls(call, samples=10, device="cpu", repetitions=5, warmup=2)
    assert calls == list(range(7))
    assert len(timing.seconds) == 5
    assert max(timing.seconds) < 0.3


def test_summary_of_a_timing() -> None:
    timing = Timing((0.1, 0.2, 0.4), samples=10)
    assert timing.median == 0.2
    assert timing.rate == pytest.approx(50)
    summary = timing.summary()
    assert summary["p50_s"] == pytest.approx(0.2)
    assert summary["p5_s"] < summary["p50_s"] < summary["p95_s"] <= 0.4
    assert (summary["repetitions"], summary["samples"]) == (3, 10)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_memory_and_synchronised_phases() -> None:
    with peak_memory_growth("cuda") as found:
        block = torch.ones(64 * 2**20, dtype=torch.uint8, device="cuda")
        del block
    assert found["cuda_allocated_bytes"] >= 64 * 2**20
    phases = Phases("cuda", synchronise=True)
    matrix = torch.randn(4096, 4096, device="cuda")
    with phases.measure("step"):
        for _ in range(20):
            matrix = torch.nn.functional.normalize(matrix @ matrix)
    with phases.measure("idle"):
        pass
    assert phases.seconds["step"] > 10 * phases.seconds["idle"]


def test_slow_calls_are_repeated_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call takes a second by a clock of the test's own."""
    clock = iter(range(10_000))
    monkeypatch.setattr("bench.measure.timing.time.perf_counter", lambda: float(next(clock)))

    def counted(limit: float) -> int:
        timing = time_calls(
            lambda at: None, samples=1, device="cpu", repetitions=12, warmup=2, limit_s=limit
        )
        return len(timing.seconds)

    assert counted(100.0) == 12
    assert counted(7.0) == 8
    assert counted(1.5) == 5  # never fewer, unless
    assert counted(0.5) == 3  # one call alone takes longer than all should
