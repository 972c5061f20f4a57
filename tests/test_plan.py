"""Plans: what becomes a cell, and what its key depends on."""

from __future__ import annotations

import ast
import inspect
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from plug_ins import forget_plug_ins

from bench import METHODS, TASKS
from bench.cells import Cell, TeacherSpec
from bench.config import build
from bench.errors import BenchError
from bench.plan import Plan, make_plan
from bench.registry import load_plugin
from bench.report.presets import joined
from bench.runner import cost_specs, first_alike, jobs_for
from bench.source_code import imported_names
from bench.store import record_path
from bench.suites import Suite
from bench.tasks.base import changed, override
from bench.teachers.serve import SignalsSpec

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


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch, no_new_methods: None) -> None:
    """Plan without a mirror, and take out what a test's plug-ins have registered."""
    monkeypatch.delenv("BENCH_DATA", raising=False)


def plan(**suite: Any) -> Plan:
    values = {"methods": ["kd"], "tasks": ["cifar10"], "seeds": [0], **suite}
    return make_plan(build(Suite, values, "the test"), device="cpu")


def cell(method: str = "kd", device: str = "cpu", **suite: Any) -> Cell:
    values = {"methods": [method], "tasks": ["cifar10"], "seeds": [0], **suite}
    (found,) = make_plan(build(Suite, values, "the test"), device=device).cells
    return found


def plugin_key(folder: Path, source: str) -> str:
    """Return the key of the method ``mine`` as written in ``source``."""
    folder.mkdir()
    (folder / "mine.py").write_text(source, encoding="utf-8")
    forget_plug_ins()
    load_plugin(str(folder / "mine.py"))
    return cell("mine").key


def write_cifar10(root: Path, rows: int = 20) -> Path:
    """Write a tiny CIFAR-10 in the hub's own columns below ``root``."""
    folder = root / "uoft-cs" / "cifar10"
    folder.mkdir(parents=True)
    chance = np.random.default_rng(rows)
    images = []
    for _ in range(rows):
        stream = io.BytesIO()
        Image.fromarray(chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(stream, "PNG")
        images.append({"bytes": stream.getvalue(), "path": None})
    table = pa.table({"img": images, "label": [row % 10 for row in range(rows)]})
    for split in ("train", "test"):
        pq.write_table(table, folder / f"{split}.parquet")
    return root


def test_every_method_task_and_seed_is_a_cell() -> None:
    found = plan(methods=["scratch", "kd"], tasks=["cifar10", "cifar100"], seeds=[0, 7]).cells
    assert sorted((each.task, each.method, each.seed) for each in found) == [
        (task, method, seed)
        for task in ("cifar10", "cifar100")
        for method in ("kd", "scratch")
        for seed in (0, 7)
    ]
    assert len({each.key for each in found}) == 8


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
        ("teacher", 3),
        ("tfidf", 3),
        ("scratch", 3),
        ("scratch", 4),
        ("scratch", 5),
    ]


def test_teachers_are_planned_once_for_all_seeds_and_methods() -> None:
    found = plan(methods=["scratch", "kd", "fitnets"], seeds=[0, 1, 2])
    assert len({cell.teacher.key for cell in found.cells if cell.teacher}) == 1
    assert all((each.teacher is None) == (each.method == "scratch") for each in found.cells)


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


@pytest.mark.parametrize("task", ["cifar10:n=100", "cifar10:n=200", "cifar10:imbalance=10"])
def test_a_variant_is_in_every_key(task: str) -> None:
    keys = {
        cell(method, tasks=[each]).key for method in ("kd", "scratch") for each in (task, "cifar10")
    }
    assert len(keys) == 4
    name, option = task.split(":")
    key, value = option.split("=")
    assert cell(tasks=[task]).key == cell(tasks=[name], overrides={key: value}).key


def test_a_variant_is_in_name_title_and_path_and_not_in_the_preset() -> None:
    found = cell(tasks=["cifar10:n=100:epochs=2"])
    described = found.described()
    assert described["task"] == "cifar10:n=100"
    assert described["variant"] == {
        **{"of": "cifar10", "n": 100, "imbalance": None, "teacher_data": "labelled"}
    }
    assert described["overrides"] == {"epochs": "2"}
    assert found.task_info["title"] == "cifar10:n=100 · embedded digits"
    assert "100 labelled training samples" in found.task_info["limits"]
    assert "the teacher learned from the same samples" in found.task_info["limits"]
    path = record_path(Path("r"), {"cell": described, "key": found.key})
    assert path.parent == Path("r/quick/cifar10-n=100/kd")
    assert "variant" not in cell().described()


