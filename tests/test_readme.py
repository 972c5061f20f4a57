"""The README's example runs as it stands, and its commands are ones that exist."""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from processes import ROOT, bench

from bench import BASELINES, METHODS, TASKS, cli
from bench.arguments import parse_seeds, split_names
from bench.config import parse_spec
from bench.store import read_records

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")


def example() -> str:
    """Return the complete method that the README shows."""
    found = re.findall(r"<!-- example: plugin -->\s*```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(found) == 1, "one block of Python follows the marker"
    return str(found[0])


def example_name() -> str:
    found = re.findall(r'@register_method\("([^"]+)"\)', example())
    assert len(found) == 1
    return str(found[0])


def commands() -> list[list[str]]:
    """Return the words after ``python -m bench`` of every command in a block of code."""
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;|\|", line):
                _, called, rest = part.partition("python -m bench")
                if called and (not rest or rest[0] == " "):
                    found.append(shlex.split(rest, comments=True))
    return found


def parsed(words: list[str]) -> dict[str, Any]:
    """Read ``words`` as the command line does, running nothing; returns the parameters."""
    group: Any = typer.main.get_command(cli.app)
    context = group.make_context("bench", list(words))
    name, command, rest = group.resolve_command(context, words)
    parameters = command.make_context(name, rest, parent=context).params
    return {"command": name, **parameters}


def test_the_readme_has_commands() -> None:
    assert len(commands()) >= 3


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command_of_the_readme_parses(words: list[str]) -> None:
    if "--help" in words or "-h" in words:
        with contextlib.suppress(typer.Exit):
            parsed(words)
        return
    given = parsed(words)
    if given["command"] == "list":
        known = ("methods", "baselines", "tasks", "presets", "options", "settings")
        assert given["what"] in known
    for task in split_names(given.get("tasks") or ""):
        assert task == "all" or given["preset"] in TASKS.get(parse_spec(task)[0]).presets
    known = {*METHODS.names(), *BASELINES.names(), "all"}
    if given.get("plugin"):
        known.add(example_name())
    for spec in split_names(given.get("methods") or ""):
        assert parse_spec(spec)[0] in known
    if "seeds" in given:
        assert parse_seeds(given["seeds"])
    if given.get("suite"):
        from bench.suites import read_suite

        assert read_suite(ROOT / given["suite"]).methods


def test_a_wrong_command_would_not_parse() -> None:
    for words in (["run", "--method", "kd"], ["rum"], ["report", "extra"]):
        with pytest.raises(Exception, match=r"(?i)no such|unexpected extra"):
            parsed(words)


def test_names_in_the_example_are_new() -> None:
    assert example_name() not in METHODS and example_name() not in BASELINES


def test_the_example_runs(tmp_path: Path) -> None:
    name = example_name()
    (tmp_path / f"{name}.py").write_text(example(), encoding="utf-8")
    settings = ["epochs=1", "train_limit=128", "teacher_recipe.epochs=1"]
    said = bench(
        *["run", "--plugin", tmp_path / f"{name}.py"],
        *["--methods", f"scratch,{name}", "--tasks", "cifar10", "--seeds", "1"],
        *[f"--set={setting}" for setting in settings],
        *["--device", "cpu", "--results", tmp_path / "results"],
    )
    assert said.code == 0, said.text
    records, problems = read_records(tmp_path / "results")
    found = {record["cell"]["method"]: record for record in records}
    assert sorted(found) == sorted(["scratch", name]) and not problems
    assert all(record["status"] == "ok" for record in records)
    # it did learn something else than the plain student, from the same start
    assert found[name]["metrics"] != found["scratch"]["metrics"]
    assert found[name]["seeds"] == found["scratch"]["seeds"]


def test_the_readmes_table_stands_in_the_published_leaderboard() -> None:
    # the published one: somebody's own `bench report` may have written another to its place
    shown = subprocess.run(
        ["git", "show", ":reports/leaderboard.md"], cwd=ROOT, capture_output=True, check=False
    )
    if shown.returncode:
        pytest.skip("no git checkout: the published leaderboard cannot be told from another")
    published = set(shown.stdout.decode().splitlines())
    after = TEXT.split("<!-- from reports/leaderboard.md -->")[1].splitlines()
    first = next(at for at, line in enumerate(after) if line.startswith("|"))
    table = list(itertools.takewhile(lambda line: line.startswith("|"), after[first:]))
    assert len(table) > 3
    assert [line for line in table if line not in published] == []
