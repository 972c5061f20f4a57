"""Names and records that mean harm: they stay in their folder, on one line and without effect."""

from __future__ import annotations

import ast
import copy
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plug_ins import forget_plug_ins
from processes import ROOT

from bench import METHODS, TASKS, privacy
from bench.errors import BenchError
from bench.failures import failure
from bench.store import read_record

GROUP = "Hostile names"
RECORD = json.loads((ROOT / "tests" / "records" / "schema-1.json").read_text())
NAMES = {
    "a path": "../../../evil",
    "an absolute path": "/etc/evil",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "an entity": "&lt;script&gt;\"' onload='alert(3)",
    "LaTeX": "\\input{/etc/passwd} $\\frac{ % & # _ ^ ~",
    "Markdown": "[x](javascript:alert(1)) | `x` **b** ![i](http://evil.example/i.png)",
    "terminal escapes": "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "new lines": "one\r\ntwo\n\n# three\u2028four",
    "text turned around": "abc\u202egnp.exe\u2066",
    "a null byte": "a\x00b",
    "nothing": "",
    "a giant": "x" * 20_000,
}


@pytest.mark.parametrize("kind", NAMES)
def test_name_on_the_command_line_is_said_on_one_harmless_line(desk: Any, kind: str) -> None:
    name = NAMES[kind].replace(",", "")
    if "\x00" in name or not name:
        pytest.skip("no process can be given this")
    for option in ("--methods", "--tasks", "--preset", "--device", "--set"):
        said = desk("run", "--methods", "scratch", "--tasks", "cifar10", option, name)
        assert said.code == 2
        (line,) = [line for line in said.text.splitlines() if line.startswith("error: ")]
        assert line.isprintable() and len(line) <= 1100
    desk.note(f"run --set with {kind}", said.code, line)
    assert [path.name for path in desk.base.iterdir()] == ["results"]


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("registry", [METHODS, TASKS], ids=["method", "task"])
def test_name_is_refused_at_registration(registry: Any, kind: str) -> None:
    with pytest.raises(BenchError, match=r"is not a valid (method|task) name \(letters, digits"):
        registry.register(NAMES[kind])(type("Evil", (), {}))
    assert NAMES[kind] not in registry.names()


def altered(record: dict[str, Any], text: str) -> dict[str, Any]:
    """Put ``text`` into every text that a stranger may choose, names of metrics included."""
    made = copy.deepcopy(record)
    for name in ("label", "method", "kind", "task", "preset", "source"):
        made["cell"][name] = text
    made["cell"]["overrides"] = {text: text}
    for name in ("title", "limits", "dataset", "family"):
        made["task"][name] = text
    made["data"] |= {"name": text, "fingerprint": text, "revision": text}
    made["environment"] = dict.fromkeys(made["environment"], text)
    made["teacher"]["name"] = made["revision"]["git"] = made["finished"] = text
    made["task"]["metric"] = text
    for when in ("best", "last"):
        made["metrics"][when]["test"] = {text: 0.5}
        made["metrics"][when][text] = {text: 0.5}
    return made


# a tag that is written out, and a file's name: neither is markup
inert = re.compile(r"&lt;.*?&gt;|\(figures/[\w.+=-]*\)")


class Page(HTMLParser):
    """Counts scripts; refuses what acts by itself or fetches something."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name == "src":
                assert (value or "").startswith("data:image/"), (tag, value)
            if name == "href" and value != "data:,":  # no icon to ask a host for
                assert not re.match(r"\s*(javascript|data|vbscript):", value or "", re.I), value


def scripts(path: Path) -> int:
    """Return how many scripts a page holds, each of them the suite's own."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page.scripts


def failed(record: dict[str, Any], text: str) -> dict[str, Any]:
    error = dict.fromkeys(("class", "message", "hint", "traceback"), text)
    return {**record, "status": "failed", "error": error, "key": "f" * 64, "metrics": None}


@pytest.mark.parametrize("kind", NAMES)
def test_records_of_a_stranger_do_nothing_to_page_figure_or_terminal(desk: Any, kind: str) -> None:
    name = NAMES[kind]
    desk("report")
    page = desk.base / "reports" / "index.html"
    usual = scripts(page)
    made = altered(RECORD, name)
    for at, record in enumerate((made, failed(made, name))):
        (desk.results / f"stranger{at}.json").write_text(json.dumps(record))
    said = desk("report")
    assert said.code in (0, 1) and "Traceback" not in said.text
    assert all(line.isprintable() for line in said.text.splitlines())
    files = {path for path in desk.base.rglob("*") if path.is_file()} - set(desk.results.rglob("*"))
    assert files and all(path.is_relative_to(desk.base / "reports") for path in files)
    for path in files:
        if path.suffix == ".png":
            continue
        text = path.read_text(encoding="utf-8")
        if path == page:
            assert scripts(path) == usual
        elif path.suffix not in (".svg", ".csv"):  # no browser reads tags in these as a page
            assert not re.search(r"<(script|img)\b", text)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
        if path.suffix == ".svg":
            tags = {
                element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()
            }
            assert not tags & {"script", "image", "foreignObject"}
        if path.suffix == ".md":
            assert "](javascript" not in text.replace("\\]", "") and "\n# three" not in text
            assert "![i](http" not in text and "onerror" not in inert.sub("", text)
        if path.suffix == ".tex":
            assert "\\input{/etc" not in text


def test_file_name_of_a_stranger_is_said_on_one_harmless_line(desk: Any) -> None:
    (desk.results / "a\x1b[31m\nwarning: all is well.json").write_text("{")
    line = desk.refuses("a file name with escapes", "report", says=["all is well"], code=1)
    assert line.startswith("warning: a\\x1b[31m ")


