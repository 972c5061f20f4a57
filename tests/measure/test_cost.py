"""What a cost record says of a method beside the plain student."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from bench import runner
from bench.drive import Summary
from bench.measure import cost
from bench.measure.cost import CostSpec, cost_path, measure_cost
from bench.opening import load_data, open_task
from bench.plan import Plan, Serving, make_plan
from bench.progress import Progress
from bench.registry import load_plugin
from bench.run_cell import run_cell
from bench.store import read_costs
from bench.suites import Suite
from bench.teachers.train import ensure_teacher

METHODS = ["scratch", "gpd_scratch"]


def planned(methods: list[str], seeds: Sequence[int] = (0,), **serving: Any) -> Plan:
    suite = Suite(
        methods=methods, tasks=["cifar10:train_limit=128"], preset="quick", seeds=list(seeds)
    )
    return make_plan(suite, device="cpu", serving=Serving(**serving))


def specs(methods: list[str]) -> list[CostSpec]:
    return [CostSpec(cell, steps=2, warmup=1) for cell in planned(methods).cells]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("costs")


@pytest.fixture(scope="module")
def measured(results: Path) -> dict[str, dict[str, Any]]:
    return {spec.cell.label: measure_cost(spec, results) for spec in specs(METHODS)}


def test_a_wider_network_beside_the_student_costs_training_alone(
    measured: dict[str, dict[str, Any]],
) -> None:
    plain, wider = (measured[name] for name in METHODS)
    assert plain["status"] == wider["status"] == "ok"
    flops = [each["training"]["flops_per_sample"] for each in (plain, wider)]
    assert flops[1] > 4 * flops[0]  # twice as wide: four times the products, and the student's own
    assert wider["parameters"]["train_only"] > plain["parameters"]["train_only"] == 0
    assert wider["parameters"]["deployed"] == plain["parameters"]["deployed"]
    served = [each["inference"]["flops_per_sample"] for each in (plain, wider)]
    assert served[0] == served[1] > 0
    for each in (plain, wider):
        assert each["training"]["memory"]["rss_growth_bytes"] >= 0
        assert each["training"]["step"]["samples_per_s"] > 0
        latency, throughput = (each["inference"][name] for name in ("latency", "throughput"))
        assert latency["p5_s"] <= latency["p50_s"] <= latency["p95_s"]
        assert latency["samples"] == 1 < throughput["samples"]


def test_phases_of_a_step_without_a_teacher(measured: dict[str, dict[str, Any]]) -> None:
    for each in measured.values():
        for stage in each["training"]["stages"].values():
            assert stage["phases_s"].keys() == {"data", "step"}
            assert all(seconds > 0 for seconds in stage["phases_s"].values())


def test_every_stage_is_measured_and_weighed_by_its_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A counter that ticks once a step reads one joule a step, in each stage.

    Of the preset's ten epochs a quarter for hints is two, a fifth.
    """
    steps: list[str] = []
    plain = cost._Stepper.__call__

    def counted(self: Any, at: int) -> None:
        steps.append("step")
        plain(self, at)

    @contextmanager
    def ticking(device: str) -> Iterator[dict[str, float]]:
        before, found = len(steps), dict[str, float]()
        yield found
        found["cpu_j"] = float(len(steps) - before)

    @contextmanager
    def trained(device: str) -> Iterator[dict[str, int]]:
        with ticking(device) as found:
            yield (named := dict[str, int]())
        named["steps"] = int(found["cpu_j"])

    monkeypatch.setattr(cost._Stepper, "__call__", counted)
    monkeypatch.setattr(cost, "counts_energy", lambda device: True)
    monkeypatch.setattr(cost, "energy", ticking)
    monkeypatch.setattr(cost, "peak_memory_growth", trained)
    (cell,) = planned(["fitnets:hint_share=0.25"]).cells
    assert cell.teacher is not None
    ensure_teacher(cell.teacher)
    spec = CostSpec(cell, steps=2, warmup=1)
    found = cost._measure(spec)["training"]
    assert found["stages"].keys() == {"hint", "distil"}
    assert found["memory"] == {"steps": 4}  # two of each stage
    assert cell.preset_values["recipe"]["epochs"] == 10
    medians = [found["stages"][stage]["p50_s"] for stage in ("hint", "distil")]
    assert found["step"]["p50_s"] == pytest.approx((medians[0] + 4 * medians[1]) / 5)
    batch = cell.preset_values["recipe"]["batch_size"]
    assert found["energy"] == {"cpu_j_per_sample": pytest.approx(1 / batch)}