def test_the_teacher_of_few_labels_has_seen_only_those_unless_asked() -> None:
    whole = cell()
    few = cell(tasks=["cifar10:n=100"])
    outside = cell(tasks=["cifar10:n=100:teacher_data=all"])
    assert whole.teacher and few.teacher and outside.teacher
    assert outside.teacher.key == whole.teacher.key != few.teacher.key
    assert "n" not in outside.teacher.overrides
    assert outside.key != few.key
    assert "all training labels" in outside.task_info["limits"]
    # a table of its own needs a reference of its own
    plain = [cell("scratch", tasks=[f"cifar10:n=100{more}"]) for more in ("", ":teacher_data=all")]
    assert plain[0].key != plain[1].key
    assert cell(tasks=["cifar10:teacher_data=all"]).key == whole.key


def test_one_teacher_s_signals_are_filled_for_each_part() -> None:
    tasks = [f"cifar10:n={n}:teacher_data=all" for n in (100, 200)]
    found = plan(methods=["kd", "lelp"], tasks=[*tasks, "cifar10"])
    jobs = jobs_for(found, set(), results=Path("r"), threads=1)
    signals = [job for job in jobs if isinstance(job.work, SignalsSpec)]
    assert len({job.id for job in signals}) == 3
    for job in signals:
        assert len({each.full_task for each in job.work.cells}) == 1
    assert len([job for job in jobs if isinstance(job.work, TeacherSpec)]) == 1


def test_tasks_with_options_are_told_apart_and_wrong_ones_named() -> None:
    found = plan(tasks=["cifar10", "cifar10:n=100", "cifar10:n=100", "cifar10:n=200"]).cells
    assert [each.full_task for each in found] == ["cifar10", "cifar10:n=100", "cifar10:n=200"]
    with pytest.raises(BenchError, match=r"'imbalence' \(did you mean 'imbalance'\?\)"):
        plan(tasks=["cifar10:imbalence=10"])
    with pytest.raises(BenchError, match="n=100 and imbalance=10 are both given"):
        plan(tasks=["cifar10:n=100"], overrides={"imbalance": 10})
    with pytest.raises(BenchError, match="asked for twice"):
        plan(tasks=["cifar10:n=100", "cifar10:n=0100"])


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


def test_two_spellings_of_a_setting_are_one_cell_and_one_table() -> None:
    short, long = (
        plan(tasks=["cifar10"], overrides={path: "2"}).cells[0]
        for path in ("epochs", "recipe.epochs")
    )
    assert short.key == long.key
    assert short.described()["overrides"] == long.described()["overrides"] == {"epochs": "2"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"epochs": "6"}, "quick"),  # the preset's own
        ({"recipe.epochs": 6, "frozen_teacher": "True", "train_limit": "none"}, "quick"),
        ({"recipe.learning_rate": "1e-1"}, "quick+recipe.learning_rate=0.1"),
        ({"recipe.learning_rate": 0.10}, "quick+recipe.learning_rate=0.1"),
        ({"recipe.clip": "2.0", "max_length": "032"}, "quick+max_length=32+recipe.clip=2"),
        (
            {"recipe.clip": None, "recipe.compile": True},
            "quick+recipe.clip=none+recipe.compile=true",
        ),
        ({"recipe.milestones": " .5, 0.750"}, "quick+recipe.milestones=0.5,0.75"),
        ({"recipe.milestones": [0.5, 0.75]}, "quick+recipe.milestones=0.5,0.75"),
        ({"generator_recipe": None}, "quick+generator_recipe=none"),
        ({"student": "minilm:2"}, "quick+student=minilm:2"),
    ],
)
def test_a_setting_has_one_name_and_the_presets_own_has_none(
    given: dict[str, Any], name: str
) -> None:
    found = cell("scratch", tasks=["amazon"], overrides=given)
    described = found.described()
    assert joined(described["preset"], described["overrides"]) == name
    # what is written makes the same cell again, and the same teacher
    again = cell("scratch", tasks=["amazon"], overrides=described["overrides"])
    assert (again.key, again.described()) == (found.key, described)


def test_a_whole_recipe_is_named_by_what_it_changes() -> None:
    own = TASKS.get("amazon").presets["quick"].recipe.model_dump()
    found = cell("scratch", tasks=["amazon"], overrides={"recipe": {**own, "epochs": 2}})
    assert found.overrides == {"epochs": "2"}
    bare = TASKS.get("amazon").presets["standard"]
    made = override(bare, {"generator_recipe": own}, "the test")
    assert changed(bare, made, {"generator_recipe": own}) == {"generator_recipe": own}


@pytest.mark.parametrize("other", ["epochs", "recipe"])
def test_one_setting_in_two_spellings_is_refused(other: str) -> None:
    with pytest.raises(BenchError, match=f"settings .*'{other}'.* are one and the same"):
        plan(overrides={other: "4", "recipe.epochs": "5"})
    with pytest.raises(BenchError, match=f"settings .*'{other}'.* are one and the same"):
        plan(tasks=[f"cifar10:recipe.epochs=5:{other}=4"])


def test_a_tasks_own_setting_counts_in_any_spelling() -> None:
    found = cell("scratch", tasks=["cifar10:recipe.epochs=5"], overrides={"epochs": "4"})
    assert found.overrides == {"epochs": "5"}
