"""Registration: what is scanned, what is refused, what a broken plug-in costs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT, bench, python

from bench import BASELINES, METHODS, TASKS
from bench.errors import BenchError
from bench.registry import Registry, load_plugin, load_plugins

METHOD = '''"""A method in a file of its own."""

from __future__ import annotations

import torch.nn.functional as F

from bench import Method, register_method


@register_method("{name}")
class Mine(Method):
    """{summary}"""

    signals = frozenset()

    def loss(self, *, batch, student, teacher, progress):
        return {{"ce": F.cross_entropy(student.scores, batch.labels)}}
'''


pytestmark = pytest.mark.usefixtures("no_new_methods")


def write_method(path: Path, name: str, summary: str = "Say what it does.") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(METHOD.format(name=name, summary=summary), encoding="utf-8")
    return path


def with_project(folder: Path) -> str:
    """Return the path on which both the project and ``folder`` are found."""
    return os.pathsep.join([str(ROOT), str(folder)])


def distribution(root: Path, name: str, target: str) -> None:
    """Lay down the metadata of an installed package with one method entry point."""
    folder = root / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[distillation_bench.methods]\n{name} = {target}\n")


def installed(root: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Return names, problems and the origin of each name, with ``root`` on the path."""
    code = (
        "import json; from bench import METHODS; entries = METHODS.entries();"
        "print(json.dumps([METHODS.names(), METHODS.problems,"
        " {e.name: e.origin for e in entries}]))"
    )
    done = python("-c", code, PYTHONPATH=with_project(root))
    assert done.code == 0, done.err
    names, problems, origins = json.loads(done.out)
    return names, problems, origins


def test_built_in_names_are_found() -> None:
    assert {"kd", "fitnets", "fitnets_joint"} <= set(METHODS.names())
    assert {"scratch", "label_smoothing", "teacher", "tfidf"} <= set(BASELINES.names())
    assert {"amazon", "amazon-5", "sentiment140", "cifar10", "cifar100"} <= set(TASKS.names())
    assert METHODS.names() == sorted(METHODS.names())


@pytest.mark.parametrize("registry", [METHODS, BASELINES, TASKS], ids=lambda r: r.kind)
def test_every_entry_says_what_and_where_as_its_class_does(registry: Registry[Any]) -> None:
    for entry in registry.entries():
        cls = registry.get(entry.name)
        file, _, line = entry.origin.rpartition(":")
        source = (ROOT / file).read_text(encoding="utf-8").splitlines()
        assert f'register_{registry.kind}("{entry.name}")' in source[int(line) - 1]
        assert entry.summary == (cls.__doc__ or "").strip().split("\n")[0] != ""
        assert cls.name == entry.name


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from bench import BASELINES, METHODS, TASKS;"
        "print([len(r.entries()) for r in (METHODS, BASELINES, TASKS)]);"
        "heavy = {'torch', 'transformers', 'timm', 'sklearn', 'pandas'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = python("-c", code)
    assert done.code == 0, done.err
    assert all(count > 0 for count in json.loads(done.out))


def test_unknown_name_gives_the_nearest_match() -> None:
    with pytest.raises(BenchError, match=r"unknown method 'fitnet' \(did you mean 'fitnets'\?\)"):
        METHODS.get("fitnet")


def test_unknown_name_far_from_all_lists_what_is_known() -> None:
    with pytest.raises(BenchError, match=r"unknown task 'zzzz' \(known: amazon, "):
        TASKS.get("zzzz")


def test_plugin_file_registers_its_method(tmp_path: Path) -> None:
    load_plugin(str(write_method(tmp_path / "mine.py", "mine", "Mine alone.")))
    cls = METHODS.get("mine")
    entry = next(entry for entry in METHODS.entries() if entry.name == "mine")
    assert "mine" in METHODS and "mine" not in BASELINES
    assert cls.name == "mine" and cls(cls.Config()).config == cls.Config()
    assert entry.summary == "Mine alone." and entry.origin == "mine.py:10"


