"""The command line: what it prints, how it exits."""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from bench.cli import GRID_OPTIONS
from bench.commands import say_if_emulated
from bench.drive import Summary
from bench.environment import bfloat16_support
from bench.errors import EXIT_OK, EXIT_USER
from bench.plan import make_plan
from bench.runner import Policy
from bench.running import Running
from bench.suites import Suite

if TYPE_CHECKING:
    from conftest import Call, Said


def refused(said: Said, *parts: str) -> None:
    """Check that a command was refused in one line that holds ``parts``."""
    assert said.code == EXIT_USER
    assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
    assert "Traceback" not in said.out + said.err
    for part in parts:
        assert part in said.err


def test_help_shows_examples_that_keep_their_lines(process: Call) -> None:
    said = process("--help")
    assert said.code == EXIT_OK and not said.err
    for example in ("python -m bench all ", "--methods scratch,kd --tasks amazon --seeds 3\n"):
        assert example in said.out
    for command in ("all", "run", "list", "report", "doctor", "data"):
        assert f"\n  {command} " in said.out


def test_error_of_a_process_is_one_line_and_no_traceback(process: Call, tmp_path: Path) -> None:
    said = process("run", "--methods", "kdd", "--tasks", "cifar10")
    refused(said, "unknown method 'kdd' (did you mean 'kd'?)")
    assert not list(tmp_path.iterdir())


def test_no_arguments_print_the_help(call: Call) -> None:
    said = call()
    assert said.code == EXIT_USER
    assert "python -m bench list methods" in said.out + said.err


def test_help_of_a_command_shows_examples(call: Call) -> None:
    said = call("run", "--help")
    assert said.code == EXIT_OK
    assert "python -m bench run --methods kd:temperature=2 --tasks cifar10" in said.out
    for option in ("--methods", "--seeds", "--set", "--plugin", "--device", "--results"):
        assert option in said.out


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("methods", ["kd", "fitnets", "fitnets_joint", "methods/kd.py:"]),
        ("baselines", ["scratch", "label_smoothing", "teacher", "tfidf"]),
        ("tasks", ["amazon", "amazon-5", "cifar10-binary", "cifar100", "sentiment140"]),
        (
            "options",
            ["kd", "temperature", "4", "number > 0", "kl or margin_mse", "label_smoothing"],
        ),
        ("settings", ["recipe.learning_rate", "train_limit", "whole number > 0", "timm:NAME"]),
        ("presets", ["quick", "small", "standard", "paper", "embedded", "hub", "resnet8w8s2"]),
    ],
)
def test_list(call: Call, what: str, names: list[str]) -> None:
    said = call("list", what)
    assert said.code == EXIT_OK and not said.err
    for name in names:
        assert name in said.out