def test_the_record_is_where_it_belongs_and_can_be_read(
    results: Path, measured: dict[str, dict[str, Any]]
) -> None:
    found, problems = read_costs(results)
    assert not problems
    assert {each["key"] for each in found} == {spec.key for spec in specs(METHODS)}
    for spec in specs(METHODS):
        path = cost_path(results, spec, torch.get_num_threads())
        kept = json.loads(path.read_text(encoding="utf-8"))
        assert kept == measured[spec.cell.label]


def test_what_fails_is_a_record_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("no such step")

    monkeypatch.setattr("bench.measure.cost.time_calls", refuse)
    (spec,) = specs(["scratch"])
    record = measure_cost(spec, tmp_path)
    assert record["status"] == "failed" and record["error"]["message"] == "no such step"
    assert cost_path(tmp_path, spec, torch.get_num_threads()).is_file()


def test_a_number_that_json_cannot_hold_is_a_record_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.measure.cost._measure", lambda _: {"training": {"p50": math.nan}})
    (spec,) = specs(["scratch"])
    assert measure_cost(spec, tmp_path)["status"] == "failed"
    (kept,), problems = read_costs(tmp_path)
    assert not problems and kept["error"]["class"] == "ValueError" and "training" not in kept


def test_a_cost_is_that_of_its_machine_and_threads_alone(
    results: Path, measured: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = specs(["scratch"])
    threads = measured["scratch"]["environment"]["threads"]
    assert runner.measured(spec, results, threads)
    assert not runner.measured(spec, results, threads + 1)
    monkeypatch.setattr(cost, "device_name", lambda device: "another")
    assert not runner.measured(spec, results, threads)


def test_two_machines_keep_a_cost_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "_measure", lambda _: {"training": {}})
    (spec,) = specs(["scratch"])
    for machine in ("one", "another", "one"):
        monkeypatch.setattr(cost, "device_name", lambda device, name=machine: name)
        measure_cost(spec, tmp_path)
    kept, problems = read_costs(tmp_path)
    assert len(kept) == 2 and not problems


def test_a_record_says_how_the_teacher_was_served(tmp_path: Path) -> None:
    """A cached teacher that had no room ran live, and is measured again where it has some."""
    for method, room, served in (
        ("kd", 8, "live"),
        ("kd", 2**30, "cached"),
        ("fitnets_joint", 2**30, "live"),  # feature maps of augmented images are not kept
    ):
        (spec,) = runner.cost_specs(planned([method], cache_bytes=room), live=False)
        spec = replace(spec, steps=1, warmup=0)
        assert spec.cell.teacher is not None and spec.mode == "cached"
        ensure_teacher(spec.cell.teacher)
        assert not runner.measured(spec, tmp_path, torch.get_num_threads())
        record = measure_cost(spec, tmp_path)
        assert record["status"] == "ok", record["error"]
        assert record["teacher_served"] == served
        assert runner.measured(spec, tmp_path, torch.get_num_threads())


def test_without_a_cache_there_is_no_cost_of_one() -> None:
    plan = planned(["scratch", "kd", "teacher"], seeds=(3, 4), cache_bytes=0)
    for live in (True, False):
        specs = runner.cost_specs(plan, live=live)
        assert [(spec.cell.label, spec.mode) for spec in specs] == [
            ("scratch", "none"),
            ("kd", "live"),
            ("teacher", "none"),
        ]
        assert [spec.cell.seed for spec in specs] == [3, 3, 0]  # a teacher's row has one


