"""Suite files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.suites import Suite, read_suite

GROUP = "Suite files"
ALIASES = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))]
)
CASES = [
    ("that is not there", "gone.yaml", None, ["gone.yaml", "No such file"]),
    ("of another kind", "mine.json", "{}", ["mine.json", "neither YAML nor TOML"]),
    ("with broken YAML", "mine.yaml", "methods: [kd", ["mine.yaml", "cannot be read"]),
    ("with broken TOML", "mine.toml", "methods = [", ["mine.toml", "cannot be read"]),
    ("that is empty", "mine.yaml", "", ["mine.yaml", "is not a mapping"]),
    ("that is a list", "mine.yaml", "- kd", ["mine.yaml", "is not a mapping"]),
    ("with 'method: [kd]'", "mine.yaml", "method: [kd]", ["'method'", "did you mean 'methods'?"]),
    ("with 'methods: kd'", "mine.yaml", "methods: kd", ["methods = 'kd'", "tuple"]),
    ("with 'seeds: [0.5]'", "mine.yaml", "seeds: [0.5]", ["seeds.0 = 0.5", "integer"]),
    ("with 'seeds: [0, 0]'", "mine.yaml", "seeds: [0, 0]", ["seeds must be different"]),
    ("with 'seeds' twice", "mine.yaml", "seeds: [0]\nseeds: [1]", ["'seeds' is given twice"]),
    (
        "with 'recipe.learning_rate: .nan'",
        "mine.yaml",
        "tasks: [cifar10]\noverrides: {recipe.learning_rate: .nan}",
        ["learning_rate", "finite"],
    ),
    (
        "with an override of no field",
        "mine.yaml",
        "tasks: [cifar10]\noverrides: {recipe.epoks: 2}",
        ["recipe.epoks", "did you mean 'recipe.epochs'?"],
    ),
    (
        "with Python code",
        "mine.yaml",
        "preset: !!python/object/apply:os.mkdir [made]",
        ["mine.yaml", "cannot be read", "tag"],
    ),
    ("of aliases for gigabytes", "mine.yaml", ALIASES + "\nseeds: *a8", ["mine.yaml"]),
    ("nested 10,000 deep", "mine.yaml", "a: " + "[" * 10_000, ["nested too deeply"]),
    ("of one line of 100 MB", "mine.yaml", "a" * 100_000_000, ["larger than 1,048,576 bytes"]),
    ("in Latin-1", "mine.yaml", b"preset: \xe9", ["mine.yaml", "utf-8"]),
]


@pytest.mark.parametrize(
    ("what", "name", "content", "says"), CASES, ids=[case[0] for case in CASES]
)
def test_suite_file_is_refused_in_one_line(
    desk: Any, what: str, name: str, content: str | bytes | None, says: list[str]
) -> None:
    if content is not None:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    desk.refuses(f"a suite file {what}", "run", name, "--device", "cpu", says=says)
    assert not Path("made").exists()


def test_suite_that_is_a_folder_or_a_pipe_is_refused(desk: Any) -> None:
    Path("folder.yaml").mkdir()
    desk.refuses("a folder for a suite file", "run", "folder.yaml", says=["Is a directory"])
    os.mkfifo("pipe.yaml")
    desk.refuses("a pipe for a suite file", "run", "pipe.yaml", says=["no ordinary file"])


def test_option_beside_a_suite_file_is_refused(desk: Any) -> None:
    Path("mine.yaml").write_text("tasks: [cifar10]")
    given = ["run", "mine.yaml", "--seeds", "1"]
    desk.refuses("--seeds beside a suite file", *given, says=["--seeds", "put it into the file"])


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
WHATEVER = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FIELDS = st.sampled_from([*Suite.model_fields, "method", "x" * 300, "\x1b[31m"])


@WHATEVER
@given(values=st.dictionaries(FIELDS, YAML, max_size=4))
def test_any_mapping_is_a_suite_or_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    import yaml

    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=False))
    check(path)


@WHATEVER
@given(content=st.binary(max_size=60), suffix=st.sampled_from([".yaml", ".toml"]))
def test_any_bytes_are_a_suite_or_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content)
    check(path)


def check(path: Path) -> None:
    said = ""
    try:
        read_suite(path)
    except BenchError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1 and len(said) < 1000