@pytest.mark.parametrize(
    ("what", "of", "there", "gone"),
    [
        ("options", "tgt,label_smoothing", ["tgt", "label_smoothing", "epsilon"], ["gpd", "rkd"]),
        ("options", "scratch", ["'scratch' has no options"], ["epsilon"]),
        ("presets", "amazon", ["amazon", "quick", "small"], ["cifar10", "msmarco"]),
    ],
)
def test_list_of_what_is_named(
    call: Call, what: str, of: str, there: list[str], gone: list[str]
) -> None:
    said = call("list", what, of)
    assert said.code == EXIT_OK
    assert all(name in said.out + said.err for name in there)
    assert not any(name in said.out for name in gone)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["list", "method"], ["unknown list 'method'", "did you mean 'methods'?"]),
        (["list", "options", "tgd"], ["unknown method 'tgd'", "did you mean"]),
        (["list", "presets", "cifar"], ["unknown task 'cifar'", "did you mean 'cifar10'?"]),
        (["list", "methods", "kd"], ["list methods takes no other argument, got 'kd'"]),
        (["run", "--methods", ","], ["methods", "at least 1"]),
        (["run", "--methods", "kd:temp", "--tasks", "cifar10"], ["cannot read 'temp'"]),
        (["run", "--seeds", ""], ["cannot read seeds ''"]),
        (["run", "--set", "=2", "--tasks", "cifar10"], ["cannot read setting '=2'"]),
        (["run", "--device", "meta"], ["'meta' is not supported"]),
        (["run", "gone.yaml"], ["gone.yaml", "No such file"]),
        (["data", "--tasks", "cifar10", "--source", "web"], ["source = 'web'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_said_in_one_line(
    call: Call, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    refused(call(*arguments), *parts)
    assert not (tmp_path / "results").exists()


def test_unknown_option_and_command_name_the_nearest(call: Call) -> None:
    for arguments, wrong, near in (
        (["run", "--method", "kd"], "--method", "--methods"),
        (["rum"], "rum", "run"),
        (["run", "--workers", "0"], "--workers", "1"),
        (["run", "--threads", "two"], "--threads", "integer"),
    ):
        said = call(*arguments)
        assert said.code == EXIT_USER
        assert wrong in said.err and near in said.err
        assert "Traceback" not in said.out + said.err


def test_results_path_that_is_a_file_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    said = call("run", "--methods", "scratch", "--tasks", "cifar10", "--results", "taken")
    refused(said, "'taken' cannot be made", "use --results")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_results_folder_that_cannot_be_written_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    said = call("run", "--methods", "scratch", "--tasks", "cifar10", "--results", "locked/in")
    refused(said, "locked", "use --results")


def test_a_plugin_that_is_not_there_is_named(call: Call) -> None:
    said = call("list", "methods", "--plugin", "gone.py")
    assert said.code == EXIT_OK
    assert "warning: plug-in 'gone.py' cannot be imported" in said.out + said.err
    assert "fitnets" in said.out


def test_a_plugin_that_takes_a_name_is_refused_in_one_line(process: Call, tmp_path: Path) -> None:
    (tmp_path / "again.py").write_text(
        "from bench import Method, register_method\n\n\n"
        '@register_method("kd")\nclass Again(Method):\n    """Again."""\n'
    )
    said = process("list", "methods", "--plugin", str(tmp_path / "again.py"))
    (line,) = [line for line in (said.out + said.err).splitlines() if "registered twice" in line]
    assert "methods/kd.py" in line and "again.py:4" in line
    assert "Traceback" not in said.out + said.err


def test_report_without_records_says_what_to_do(call: Call, tmp_path: Path) -> None:
    refused(call("report"), "no records under results", "python -m bench all")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "broken.json").write_text("{")
    refused(call("report"), "no records under results", "broken.json")
    assert not (tmp_path / "reports").exists()


def test_doctor_says_what_this_machine_has(call: Call, tmp_path: Path) -> None:
    said = call("doctor", "--device", "cpu")
    assert said.code == EXIT_OK
    for part in ("cpu (", "bfloat16", "torch ", "GiB free", "BENCH_DATA"):
        assert part in said.out
    assert str(os.environ["BENCH_CACHE"]) in said.out.replace("\n", "")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("told", "support"),
    [
        ("flags\t\t: fpu avx512f avx512_vnni", "emulated"),
        ("flags\t\t: fpu avx512f avx512_bf16", "in hardware"),
        ("flags\t\t: fpu amx_bf16 amx_tile", "in hardware"),
        ("Features\t: fp asimd i8mm bf16", "in hardware"),
        (None, "unknown"),
    ],
)
def test_a_processors_flags_tell_how_it_does_bfloat16(
    told: str | None, support: str, tmp_path: Path
) -> None:
    info = tmp_path / "cpuinfo"
    if told is not None:
        info.write_text(f"processor\t: 0\n{told}\n")
    assert bfloat16_support("cpu", info) == support