def test_loading_a_plugin_twice_is_no_duplicate(tmp_path: Path) -> None:
    target = str(write_method(tmp_path / "mine.py", "mine"))
    assert load_plugin(target) is load_plugin(target)


def test_broken_plugins_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "typo.py").write_text("def broken(:\n")
    (tmp_path / "lacking.py").write_text("import no_such_library\n")
    (tmp_path / "raising.py").write_text("raise RuntimeError('not today')\n")
    good = write_method(tmp_path / "good.py", "good_one")
    broken = [str(tmp_path / name) for name in ("typo.py", "lacking.py", "raising.py", "gone.py")]
    problems = load_plugins([*broken, "no_such_plugin_module", str(good)])
    reasons = ["SyntaxError", "no_such_library", "not today", "no such file", "No module named"]
    assert len(problems) == len(reasons)
    assert list(problems) == [*broken, "no_such_plugin_module"]
    for (target, problem), reason in zip(problems.items(), reasons, strict=True):
        assert target in problem and reason in problem
    assert "good_one" in METHODS


def test_nothing_can_be_called_what_means_everything(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no method can be called 'all'"):
        load_plugin(str(write_method(tmp_path / "mine.py", "all")))


@pytest.mark.parametrize("discovered", [True, False])
def test_plugin_that_takes_an_existing_name_is_refused(tmp_path: Path, discovered: bool) -> None:
    target = write_method(tmp_path / "again.py", "kd")
    first = "METHODS.names();" if discovered else ""
    code = (
        "import sys; from bench import METHODS; from bench.registry import load_plugin;"
        f"{first} load_plugin(sys.argv[1]); METHODS.names()"
    )
    done = python("-c", code, str(target))
    assert done.code != 0
    message = done.err.strip().splitlines()[-1]
    assert "method 'kd' is registered twice" in message
    assert "methods/kd.py:" in message and "again.py:10" in message


def test_two_plugins_with_one_name_are_refused_naming_both(tmp_path: Path) -> None:
    load_plugin(str(write_method(tmp_path / "one.py", "same")))
    with pytest.raises(BenchError, match=r"registered twice: one\.py:10 and two\.py:10"):
        load_plugin(str(write_method(tmp_path / "two.py", "same")))
    assert METHODS.get("same").__module__.startswith("bench_plugin_one_")


def test_two_plugins_that_are_displayed_alike_are_told_apart(tmp_path: Path) -> None:
    for folder in ("v1", "v2"):
        (tmp_path / folder).mkdir()
    load_plugin(str(write_method(tmp_path / "v1/mine.py", "alike")))
    with pytest.raises(BenchError, match=r"registered twice: mine\.py:10 and mine\.py:10"):
        load_plugin(str(write_method(tmp_path / "v2/mine.py", "alike")))
    load_plugin(str(tmp_path / "v1/mine.py"))  # the same one again


def test_two_files_of_a_package_with_one_name_are_refused_naming_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_method(tmp_path / "parts_with_twins" / "one.py", "same")
    write_method(tmp_path / "parts_with_twins" / "two.py", "same")
    (tmp_path / "parts_with_twins" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[Any] = Registry("method", "parts_with_twins", "no.such.group")
    with pytest.raises(BenchError, match=r"one\.py:10 and .*two\.py:10"):
        registry.entries()


def test_import_error_in_a_file_of_the_package_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_method(tmp_path / "parts_lacking" / "one.py", "one")
    source = path.read_text().replace("import torch.nn.functional as F", "import no_such_library")
    path.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[Any] = Registry("method", "parts_lacking", "no.such.group")
    assert registry.names() == ["one"]
    with pytest.raises(BenchError, match=r"one\.py:10: cannot be imported: .*no_such_library"):
        registry.get("one")


def test_syntax_error_in_a_file_of_the_package_is_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_method(tmp_path / "parts_with_typo" / "good.py", "good")
    (tmp_path / "parts_with_typo" / "typo.py").write_text("def broken(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[Any] = Registry("method", "parts_with_typo", "no.such.group")
    assert registry.names() == ["good"]
    assert len(registry.problems) == 1 and "typo.py" in registry.problems[0]


def test_entry_points_good_and_broken(tmp_path: Path) -> None:
    write_method(tmp_path / "plug_good.py", "from_package")
    (tmp_path / "plug_typo.py").write_text("def broken(:\n")
    write_method(tmp_path / "plug_twin.py", "kd")
    distribution(tmp_path, "aa_gone", "plug_gone:Mine")
    distribution(tmp_path, "bb_typo", "plug_typo:Mine")
    distribution(tmp_path, "cc_twin", "plug_twin:Mine")
    distribution(tmp_path, "dd_good", "plug_good:Mine")
    names, problems, origins = installed(tmp_path)
    assert {"from_package", "kd", "fitnets"} <= set(names)
    assert origins["from_package"] == "plug_good.py:10"
    assert origins["kd"].startswith("methods/kd.py:")
    assert len(problems) == 3
    by_name = {name: next(p for p in problems if name in p) for name in ("gone", "typo", "twin")}
    assert "no module named plug_gone" in by_name["gone"]
    assert "SyntaxError" in by_name["typo"]
    assert "methods/kd.py" in by_name["twin"] and "plug_twin.py:10" in by_name["twin"]


def test_method_of_an_entry_point_can_be_used(tmp_path: Path) -> None:
    write_method(tmp_path / "plug_good.py", "from_package")
    distribution(tmp_path, "dd_good", "plug_good:Mine")
    code = "from bench import METHODS; print(METHODS.get('from_package'))"
    done = python("-c", code, PYTHONPATH=with_project(tmp_path))
    assert "plug_good.Mine" in done.out, done.err


def test_entry_point_in_a_package_that_imports_it_is_no_problem(tmp_path: Path) -> None:
    write_method(tmp_path / "plug_package" / "inner.py", "inner")
    (tmp_path / "plug_package" / "__init__.py").write_text("from plug_package.inner import Mine\n")
    distribution(tmp_path, "ff_inner", "plug_package.inner:Mine")
    names, problems, _ = installed(tmp_path)
    assert "inner" in names and not problems


def test_entry_point_that_announces_nothing_is_reported(tmp_path: Path) -> None:
    write_method(tmp_path / "plug_package" / "inner.py", "inner")
    (tmp_path / "plug_package" / "__init__.py").write_text("from plug_package.inner import Mine\n")
    distribution(tmp_path, "ee_reexport", "plug_package:Mine")
    names, problems, _ = installed(tmp_path)
    assert "inner" not in names
    (problem,) = [each for each in problems if "ee_reexport" in each]
    assert "registers no method in its own file" in problem


def test_listing_with_plugins_warns_and_lists_the_rest(tmp_path: Path) -> None:
    (tmp_path / "typo.py").write_text("def broken(:\n")
    good = write_method(tmp_path / "good.py", "good_one")
    plugins = ["--plugin", str(tmp_path / "typo.py"), "--plugin", str(good)]
    done = bench("list", "methods", *plugins)
    assert done.code == 0, done.err
    assert "good_one" in done.out and "fitnets" in done.out
    assert "typo.py" in done.text
    assert "Traceback" not in done.text


def test_a_name_that_its_file_does_not_register_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts_elsewhere").mkdir()
    (tmp_path / "parts_elsewhere" / "one.py").write_text(
        "from bench import register_method\n"
        "if False:\n    @register_method('one')\n    class One: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[Any] = Registry("method", "parts_elsewhere", "no.such.group")
    with pytest.raises(BenchError, match=r"'one' is declared in .*one\.py:3 but"):
        registry.get("one")