def test_plugin_of_a_stranger_is_said_on_one_harmless_line(desk: Any) -> None:
    Path("evil.py").write_text("raise ValueError('\\x1b[2J\\nnote: all is well [red]')\n")
    said = desk("list", "methods", "--plugin", "evil.py")
    line = desk.tells("a plug-in whose error has escapes", said, ["all is well [red]"])
    assert line.startswith("warning: plug-in 'evil.py'") and "\\x1b[2J" in line


# What is published tells no secret and no path.


def test_published_record_holds_no_path_and_no_secret(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "correct-horse-battery-staple"
    monkeypatch.setenv("HF_TOKEN", secret)
    monkeypatch.setenv("HOME", str(desk.base))
    privacy._secrets_of_environment.cache_clear()
    plugin = desk.base / "mine.py"
    plugin.write_text(
        "import os\nfrom bench import Config, Method, register_method\n\n\n"
        "class Options(Config):\n    file: str = ''\n\n\n"
        '@register_method("leaky")\nclass Leaky(Method):\n    """Leak."""\n\n'
        "    Config = Options\n    signals = frozenset()\n\n"
        "    def loss(self, **given):\n"
        '        raise OSError(f"no {self.config.file} at https://me:pass@host/x with "\n'
        "                      f\"{os.environ['HF_TOKEN']} or hf_{'a' * 30}\")\n"
    )
    try:
        given = [f"leaky:file={desk.base}/private/data.csv,scratch", *desk.tiny]
        said = desk("run", "--plugin", str(plugin), "--methods", *given)
    finally:
        privacy._secrets_of_environment.cache_clear()
        forget_plug_ins()
    assert said.code == 1, said.text
    records = [path for path in desk.results.rglob("seed0-*.json") if path != desk.earlier]
    assert len(records) == 2
    for path in records:
        text = path.read_text(encoding="utf-8")
        for word in (secret, "hf_aaaa", "me:pass", str(desk.base), str(Path.home()), "private"):
            assert word not in text, (path.name, word)
    (leaky,) = [path for path in records if "leaky" in path.as_posix()]
    record = read_record(leaky)
    assert "data.csv at https://host/x with *** or ***" in record["error"]["message"]
    assert "mine.py" in record["error"]["traceback"]


@pytest.mark.parametrize(
    "text",
    [
        "cannot open /home/jane/thesis/data/x.parquet",
        "cannot open '/Users/jane doe/x.parquet'",
        "C:\\Users\\jane\\x.parquet is not there",
        "file:///home/jane/x.parquet",
        "~jane/x.parquet and ~/jane/x.parquet",
    ],
)
def test_error_message_keeps_no_folder_of_a_user(text: str) -> None:
    told = failure(OSError(text))["error"]
    assert "jane/" not in told["message"] and "/home" not in told["message"]
    assert "Users" not in told["message"] and "jane\\" not in told["message"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("/home/John Smith/secret project/t.safetensors@2d71", "…/t.safetensors@2d71"),
        ("hub:/home/John Smith/models/encoder", "hub:…/encoder"),
        ("/mnt/o'neil/x/y.py", "…/y.py"),
        ("hub:org/name", "hub:org/name"),
        (f"{privacy.PROJECT}/methods/kd.py", "methods/kd.py"),
    ],
)
def test_a_setting_that_is_a_path_keeps_its_last_component(value: str, told: str) -> None:
    assert privacy.public({"student": [value]}) == {"student": [told]}


def test_what_is_no_path_stays() -> None:
    for text in ("loss 3/4 of ~5/10", "a/b at 12 samples/s", "1e-3/step", "and/or"):
        assert privacy.scrub(text) == text


# No code is read from disk.

CODE = [*(ROOT / "bench").rglob("*.py"), *(ROOT / "methods").rglob("*.py")]
CODE += (ROOT / "baselines").rglob("*.py")


def calls() -> Iterator[tuple[str, str, dict[str, ast.expr]]]:
    """Yield where a function is called, its dotted name and its keywords."""
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                keywords = {word.arg: word.value for word in node.keywords if word.arg}
                yield f"{path.name}:{node.lineno}", ast.unparse(node.func), keywords


def false(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


@pytest.mark.parametrize(
    ("function", "fine"),
    [
        (r"torch\.load", lambda words: true(words.get("weights_only"))),
        (r"(np|numpy)\.load", lambda words: false(words.get("allow_pickle"))),
        (r"(np|numpy)\.save", lambda words: false(words.get("allow_pickle"))),
        (r"pickle\..*|joblib\..*|dill\..*|marshal\..*|shelve\..*", lambda words: False),
        (r"(pd|pandas)\.read_pickle|.*\.(to_pickle|read_pickle)", lambda words: False),
        (r"yaml\.(unsafe|full)_load.*", lambda words: False),
        (r"eval|exec|os\.system|os\.popen", lambda words: False),
        (r"subprocess\..*", lambda words: "shell" not in words),
        (r".*", lambda words: "trust_remote_code" not in words),
    ],
)
def test_no_call_runs_what_it_reads(
    function: str, fine: Callable[[dict[str, ast.expr]], bool]
) -> None:
    found = [(where, words) for where, name, words in calls() if re.fullmatch(function, name)]
    assert not [where for where, words in found if not fine(words)]


def test_nothing_imports_a_pickler() -> None:
    picklers = {"pickle", "_pickle", "dill", "joblib", "cloudpickle", "marshal", "shelve"}
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & picklers, path