@pytest.mark.parametrize(
    ("support", "methods", "changes", "told"),
    [
        ("emulated", ("scratch",), [], ["recipe"]),
        ("emulated", ("scratch",), ["recipe"], []),
        ("emulated", ("kd",), [], ["recipe", "teacher_recipe"]),
        ("emulated", ("kd",), ["recipe"], ["teacher_recipe"]),
        ("emulated", ("teacher",), [], ["teacher_recipe"]),
        ("emulated", ("tgt",), ["recipe", "teacher_recipe"], ["generator_recipe"]),
        ("in hardware", ("kd", "tgt"), [], []),
        ("unknown", ("kd", "tgt"), [], []),
    ],
)
def test_training_in_an_emulated_precision_is_told(
    support: str,
    methods: tuple[str, ...],
    changes: list[str],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.environment.bfloat16_support", lambda device: support)
    overrides = {f"{name}.precision": "float32" for name in changes}
    suite = Suite(methods=methods, tasks=("cifar10",), seeds=(0,), overrides=overrides)
    console = Console(record=True, width=80, quiet=False, file=io.StringIO())
    say_if_emulated(make_plan(suite, device="cpu"), console)
    said = console.export_text()
    assert re.findall(r"--set (\w+)\.precision=float32", said) == told
    assert said.count("\n") == bool(told)


def test_data_says_what_each_task_would_load(call: Call) -> None:
    said = call("data")
    assert said.code == EXIT_OK, said.out
    for part in ("cifar10", "amazon", "embedded digits", "embedded", "fingerprint"):
        assert part in said.out
    one = call("data", "--tasks", "cifar10", "--prefetch")
    assert one.code == EXIT_OK and "1083/269/445" in one.out


def test_data_knows_the_tasks_of_a_plugin(process: Call, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from bench import register_task\nfrom bench.tasks.cifar import Cifar10\n\n\n"
        '@register_task("mine")\nclass Mine(Cifar10):\n    """CIFAR-10 of my own."""\n'
    )
    said = process("data", "--tasks", "mine", "--plugin", str(tmp_path / "mine.py"))
    assert said.code == EXIT_OK and "embedded digits" in said.out


def test_a_second_setting_without_its_flag_is_told(call: Call) -> None:
    said = call("run", "--methods", "scratch", "--set", "epochs=1", "batch_size=32")
    refused(said, "'batch_size=32' is no suite file", "--set batch_size=32")


def test_data_that_cannot_be_read_is_named(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    said = call("data", "--preset", "small", "--tasks", "cifar10")
    assert said.code == EXIT_USER
    assert "cannot be read: cifar10" in said.out and "no folder uoft-cs/cifar10" in said.out


# --- what is asked for arrives: nothing is run ---

Asked = list[tuple[Suite, Running, dict[str, object]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Note what ``execute`` and ``measure`` are given, in place of running it."""
    found: Asked = []
    for name in ("execute", "measure"):
        monkeypatch.setattr(
            f"bench.commands.{name}",
            lambda suite, running, console, **more: found.append((suite, running, more)) or 0,
        )
    return found


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--live", "live", True),
        ("--check-cache", "check_cache", True),
        ("--retry oom,timeout", "retry", "oom,timeout"),
        ("--cell-timeout 5", "cell_timeout", 5.0),
        ("--cache-gb 2", "cache_gb", 2.0),
        ("--threads 3", "threads", 3),
        ("--workers 2", "workers", 2),
        ("--results there", "results", Path("there")),
        ("--plugin math --plugin gone.py --plugin json", "plugins", ("math", "json")),
        ("--executor ray", "executor", "ray"),
        ("--devices cuda:0", "devices", "cuda:0"),
        ("--address auto", "address", "auto"),
        ("--request *:cpus=1", "requests", ("*:cpus=1",)),
    ],
)
def test_an_option_of_run_is_itself_and_no_other(
    call: Call, asked: Asked, words: str, field: str, value: object
) -> None:
    assert (
        call("run", "--device", "cpu").code == call("run", "--device", "cpu", *words.split()).code
    )
    plain, given = (running for _, running, _ in asked)
    assert replace(plain, **{field: value}) == given != plain  # type: ignore[arg-type]


def test_all_runs_a_preset_then_measures_each_cost_once_then_reports(
    call: Call, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[tuple[Path, Path]] = []
    monkeypatch.setattr(
        "bench.commands.write_report",
        lambda results, reports, _: reported.append((results, reports)) or 0,
    )
    words = ["all", "--preset", "small", "--seeds", "2", "--results", "r", "--reports", "p"]
    assert call(*words).code == call(*words, "--no-cost").code == EXIT_OK
    (suite, running, _), (costed, _, how), _ = asked
    assert (suite.methods, suite.tasks, suite.preset, suite.seeds) == (
        ("all",),
        ("all",),
        "small",
        (0, 1),
    )
    assert costed == suite and how == {"once": True} and running.results == Path("r")
    assert reported == [(Path("r"), Path("p"))] * 2


def test_a_plugin_that_fails_is_named_once_however_much_is_asked_for(
    call: Call, asked: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "fine.py").write_text("")
    monkeypatch.setattr("bench.commands.write_report", lambda *_: 0)
    said = call("all", "--plugin", "gone.py", "--plugin", "fine.py")
    assert (said.out + said.err).count("cannot be imported") == 1
    assert [running.plugins for _, running, _ in asked] == [(str(tmp_path / "fine.py"),)] * 2


def test_profile_measures_every_task_in_one_process(call: Call, asked: Asked) -> None:
    assert (
        call("profile", "--methods", "kd", "--tasks", "cifar10", "--threads", "2").code == EXIT_OK
    )
    ((suite, running, how),) = asked
    assert (suite.methods, suite.seeds, how) == (("kd",), (0,), {})
    assert (running.workers, running.threads) == (1, 2)


def test_the_policy_of_a_run_is_what_was_asked_for() -> None:
    running = Running(
        device="cpu",
        workers=1,
        threads=1,
        results=Path("r"),
        retry="oom,failed",
        cell_timeout=5.0,
    )
    assert running.policy() == Policy(frozenset({"oom", "failed"}), 5.0)


def test_cells_that_are_kept_are_told_with_the_way_to_run_them(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Summary(kept=Counter(oom=2))
    monkeypatch.setattr("bench.runner.run_plan", lambda *_, **__: kept)
    said = call("run", "--methods", "scratch", "--tasks", "cifar10", "--device", "cpu")
    assert said.code == 1
    assert "2 ended as 'oom' before and were not run again (--retry oom runs them)." in said.out


GIVEN = {
    **{"methods": "kd", "tasks": "cifar10", "preset": "quick", "seeds": "1"},
    **{"teacher_seed": "1", "source": "hub", "set_": "epochs=1"},
}


@pytest.mark.parametrize("name", GRID_OPTIONS)
def test_what_a_suite_file_says_is_said_nowhere_else(call: Call, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.yaml").write_text("tasks: [no-such-task]\n")
    flag = "--" + name.strip("_").replace("_", "-")
    refused(call("run", "mine.yaml", flag, GIVEN[name]), f"{flag} cannot be given with a suite")


def test_names_that_no_file_can_have_are_refused(call: Call) -> None:
    long = "x" * 300
    for command in (["report", "--results", long], ["compare", long, long]):
        refused(call(*command), "File name too long")
    refused(call("run", "--cache-gb", "1e300"), "cannot keep 1e+300 gigabytes")
