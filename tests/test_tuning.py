"""Equal tuning: declared spaces, equal trials, validation only, and going on after a stop."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bench import BASELINES, METHODS
from bench.chosen import chosen_path, write_chosen
from bench.config import build
from bench.errors import EXIT_OK, EXIT_USER, BenchError
from bench.plan import make_plan
from bench.runner import Summary
from bench.source_code import stripped
from bench.store import read_records, record_files, write_record
from bench.suites import Suite, read_suite
from bench.tuning import TOGETHER, tunable, tune

if TYPE_CHECKING:
    from conftest import Call

pytest.importorskip("optuna")
CHANGED = "quick+epochs=1+teacher_recipe.epochs=1+train_limit=64"
TINY = "--tasks cifar10 --set epochs=1 --set train_limit=64 --set teacher_recipe.epochs=1"


@pytest.mark.parametrize("name", [*METHODS.names(), "label_smoothing"])
def test_every_method_declares_a_space_that_holds_its_default(name: str) -> None:
    cls = (METHODS if name in METHODS else BASELINES).get(name)
    default = build(cls.Config, {}, name).model_dump(mode="json")
    assert cls.space
    for option, *bounds, kind in cls.space:
        assert option in default
        assert kind in ("linear", "log", "int", "choice")
        if kind == "choice":
            assert default[option] in bounds
        else:
            assert bounds[0] <= default[option] <= bounds[1]
        for value in bounds:  # the ends are allowed
            build(cls.Config, {option: str(value)}, name)


def test_a_space_is_no_part_of_the_code_that_made_a_record() -> None:
    source = Path(inspect.getfile(METHODS.get("kd"))).read_text()
    module = ast.parse(source)
    varied = ast.parse(
        source.replace('("temperature", 1.0, 10.0, "log")', '("w_ce", 0.0, 1.0, "linear")')
    )
    other = ast.parse(source.replace("soft_kl(", "soft_kl_("))
    annotated = ast.parse(source.replace("space = (", "space: tuple[tuple[object, ...], ...] = ("))
    assert ast.dump(module) != ast.dump(annotated)
    assert ast.dump(module) != ast.dump(varied)
    told = [ast.unparse(stripped(tree)) for tree in (module, varied, annotated, other)]
    assert told[0] == told[1] == told[2] != told[3]


class Bench:
    """Scores cells by a rule in place of training them, and counts what was asked for."""

    def __init__(self, results: Path, rule: Any) -> None:
        self.results, self.rule, self.asked = results, rule, []  # type: ignore[var-annotated]

    def run(self, plan: Any) -> Summary:
        there = {record["key"] for record in read_records(self.results)[0]}
        for cell in plan.cells:
            if cell.key in there:
                continue
            self.asked.append(cell.label)
            validation, test = self.rule(cell)
            scores = {"validation": {"accuracy": validation}, "test": {"accuracy": test}}
            record = {
                "schema": 1,
                "key": cell.key,
                "status": "failed" if validation is None else "ok",
                "cell": cell.described(),
                "task": dict(cell.task_info),
                "metrics": {"best": scores, "last": scores},
            }
            write_record(self.results, record)
        return Summary()


def studied(
    results: Path, rule: Any, trials: int = 12, methods: Sequence[str] = ("kd",)
) -> tuple[Any, Bench]:
    """Tune on a rule; returns the studies of the one task and the bench."""
    bench = Bench(results, rule)
    suite = Suite(methods=methods, tasks=("cifar10",), seeds=(1000,))
    ((task, found, interrupted),) = tune(
        suite,
        trials=trials,
        results=results,
        plan=lambda one: make_plan(one, device="cpu"),
        run=bench.run,
    )
    assert task == "cifar10" and not interrupted
    return found, bench


def by_temperature(cell: Any) -> tuple[float, float]:
    """Score best on validation at T = 2, and on test far from there."""
    distance = abs(cell.config["temperature"] - 2.0)
    return 0.9 - distance / 100, 0.5 + distance / 100


def test_it_finds_what_validation_prefers_and_never_looks_at_test(tmp_path: Path) -> None:
    (study,), _ = studied(tmp_path / "a", by_temperature)
    default, best = study.ends
    assert default == pytest.approx(0.88)  # the default, T = 4, comes first
    assert study.told[0] == "kd"
    assert best > default
    chosen = float(study.best[0].split("temperature=")[1].split(":")[0])
    assert abs(chosen - 2.0) < abs(4.0 - 2.0)

    def other_test(cell: Any) -> tuple[float, float]:
        return by_temperature(cell)[0], 0.0

    (again,), _ = studied(tmp_path / "b", other_test)
    assert again.scores == study.scores


def test_every_method_has_as_many_trials(tmp_path: Path) -> None:
    studies, _ = studied(tmp_path, lambda cell: (0.5, 0.5), 6, ("kd", "dkd", "fitnets_joint"))
    assert [len(study.told) for study in studies] == [6, 6, 6]


def test_a_stopped_study_goes_on_and_asks_for_the_same_trials(tmp_path: Path) -> None:
    (whole,), _ = studied(tmp_path / "whole", by_temperature)
    studied(tmp_path / "parts", by_temperature, TOGETHER)
    (parts,), bench = studied(tmp_path / "parts", by_temperature)
    assert parts.told == whole.told
    assert len(bench.asked) == len(whole.scores) - TOGETHER


def test_a_trial_that_fails_costs_itself(tmp_path: Path) -> None:
    def rule(cell: Any) -> tuple[float | None, float]:
        return (None, 0.0) if cell.label == "kd" else by_temperature(cell)

    (study,), _ = studied(tmp_path, rule)
    assert study.ends[0] is None
    assert study.best is not None and study.best[0] != "kd"


def test_options_that_are_given_stay_fixed(tmp_path: Path) -> None:
    (study,), _ = studied(tmp_path, by_temperature, 5, ("kd:temperature=3",))
    assert all(spec.startswith("kd:temperature=3") for spec in study.told)
    assert len(study.scores) > 1


def test_all_means_those_that_have_something_to_tune() -> None:
    suite = tunable(Suite(methods=("all",), tasks=("cifar10",)))
    assert {"kd", "label_smoothing"} <= set(suite.methods)
    assert not {"scratch", "teacher", "tfidf"} & set(suite.methods)


def test_a_baseline_with_options_is_tuned_like_a_method(tmp_path: Path) -> None:
    studies, _ = studied(
        tmp_path, lambda cell: (cell.config.get("epsilon", 0.0), 0.0), 6, ("kd", "label_smoothing")
    )
    assert [len(study.told) for study in studies] == [6, 6]
    assert studies[1].best[1] > 0.1  # the default


def test_a_method_that_does_not_apply_to_the_task_has_no_study(tmp_path: Path) -> None:
    studies, bench = studied(tmp_path, by_temperature, 2, ("kd", "fitnets_retrieval"))
    assert [study.method for study in studies] == ["kd"]
    assert len(bench.asked) == 2


def test_one_method_with_other_options_given_is_another_study(tmp_path: Path) -> None:
    studies, _ = studied(tmp_path, by_temperature, 2, ("kd", "kd:w_kd=0.5"))
    assert [study.title for study in studies] == ["kd", "kd:w_kd=0.5"]
    path = tmp_path / "chosen.yaml"
    write_chosen(path, Suite(tasks=("cifar10",), seeds=(1000,)), studies, "cifar10")
    assert "\n| kd:w_kd=0.5 " in path.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("mirror", "asked", "written"),
    [
        ({"preset": "small"}, {}, "mirror"),
        ({"preset": "small"}, {"source": "hub"}, "hub"),
        ({"preset": "quick"}, {}, None),  # on embedded data, which the preset takes by itself
        (None, {"preset": "small"}, None),
    ],
)
def test_a_mirror_that_was_tuned_on_stands_in_the_suite(
    mirror: dict[str, str] | None,
    asked: dict[str, str],
    written: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BENCH_DATA", raising=False)
    studies, _ = studied(tmp_path, by_temperature, 1)
    if mirror is not None:
        monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    given = {"tasks": ("cifar10:n=100",), "seeds": (1000,), **(mirror or {}), **asked}
    path = tmp_path / "chosen.yaml"
    write_chosen(path, build(Suite, given, "the test"), studies, "cifar10:n=100")
    assert read_suite(path).source == written


def test_a_task_that_ended_is_written_down_although_the_next_fails(
    call: Call, tmp_path: Path
) -> None:
    words = TINY.replace("cifar10", "cifar10,msmarco", 1).replace("epochs=1", "epochs=2", 1)
    said = call(*f"tune --methods fitnets --trials 1 {words}".split())
    assert said.code == EXIT_USER and "nothing to run" in said.err
    written = [path.name for path in (tmp_path / "tuning").glob("*/*.yaml")]
    assert written == ["cifar10.yaml"]


def test_where_no_trial_finished_there_is_a_table_and_no_suite(tmp_path: Path) -> None:
    studies, _ = studied(tmp_path, lambda cell: (None, 0.0), 2)
    path = tmp_path / "chosen.yaml"
    write_chosen(path, Suite(tasks=("cifar10",), seeds=(1000,)), studies, "cifar10")
    assert not path.exists()
    assert "| kd " in path.with_suffix(".md").read_text()


def test_a_method_with_nothing_to_tune_is_refused(tmp_path: Path) -> None:
    (name, low, high, _) = METHODS.get("fitnets_joint").space[0]
    with pytest.raises(BenchError, match="declares nothing to tune"):
        studied(tmp_path, by_temperature, 2, (f"fitnets_joint:{name}=5",))
    assert low < high


def test_the_command_tunes_and_writes_a_suite_that_runs(call: Call, tmp_path: Path) -> None:
    command = f"tune --methods kd,embedding --trials 2 --workers 2 {TINY}".split()
    said = call(*command)
    assert said.code == EXIT_OK, said.err
    records = [json.loads(path.read_text()) for path in record_files(tmp_path / "tuning")]
    assert {record["cell"]["seed"] for record in records} == {1000}
    assert len(records) == 4
    chosen = tmp_path / "tuning" / CHANGED / "cifar10.yaml"
    suite = read_suite(chosen)
    assert all(spec in said.out for spec in suite.methods)
    assert {spec.split(":")[0] for spec in suite.methods} == {"kd", "embedding"}
    assert 1000 not in suite.seeds
    assert suite.overrides == {"epochs": "1", "train_limit": "64", "teacher_recipe.epochs": "1"}
    again = call(*command)
    assert "0 cells run" not in again.out and again.code == EXIT_OK
    assert len(list(record_files(tmp_path / "tuning"))) == 4
    assert yaml.safe_load(chosen.read_text())["tasks"]
    told = chosen.with_suffix(".md").read_text()
    assert "seeds 1000, accuracy on validation" in told and "epochs=1" in told
    row = next(line for line in told.splitlines() if line.startswith("| kd "))
    scores = {
        f"{100 * record['metrics']['best']['validation']['accuracy']:.2f}"
        for record in records
        if record["cell"]["method"] == "kd"
    }
    assert {cell.strip() for cell in row.split("|")[5:7]} <= scores


def test_long_settings_and_sources_do_not_share_a_file(tmp_path: Path) -> None:
    long = {f"recipe.setting_{at}": "0.123456789" for at in range(8)}
    suites = [
        Suite(tasks=("cifar10",), overrides={**long, "z": "1"}),
        Suite(tasks=("cifar10",), overrides={**long, "z": "2"}),
        Suite(tasks=("cifar10",), overrides={**long, "z": "2"}, source="mirror"),
        Suite(tasks=("cifar10",), source="mirror"),
        Suite(tasks=("cifar10",)),
    ]
    assert len({chosen_path(tmp_path, suite, "cifar10") for suite in suites}) == len(suites)


def test_what_was_tuned_on_a_mirror_and_on_the_hub_are_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Suite(tasks=("cifar10",), preset="small")
    monkeypatch.delenv("BENCH_DATA", raising=False)
    hub = chosen_path(tmp_path, small, "cifar10")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert chosen_path(tmp_path, small, "cifar10") != hub


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--methods kdd", "unknown method 'kdd'"),
        ("--methods scratch", "'scratch' declares nothing to tune"),
        ("--methods kd --tasks cifra10", "unknown task 'cifra10'"),
        ("--methods kd:heat=3", "has no option 'heat'"),
        ("--methods kd --seeds x", "cannot read seeds 'x'"),
        ("--methods kd --seeds 2", "seed 0 is reserved for running the chosen options"),
    ],
)
def test_wrong_words_are_refused_in_one_line(call: Call, words: str, message: str) -> None:
    said = call("tune", "--trials", "2", *words.split())
    assert said.code == EXIT_USER
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_method_of_a_plug_in_can_be_tuned(
    call: Call, tmp_path: Path, no_new_methods: None
) -> None:
    """It is known before its space is looked up; this one declares none."""
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from bench import Method, register_method\n"
        "@register_method('mine')\nclass Mine(Method):\n    signals = frozenset()\n"
    )
    said = call(*f"tune --methods mine --tasks cifar10 --trials 2 --plugin {plugin}".split())
    assert said.code == 2 and "method 'mine' declares nothing to tune" in said.err
