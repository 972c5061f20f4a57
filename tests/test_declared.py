"""What a class declares is looked at where it is registered."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import METHODS, TASKS
from bench.errors import BenchError
from bench.registry import load_plugin


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("class Mine:\n    pass", "method 'mine' is not a subclass of bench.Method"),
        (
            "class Mine(Method):\n    class Config:\n        pass",
            "its Config is not a subclass of bench.Config",
        ),
        (
            "class Mine(Method):\n    class Config(pydantic.BaseModel):\n        w: float = 1",
            "its Config is not a subclass of bench.Config",
        ),
        ("class Mine(Method):\n    card = 'Ba and Caruana'", "its card is not a bench.Card"),
        ("class Mine(Method):\n    signals = 'logits'", "signals is a str (must be a set)"),
        (
            "class Mine(Method):\n    signals = {'logit'}",
            "method 'mine': unknown signal 'logit' (did you mean 'logits'?)",
        ),
        (
            "class Mine(Method):\n    class Config(bench.Config):\n        f: Any = print",
            "its options cannot be written as JSON",
        ),
        (
            "class Mine(Method):\n    class Config(bench.Config):\n        f: Callable = print",
            "its options cannot be written as JSON",
        ),
        (
            "class Mine(Method):\n    class Config(bench.Config):\n        weight: float = 1.0\n"
            "    space = (('wieght', 0.1, 1.0, 'log'),)",
            "space names no option 'wieght' (did you mean 'weight'?)",
        ),
        (
            "class Mine(Method):\n    class Config(bench.Config):\n        w: float = 1.0\n"
            "    space = (('w', 2.0, 1.0, 'linear'),)",
            "space of 'w' is [2.0, 1.0] (linear)",
        ),
        (
            "class Mine(Method):\n    class Config(bench.Config):\n        w: float = 1.0\n"
            "    space = (('w', 0.0, 1.0, 'log'),)",
            "above zero for log",
        ),
        (
            "class Mine(Method):\n    class Config(bench.Config):\n        w: float = 1.0\n"
            "    space = (('w', 0.0, 1.0, 'lin'),)",
            "(option, lowest, highest, kind)",
        ),
    ],
)
def test_a_class_that_cannot_be_planned_is_refused_where_it_is(
    tmp_path: Path, body: str, says: str
) -> None:
    path = tmp_path / "mine.py"
    header = (
        "import bench, pydantic; from typing import Any, Callable\n"
        "from bench import Method, register_method\n"
    )
    path.write_text(f"{header}@register_method('mine')\n{body}\n")
    with pytest.raises(BenchError) as caught:
        load_plugin(str(path))
    assert says in str(caught.value) and "mine.py:3" in str(caught.value)
    assert "mine" not in METHODS


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("class Mine:\n    presets = {}", "is not a subclass of bench.Task"),
        ("class Mine(Task):\n    pass", "has no presets"),
        ("class Mine(Task):\n    presets = {'quick': 3}", "preset 'quick' is a int"),
    ],
)
def test_a_task_without_presets_is_refused_where_it_is(
    tmp_path: Path, body: str, says: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"from bench import Task, register_task\n@register_task('mine')\n{body}\n")
    with pytest.raises(BenchError) as caught:
        load_plugin(str(path))
    assert says in str(caught.value) and "mine.py:2: task 'mine'" in str(caught.value)
    assert "mine" not in TASKS
