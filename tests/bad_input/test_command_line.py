"""Values on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

GROUP = "Command line"
CASES = [
    ("run --methods kdd", ["unknown method 'kdd'", "did you mean 'kd'?"]),
    ("run --methods ,", ["methods", "at least 1"]),
    ("run --methods kd:temp", ["cannot read 'temp'"]),
    ("run --methods kd:temprature=2", ["no option 'temprature'", "did you mean 'temperature'?"]),
    ("run --methods kd:temperature=warm", ["temperature = 'warm'", "number"]),
    ("run --methods kd:temperature=-1", ["temperature = '-1'", "greater than 0"]),
    ("run --methods kd:temperature=nan", ["temperature = 'nan'", "finite"]),
    ("run --methods kd:loss=huber", ["loss = 'huber'", "'kl'"]),
    ("run --methods kd:temperature=1:temperature=2", ["'temperature' is given twice"]),
    ("run --tasks amazn", ["unknown task 'amazn'", "did you mean 'amazon'?"]),
    ("run --preset quik", ["'quik'", "did you mean 'quick'?"]),
    ("run --seeds three", ["cannot read seeds 'three'", "0,5,7"]),
    ("run --seeds 0", ["cannot read seeds '0'"]),
    ("run --seeds -1", ["cannot read seeds '-1'"]),
    ("run --seeds 1,1", ["seeds must be different whole numbers"]),
    ("run --seeds 99999999999999999999", ["99999999999999999999 seeds are too many"]),
    ("run --teacher-seed -1", ["teacher_seed"]),
    ("run --set epochs", ["cannot read setting 'epochs'", "FIELD=VALUE"]),
    ("run --set epoks=2", ["'epoks'", "did you mean 'epochs'?"]),
    ("run --set epochs=two", ["recipe.epochs = 'two'"]),
    ("run --set epochs=0", ["recipe.epochs = '0'", "greater than"]),
    ("run --set batch_size=-4", ["recipe.batch_size = '-4'"]),
    ("run --set recipe.learning_rate=inf", ["recipe.learning_rate = 'inf'", "finite"]),
    ("run --set train_limit=0", ["train_limit = '0'"]),
    ("run --set epochs=1 --set epochs=2", ["setting 'epochs' is given twice: 1 and 2"]),
    ("run --device tpu", ["no device 'tpu'", "auto, cpu, cuda or cuda:N"]),
    ("run --device cuda:99", ["cuda:99"]),
    ("run --source web", ["source = 'web'", "embedded"]),
    ("run --source mirror", ["BENCH_DATA"]),
    ("run --workers 0", ["Error: Invalid value for '--workers'"]),
    ("run --threads two", ["Error: Invalid value for '--threads'"]),
    ("run --cache-gb -1", ["Error: Invalid value for '--cache-gb'"]),
    ("run --cache-gb inf", ["cannot keep inf gigabytes"]),
    ("run --cell-timeout 0", ["cannot limit a cell to 0 seconds", "more than 0"]),
    ("run --cell-timeout nan", ["cannot limit a cell to nan seconds"]),
    ("run --cell-timeout soon", ["Error: Invalid value for '--cell-timeout'"]),
    ("run --retry ooms", ["unknown status to retry 'ooms'", "did you mean 'oom'?"]),
    ("run --results taken", ["'taken' cannot be made", "use --results"]),
    ("run --results " + "a" * 300, ["cannot be made", "File name too long"]),
    ("run --method kd", ["--method", "--methods"]),
    ("rum", ["rum", "run"]),
    ("list metods", ["unknown list 'metods'", "did you mean 'methods'?"]),
    ("report --results nothing", ["no records under nothing", "a folder that 'bench run' wrote"]),
    ("report --out results", ["--out 'results' is a folder"]),
    ("publish . --results results", ["lie within each other", "choose another folder"]),
    ("report --reports taken", ["'taken' cannot be written", "use --reports"]),
    ("doctor --device tpu", ["no device 'tpu'"]),
]


def shown(arguments: str) -> str:
    return arguments if len(arguments) < 80 else arguments[:40] + "…"


@pytest.mark.parametrize(("arguments", "says"), CASES, ids=[shown(case[0]) for case in CASES])
def test_value_is_refused_in_one_line(desk: Any, arguments: str, says: list[str]) -> None:
    (desk.base / "taken").write_text("mine")
    given = arguments.split(" ")
    if given[0] == "run":
        given += [] if "--tasks" in given else ["--tasks", "cifar10"]
        given += [] if {"--device"} & set(given) else ["--device", "cpu"]
        given += [] if {"--methods", "--method"} & set(given) else ["--methods", "scratch"]
    desk.refuses(shown(arguments), *given, says=says)
    assert (desk.base / "taken").read_text() == "mine"
    assert {path.name for path in desk.base.iterdir()} == {"results", "taken"}


@pytest.mark.parametrize(
    ("what", "content"), [("gone.py", None), ("with a syntax error", "def broken(:\n")]
)
def test_plugin_that_cannot_be_imported_is_named(desk: Any, what: str, content: str | None) -> None:
    if content:
        Path("gone.py").write_text(content)
    said = desk("list", "methods", "--plugin", "gone.py")
    assert said.code == 0  # the rest is there
    desk.tells(f"list methods --plugin {what}", said, ["gone.py", "cannot be imported"])


def test_checkpoint_interval_is_checked(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "soon")
    says = ("BENCH_CHECKPOINT_SECONDS is 'soon'", "0 or more")
    desk.refuses("BENCH_CHECKPOINT_SECONDS=soon run", "run", *desk.tiny, says=says)


def test_student_that_nobody_can_build_fails_its_cell(desk: Any) -> None:
    given = ["run", "--methods", "scratch", *desk.tiny, "--set", "student=resnt8"]
    says = ("failed: scratch · cifar10", "unknown image model 'resnt8'")
    desk.refuses("run --set student=resnt8", *given, says=says, code=1)
