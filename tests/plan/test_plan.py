"""Plans: what becomes a cell, what is left out, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planned import cell, plan, write_cifar10

from bench import BASELINES, METHODS
from bench.errors import BenchError
from bench.runner import cost_specs, first_alike


def test_every_method_task_and_seed_is_a_cell() -> None:
    found = plan(methods=["scratch", "kd"], tasks=["cifar10", "cifar100"], seeds=[0, 7]).cells
    assert sorted((each.task, each.method, each.seed) for each in found) == [
        (task, method, seed)
        for task in ("cifar10", "cifar100")
        for method in ("kd", "scratch")
        for seed in (0, 7)
    ]
    assert len({each.key for each in found}) == 8


def test_mirror_takes_the_place_of_the_hub_and_never_of_embedded_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(write_cifar10(tmp_path)))
    small = cell(preset="small")
    assert small.source == small.origin["source"] == "mirror"
    assert small.teacher is not None and small.teacher.source == "mirror"
    quick = cell(preset="quick")
    assert quick.source == quick.origin["source"] == "embedded"
    assert quick.origin["name"] == "embedded digits"
    assert cell(preset="quick", source="mirror").source == "mirror"


def test_all_leaves_out_what_cannot_be_read_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(write_cifar10(tmp_path)))
    found = plan(tasks=["all"], preset="small")
    assert {each.task for each in found.cells} == {"cifar10", "cifar10-binary"}
    for task in ("cifar100", "amazon", "amazon-5", "sentiment140"):
        (note,) = [note for note in found.notes if f"'{task}'" in note]
        assert "left out" in note and "no folder" in note
    with pytest.raises(BenchError, match=r"task 'cifar100' cannot be read: .*no folder"):
        plan(tasks=["cifar10", "cifar100"], preset="small")


def test_a_preset_that_no_task_has_is_named() -> None:
    with pytest.raises(BenchError, match=r"unknown preset 'qick' \(did you mean 'quick'\?\)"):
        plan(tasks=["all"], preset="qick")


def test_nothing_that_can_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    with pytest.raises(BenchError, match=r"nothing to run \(task 'amazon' is left out"):
        plan(tasks=["all"], preset="small")


def test_all_methods_are_all_methods_and_baselines() -> None:
    found = plan(methods=["all"], tasks=["amazon"])
    assert {"scratch", "label_smoothing", "teacher", "tfidf", "kd", "fitnets"} <= {
        each.method for each in found.cells
    }
    assert not found.notes


def test_text_baseline_is_left_out_of_image_tasks_with_a_note() -> None:
    found = plan(methods=["scratch", "tfidf"], tasks=["cifar10", "amazon"])
    assert {(each.method, each.task) for each in found.cells} == {
        ("scratch", "cifar10"),
        ("scratch", "amazon"),
        ("tfidf", "amazon"),
    }
    assert found.notes == ["'tfidf' is not for image tasks: not run on cifar10"]


def test_baselines_without_a_seed_are_planned_once() -> None:
    found = plan(methods=["teacher", "tfidf", "scratch"], tasks=["amazon"], seeds=[3, 4, 5])
    assert [(each.method, each.seed) for each in found.cells] == [
        ("teacher", 0),  # the same cell for whatever seeds: one run
        ("tfidf", 0),
        ("scratch", 3),
        ("scratch", 4),
        ("scratch", 5),
    ]


def test_teachers_are_planned_once_for_all_seeds_and_methods() -> None:
    found = plan(methods=["scratch", "kd", "fitnets"], seeds=[0, 1, 2])
    assert len({cell.teacher.key for cell in found.cells if cell.teacher}) == 1
    assert all((each.teacher is None) == (each.method == "scratch") for each in found.cells)


def test_a_name_that_is_both_is_refused_among_all_too(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = next(each for each in BASELINES.entries() if each.name == "scratch")
    monkeypatch.setitem(BASELINES._entries, "kd", replace(entry, name="kd"))
    with pytest.raises(BenchError, match="'kd' is both a method and a baseline"):
        plan(methods=["all"])


def test_a_method_that_cannot_be_made_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, config: object) -> None:
        raise AttributeError("cannot assign module before Module.__init__() call")

    monkeypatch.setattr(METHODS.get("kd"), "__init__", broken)
    with pytest.raises(BenchError, match="method 'kd': AttributeError: cannot assign module"):
        plan(methods=["kd"])


@pytest.mark.parametrize("methods", [["kd", "kd"], ["kd", "kd:temperature=4"], ["kd", "all"]])
def test_duplicates_are_refused(methods: list[str]) -> None:
    with pytest.raises(BenchError, match=r"'kd.* · cifar10 · seed 0' is asked for twice"):
        plan(methods=methods)


def test_a_task_named_twice_is_planned_once() -> None:
    assert len(plan(tasks=["cifar10", "cifar10"]).cells) == 1


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        ({"methods": ["kdd"]}, r"unknown method 'kdd' \(did you mean 'kd'\?\)"),
        ({"methods": ["scrach"]}, r"unknown method 'scrach' \(did you mean 'scratch'\?\)"),
        ({"tasks": ["cifar1"]}, r"unknown task 'cifar1' \(did you mean 'cifar10'\?\)"),
        (
            {"preset": "quik"},
            r"unknown preset \(task 'cifar10'\) 'quik' \(did you mean 'quick'\?\)",
        ),
        (
            {"methods": ["kd:temprature=2"]},
            r"method 'kd' has no option 'temprature' \(did you mean 'temperature'\?\)",
        ),
        ({"methods": ["kd:temperature=-2"]}, "method 'kd': temperature = '-2'"),
        (
            {"overrides": {"epoch": 2}},
            r"unknown setting \(task 'cifar10'\) 'epoch' \(did you mean 'epochs'\?\)",
        ),
        ({"overrides": {"recipe.epoch": 2}}, r"did you mean 'recipe\.epochs'"),
        ({"overrides": {"epochs": 0}}, r"task 'cifar10': recipe\.epochs = 0"),
        ({"overrides": {"train_limit": "many"}}, "task 'cifar10': train_limit = 'many'"),
        ({"source": "mirror"}, "BENCH_DATA is not set"),
        (
            {"overrides": {"source": "embedded"}},
            r"task 'cifar10': 'source' is no setting \(use --source\)",
        ),
        ({"tasks": ["cifar10:source=embedded"]}, r"'source' is no setting \(use --source\)"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_named(suite: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        plan(**suite)


def test_everything_is_measured_once_for_tasks_alike_and_by_profile_for_each() -> None:
    found = plan(
        methods=["scratch", "kd"], tasks=["cifar10", "cifar10-binary", "cifar100", "amazon"]
    )
    both = cost_specs(found)
    assert len(both) == 4 * 3  # scratch; kd cached and live
    once = cost_specs(first_alike(found), live=False)
    assert [(s.cell.task, s.cell.method, s.mode) for s in once] == [
        ("cifar10", "scratch", "none"),
        ("cifar10", "kd", "cached"),
        ("amazon", "scratch", "none"),
        ("amazon", "kd", "cached"),
    ]
    other = plan(methods=["scratch"], tasks=["cifar10", "cifar10-binary:student=resnet20"])
    assert len(cost_specs(first_alike(other))) == 2
