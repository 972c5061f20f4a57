"""Keys: what a cell depends on is in its own, and nothing else is."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
from planned import cell, write_cifar10
from plug_ins import forget_plug_ins

from bench import METHODS
from bench.cells import Cell, TeacherSpec
from bench.errors import BenchError
from bench.opening import make_contender
from bench.registry import load_plugin
from bench.source_code import imported_names
from bench.teachers.train import ensure_teacher

METHOD = '''"""A method in a file of its own."""

import torch.nn.functional as F

from bench import Method, register_method


@register_method("mine")
class Mine(Method):
    """Say what it does."""

    signals = frozenset()

    def loss(self, *, batch, student, teacher, progress):
        """Return the loss."""
        # how much of it
        return {"ce": 1.0 * F.cross_entropy(student.scores, batch.labels)}
'''


def plugin_key(folder: Path, source: str) -> str:
    """Return the key of the method ``mine`` as written in ``source``."""
    folder.mkdir()
    (folder / "mine.py").write_text(source, encoding="utf-8")
    forget_plug_ins()
    load_plugin(str(folder / "mine.py"))
    return cell("mine").key


def test_key_is_the_same_twice() -> None:
    assert cell().key == cell().key
    assert len(cell().key) == 64


def test_options_that_say_the_default_are_no_change() -> None:
    assert cell("kd:temperature=4").key == cell("kd").key
    assert cell("kd:temperature=2").key == cell("kd:temperature=2.0").key


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "kd:temperature=2"},
        {"method": "scratch"},
        {"seeds": [1]},
        {"teacher_seed": 1},
        {"tasks": ["cifar10-binary"]},
        {"overrides": {"epochs": 2}},
        {"overrides": {"train_limit": 64}},
        {"overrides": {"student": "resnet8"}},
        {"overrides": {"recipe.precision": "float32"}},
        {"overrides": {"teacher": "resnet20"}},
        {"overrides": {"teacher_recipe.epochs": 1}},
        {"device": "cuda"},
    ],
    ids=lambda changed: next(iter(str(value) for value in changed.values())),
)
def test_what_changes_the_result_changes_the_key(changed: dict[str, Any]) -> None:
    assert cell(**changed).key != cell().key


@pytest.mark.parametrize(
    "overrides",
    [{"teacher_recipe.epochs": 1}, {"teacher_recipe.learning_rate": 0.3}, {"teacher": "resnet20"}],
    ids=lambda overrides: next(iter(overrides)),
)
def test_teacher_is_in_the_key_of_those_that_use_it_only(overrides: dict[str, Any]) -> None:
    for method in ("kd", "fitnets", "fitnets_joint", "teacher"):
        assert cell(method).key != cell(method, overrides=overrides).key
    for method in ("scratch", "label_smoothing"):
        assert cell(method).key == cell(method, overrides=overrides).key
        assert cell(method).key == cell(method, teacher_seed=5).key


def test_what_mines_negatives_is_in_the_key_of_all() -> None:
    def key(**overrides: str) -> str:
        changed = {f"teacher_recipe.{name}": value for name, value in overrides.items()}
        return cell("scratch", tasks=["msmarco"], overrides=changed).key

    assert key() == key(learning_rate="0.3") == key(precision="float32")  # the preset's own
    assert key() != key(precision="bfloat16")


def test_student_is_not_in_the_teacher_s_key() -> None:
    one, other = cell(), cell(overrides={"student": "resnet8", "epochs": 3}, seeds=[4])
    assert one.teacher is not None and other.teacher is not None
    assert one.teacher.key == other.teacher.key


def test_device_number_is_no_change() -> None:
    assert cell(device="cuda:1").key == cell(device="cuda").key


def test_tokeniser_is_in_the_key_of_the_plain_student() -> None:
    one = cell("scratch", tasks=["amazon"])
    other = cell("scratch", tasks=["amazon"], overrides={"teacher": "hub:other/tokeniser"})
    assert one.key != other.key


def test_code_of_the_method_is_in_the_key(tmp_path: Path) -> None:
    key = plugin_key(tmp_path / "one", METHOD)
    assert plugin_key(tmp_path / "two", METHOD.replace("1.0", "0.5")) != key
    assert plugin_key(tmp_path / "three", METHOD) == key


def test_comments_docstrings_and_layout_are_not_in_the_key(tmp_path: Path) -> None:
    edited = (
        METHOD.replace('"""A method in a file of its own."""', '"""Told anew."""\n\n')
        .replace('    """Say what it does."""\n\n', "    # no docstring\n")
        .replace("Return the loss.", "Return it.\n\n        In other words.")
        .replace("# how much of it", "# the share")
        .replace('{"ce": 1.0 * ', '{\n            "ce": 1.0 *\n            ')
    )
    assert edited != METHOD
    assert plugin_key(tmp_path / "one", METHOD) == plugin_key(tmp_path / "two", edited)


def test_code_of_a_parent_class_is_in_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = METHOD.replace("from bench import Method,", "from parent_method import Parent\n\nfrom")
    child = child.replace("from register", "from bench import register").replace(
        "Mine(Method)", "Mine(Parent)"
    )
    child = child[: child.index("    def loss")]
    parent = METHOD.replace('@register_method("mine")\n', "").replace("class Mine", "class Parent")
    keys = []
    for name, factor in (("one", "1.0"), ("two", "0.5")):
        (tmp_path / f"{name}-parent").mkdir()
        (tmp_path / f"{name}-parent" / "parent_method.py").write_text(parent.replace("1.0", factor))
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path / f"{name}-parent")
            patch.delitem(sys.modules, "parent_method", raising=False)
            keys.append(plugin_key(tmp_path / name, child))
            sys.modules.pop("parent_method")
    assert keys[0] != keys[1]


def test_modules_of_a_plugins_own_package_are_in_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.source_code import code_hash

    found = []
    for weight, told, share in (
        ("3.0", "x", 1),
        ("5.0", "x", 1),
        ("3.0", "y", 1),
        ("3.0", "x", 2),
    ):
        package = tmp_path / f"{weight}{told}{share}" / "plugged_in"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"SHARE = {share}")
        (package / "apart.py").write_text(f"told = '{told}'")  # which the method does not import
        (package / "helper.py").write_text(f"weight = {weight}")
        (package / "mine.py").write_text(
            "from plugged_in import SHARE\nfrom .helper import weight\n"
            "class Mine:\n    w = weight * SHARE"
        )
        with monkeypatch.context() as patch:
            patch.syspath_prepend(package.parent)
            found.append(code_hash(importlib.import_module("plugged_in.mine").Mine))
            for name in [name for name in sys.modules if name.startswith("plugged_in")]:
                sys.modules.pop(name)
    assert found[0] == found[2] != found[1]
    assert found[3] not in found[:3]


def test_every_module_of_a_package_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import source_code

    cls = METHODS.get("gpd")
    folder = Path(inspect.getfile(cls)).parent
    modules = [f"methods.gpd.{path.stem}" for path in folder.glob("[!_]*.py")]
    assert len(modules) >= 4
    before = source_code.code_hash(cls)
    source = inspect.getsource
    for name in [*modules, "methods.dkd", "bench.losses"]:

        def edited(module: Any, name: str = name) -> str:
            return source(module) + ("\nEDITED = True\n" if module.__name__ == name else "")

        monkeypatch.setattr(source_code.inspect, "getsource", edited)
        assert source_code.code_hash(cls) != before, name
        monkeypatch.setattr(source_code.inspect, "getsource", source)
    assert source_code.code_hash(cls) == before


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("from methods.gpd.branches import Branches", "methods.gpd.branches"),
        ("from methods.gpd import branches", "methods.gpd.branches"),
        ("from .branches import Branches", "methods.gpd.branches"),
        ("from . import branches", "methods.gpd.branches"),
        ("import methods.gpd.branches", "methods.gpd.branches"),
        ("def later():\n    from ..kd import KD", "methods.kd"),
    ],
)
def test_however_a_module_is_imported_it_is_found(code: str, module: str) -> None:
    assert module in set(imported_names(ast.parse(code), "methods.gpd"))


def test_fingerprint_of_the_data_is_in_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, rows in (("one", 20), ("two", 30), ("three", 20)):
        monkeypatch.setenv("BENCH_DATA", str(write_cifar10(tmp_path / name, rows)))
        found.append(cell(source="mirror"))
    keys = [each.key for each in found]
    assert keys[0] == keys[2] != keys[1]
    assert found[0].teacher is not None and found[1].teacher is not None
    assert found[0].teacher.key != found[1].teacher.key
    assert keys[0] != cell().key


# A cell written out by hand and its keys before variants were there: published records hold such.
RECIPE = {
    **{"epochs": 2, "batch_size": 16, "learning_rate": 0.1, "optimizer": "sgd"},
    **{"views": None, "compile": False},
}
VALUES = {
    **{"source": "embedded", "student": "s", "teacher": "t", "recipe": RECIPE},
    **{"teacher_recipe": RECIPE, "teacher_checkpoint": None, "frozen_teacher": False},
    **{"train_limit": None, "evaluation_batch": 10, "max_length": 64},
}
GOLDEN = "d648b9f1e72fc38d43019069c0cdeecc887b5866037edd909bc565cbbe0266e4"
GOLDEN_TEACHER = "6f745603b9d15e037b24e4a26e6c89b065f03aa10c0d95132732e46f76b97483"


@pytest.mark.parametrize(
    "off", [{}, {"n": None, "imbalance": None, "teacher_data": "labelled"}, {"teacher_data": "all"}]
)
def test_keys_from_before_variants_stay(off: dict[str, Any]) -> None:
    values = {**VALUES, **off}
    shared: dict[str, Any] = {
        **{"task": "cifar10", "preset": "quick", "overrides": {}, "preset_values": values},
        **{"source": "embedded", "seed": 0, "device": "cpu"},
    }
    teacher = TeacherSpec(fingerprint="f", **shared)
    made = Cell(
        **{"kind": "method", "method": "kd", "label": "kd", "options": {}, "config": {"w": 1.0}},
        **{"code": "c", "task_info": {}, "origin": {"fingerprint": "f"}, "teacher": teacher},
        **shared,
    )
    assert (made.key, teacher.key) == (GOLDEN, GOLDEN_TEACHER)


def test_what_rounds_a_teachers_outputs_is_in_its_key() -> None:
    teachers = [cell(overrides=each).teacher for each in ({}, {"evaluation_batch": 5})]
    assert teachers[0] is not None and teachers[1] is not None
    assert teachers[0].key != teachers[1].key
    own = str(cell().preset_values["evaluation_batch"])
    assert cell(overrides={"evaluation_batch": own}).key == cell().key


def test_the_queries_that_a_generator_may_not_see_are_in_its_key() -> None:
    generators = [
        cell("tgt", tasks=["msmarco"], overrides=each).generator
        for each in ({}, {"held_out_limit": 5}, {"held_out_limit": 30})
    ]
    assert len({each.key for each in generators if each}) == 3


def test_code_edited_after_planning_is_not_run_under_the_old_key(tmp_path: Path) -> None:
    plugin_key(tmp_path / "one", METHOD)
    made, path = cell("mine"), tmp_path / "one" / "mine.py"
    assert make_contender(made).name == "mine"
    path.write_text(METHOD.replace("# how much of it", "# as before"), encoding="utf-8")
    assert make_contender(made).name == "mine"
    path.write_text(METHOD.replace("1.0 *", "0.25 *"), encoding="utf-8")
    with pytest.raises(BenchError, match="the code of 'mine' was changed after this run was"):
        make_contender(made)


def test_two_checkpoints_of_one_name_are_two_settings(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        path = tmp_path / name / "model.safetensors"
        path.parent.mkdir()
        path.write_bytes(name.encode())
        found.append((path, cell(overrides={"teacher_checkpoint": str(path)})))
    told = [each.described()["overrides"]["teacher_checkpoint"] for _, each in found]
    assert told[0] != told[1] and all(name.startswith("…/model.safetensors@") for name in told)
    path, planned = found[0]
    assert planned.teacher is not None
    path.write_bytes(b"other weights")
    with pytest.raises(BenchError, match=r"model\.safetensors' was changed after this run was"):
        ensure_teacher(planned.teacher)