def test_of_the_teacher_serving_is_measured(tmp_path: Path) -> None:
    (spec,) = specs(["teacher"])
    assert spec.cell.teacher is not None
    manifest = ensure_teacher(spec.cell.teacher)
    record = measure_cost(spec, tmp_path)
    assert record["status"] == "ok", record["error"]
    assert record["training"] is None and record["teacher_served"] == "none"
    parameters = manifest["parameters"]
    assert record["parameters"] == {
        "deployed": parameters,
        "train_only": 0,
        "teacher": parameters,
    }
    (student,) = specs(["scratch"])
    small = measure_cost(student, tmp_path)["inference"]["flops_per_sample"]
    assert record["inference"]["flops_per_sample"] > 2 * small


def test_a_baseline_that_is_no_network_has_no_cost() -> None:
    text = Suite(methods=["tfidf"], tasks=["sentiment140"], preset="quick", seeds=[0])
    assert not runner.cost_specs(make_plan(text, device="cpu"))


def test_a_baseline_that_reads_the_teacher_is_not_the_teacher(
    tmp_path: Path, no_new_methods: None
) -> None:
    (tmp_path / "halved.py").write_text(
        "from bench import Baseline, Card, register_baseline\n"
        "from bench.baseline import Prediction\n\n\n"
        '@register_baseline("halved")\nclass Halved(Baseline):\n    """Half the teacher."""\n\n'
        "    needs_teacher = True\n    card = Card(title='halved')\n\n"
        "    def predict(self, *, task, seed, teacher):\n"
        "        return Prediction(teacher, parameters=123)\n"
    )
    load_plugin(str(tmp_path / "halved.py"))
    plan = planned(["halved"])
    (cell,) = plan.cells
    assert cell.teacher is not None
    taught = ensure_teacher(cell.teacher)
    record = run_cell(cell, tmp_path, lambda entry: None)
    assert record["status"] == "ok", record["error"]
    assert record["parameters"]["deployed"] == 123 != taught["parameters"]
    assert record["timings"]["train_s"] != taught["seconds"]
    assert not runner.cost_specs(plan)


def test_flops_are_those_of_the_texts_that_are_timed(tmp_path: Path) -> None:
    """Texts differ in length: neither the first of them nor the first batch stands for the rest."""
    text = Suite(
        methods=["scratch"], tasks=["sentiment140:train_limit=128"], preset="quick", seeds=[0]
    )
    (cell,) = make_plan(text, device="cpu").cells
    told = []
    for steps in (1, 4):
        record = measure_cost(CostSpec(cell, steps=steps, warmup=0), tmp_path)
        assert record["status"] == "ok", record["error"]
        told.append(record)
    first, all_ = (each["training"]["flops_per_sample"] for each in told)
    assert first != all_
    served = {each["inference"]["flops_per_sample"] for each in told}
    assert len(served) == 1
    data = load_data(cell, open_task(cell))
    lengths = [int(data.test.batch(np.array([at])).mask.sum()) for at in range(cost.LATENCY_CALLS)]
    assert min(lengths) < max(lengths)
    (mean,) = served
    assert mean != int(mean)  # of one text it would be whole


def test_a_run_tells_the_rate_of_serving_a_teacher(tmp_path: Path) -> None:
    said = io.StringIO()
    summary = runner.measure_plan(
        planned(["teacher"]), results=tmp_path, threads=1, progress=Progress(Console(file=said))
    )
    assert summary == Summary(done=1)
    assert "samples/s served" in said.getvalue()


def broken(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def failed(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    error = {"class": "RuntimeError", "message": "no such step", "hint": "", "traceback": ""}
    path.write_text(json.dumps({**record, "status": "failed", "error": error}), encoding="utf-8")


@pytest.mark.parametrize("harm", [broken, failed])
def test_a_cost_that_failed_or_is_damaged_is_measured_again(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    plan = planned(["scratch"])
    (spec,) = runner.cost_specs(plan)

    def measure() -> Summary:
        progress = Progress(Console(file=io.StringIO()))
        return runner.measure_plan(plan, results=tmp_path, threads=1, progress=progress)

    assert measure() == Summary(done=1)
    harm(cost_path(tmp_path, spec, threads=1))
    assert measure() == Summary(done=1)  # and not "by another runner"
    assert measure() == Summary(reused=1)
