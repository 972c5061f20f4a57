"""Suite files: YAML and TOML, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT

from bench import BASELINES, METHODS
from bench.config import build, parse_spec
from bench.errors import BenchError
from bench.plan import _contenders, open_tasks
from bench.registry import Registry
from bench.store import read_record
from bench.suites import Suite, read_suite

SHIPPED = sorted((ROOT / "suites").rglob("*.yaml"))
PUBLISHED = [path for path in SHIPPED if path.parent.name == "published"]
YAML = """
methods: [scratch, kd, "kd:temperature=2"]
tasks: [amazon, cifar10]
preset: quick
seeds: [0, 5]
teacher_seed: 3
source: embedded
overrides: {recipe.epochs: 2, train_limit: 64}
"""
TOML = """
methods = ["scratch", "kd", "kd:temperature=2"]
tasks = ["amazon", "cifar10"]
preset = "quick"
seeds = [0, 5]
teacher_seed = 3
source = "embedded"
[overrides]
"recipe.epochs" = 2
train_limit = 64
"""


def read(tmp_path: Path, text: str, name: str = "mine.yaml") -> Suite:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_suite(path)


@pytest.mark.parametrize(("name", "text"), [("a.yaml", YAML), ("a.yml", YAML), ("a.toml", TOML)])
def test_yaml_and_toml_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    assert read(tmp_path, text, name) == Suite(
        methods=("scratch", "kd", "kd:temperature=2"),
        tasks=("amazon", "cifar10"),
        preset="quick",
        seeds=(0, 5),
        teacher_seed=3,
        source="embedded",
        overrides={"recipe.epochs": 2, "train_limit": 64},
    )


def test_what_is_left_out_has_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "methods: [kd]") == Suite(methods=("kd",))
    assert Suite().seeds == (0, 1, 2)


def test_unknown_key_gives_the_nearest_match(tmp_path: Path) -> None:
    with pytest.raises(BenchError) as caught:
        read(tmp_path, "method: [kd]")
    assert str(caught.value) == "suite 'mine.yaml' has no option 'method' (did you mean 'methods'?)"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("methods: kd", "methods"),
        ("methods: [1]", "methods.0"),
        ("tasks: {amazon: 1}", "tasks"),
        ("seeds: 3", "seeds"),
        ("seeds: [zero]", "seeds.0"),
        ("seeds: [0.5]", "seeds.0"),
        ("preset: [quick]", "preset"),
        ("teacher_seed: -1", "teacher_seed"),
        ("source: web", "source"),
        ("overrides: [epochs]", "overrides"),
    ],
)
def test_wrong_type_names_the_field(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(BenchError, match=f"suite 'mine.yaml': {field} = "):
        read(tmp_path, text)


@pytest.mark.parametrize("seeds", ["[1, 1]", "[0, -1]"])
def test_seeds_are_distinct_and_not_negative(tmp_path: Path, seeds: str) -> None:
    with pytest.raises(BenchError, match="seeds must be different whole numbers from 0"):
        read(tmp_path, f"seeds: {seeds}")


@pytest.mark.parametrize("field", ["methods", "tasks", "seeds"])
def test_empty_lists_are_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(BenchError, match=f"{field} = .*at least 1"):
        read(tmp_path, f"{field}: []")


@pytest.mark.parametrize("text", ["", "- kd\n- scratch\n", "kd"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BenchError, match=r"mine\.yaml' is not a mapping"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "text"), [("broken.yaml", "methods: [kd"), ("broken.toml", "methods = [")]
)
def test_what_does_not_parse_is_named_in_one_line(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(BenchError, match="cannot be read") as caught:
        read(tmp_path, text, name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BenchError, match=r"mine\.toml' cannot be read"):
        read_suite(path)


def test_missing_file_directory_and_other_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"gone\.yaml' cannot be read: No such file"):
        read_suite(tmp_path / "gone.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(BenchError, match=r"folder\.yaml' cannot be read: Is a directory"):
        read_suite(tmp_path / "folder.yaml")
    with pytest.raises(BenchError, match=r"neither YAML nor TOML \(\.yaml, \.yml, \.toml\)"):
        read(tmp_path, "{}", "mine.json")


def test_a_suite_runs_no_code(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    for tag in ("object/apply:os.mkdir", "object/new:os.mkdir"):
        with pytest.raises(BenchError, match="cannot be read"):
            read(tmp_path, f"preset: !!python/{tag} [{touched}]")
    with pytest.raises(BenchError, match="cannot be read"):
        read(tmp_path, "preset: !!python/name:os.system ''")
    assert not touched.exists()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_suites_name_what_there_is(path: Path) -> None:
    suite = read_suite(path)
    text = path.read_text()
    assert text.startswith("# ") and f"bench run {path.relative_to(ROOT).as_posix()}" in text
    contenders, tasks = list(_contenders(suite.methods)), list(open_tasks(suite))
    assert contenders and tasks
    for each in contenders:
        registry: Registry[Any] = METHODS if each.kind == "method" else BASELINES
        cls = registry.get(each.name)
        build(cls.Config, each.options, each.name)
    assert len({task.full_name + str(task.overrides) for task in tasks}) == len(tasks)


def test_the_shipped_suites_are_of_every_size() -> None:
    assert {path.stem for path in SHIPPED} >= {"quick", "small", "standard", "paper-cifar100"}


def test_every_published_record_is_of_a_published_suite_and_none_is_missing(
    published: list[Path],
) -> None:
    def row(method: str, options: dict[str, Any], task: str, preset: str, changed: Any) -> str:
        return json.dumps([method, options, task, preset, changed], sort_keys=True)

    planned = {
        row(*parse_spec(spec), task, suite.preset, suite.overrides): set(suite.seeds)
        for suite in map(read_suite, PUBLISHED)
        for task in suite.tasks
        for spec in suite.methods
    }
    found: dict[str, set[int]] = {}
    for path in published:
        record = read_record(path)
        if record.get("kind") == "cost":
            continue
        cell = record["cell"]
        names = ("method", "options", "task", "preset", "overrides")
        found.setdefault(row(*(cell[name] for name in names)), set()).add(cell["seed"])
    assert found.keys() == planned.keys()
    once = ("teacher", "tfidf", "bm25")
    for name, seeds in found.items():
        assert seeds == ({0} if json.loads(name)[0] in once else planned[name]), name
