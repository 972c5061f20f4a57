"""The command line in this process, on folders of its own, beside results that must stay intact.

Every case of the table goes through :class:`Desk`, which notes what was printed.  To write the
table of ``docs/bad-input.md`` anew::

    BAD_INPUT_TABLE=docs/bad-input.md python -m pytest tests/bad_input
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from here import do_jobs_here
from processes import ROOT, Said, bench_here

PAGE = ROOT / "docs" / "bad-input.md"
RECORDS = ROOT / "tests" / "records"
TINY = (
    *["--tasks", "cifar10", "--seeds", "1", "--device", "cpu", "--set", "train_limit=16"],
    *["--set", "epochs=1", "--set", "teacher_recipe.epochs=1"],
    *["--set", "teacher=resnet8w8s2"],
    # or a processor without bfloat16 has a line of its own about that
    *["--set", "recipe.precision=float32", "--set", "teacher_recipe.precision=float32"],
)
# How the one clear line begins: the command line's own, an option parser's, a report's, ...
BEGINNINGS = ("error: ", "Error: ", "warning: ", "cannot be read: ", "note: ", "failed: ")
FOUND: list[tuple[str, str, int, str]] = []
LARGEST_LINE = 1000
ALIKE = 0.8  # a row and what is printed: parts of lines come from libraries and the system


class Desk:
    """Runs commands in an empty folder that holds the results of an earlier run.

    Attributes:
        base: the working directory.
        results: holds one earlier record.
        tiny: options of a run that takes a second.
    """

    tiny = TINY

    def __init__(self, base: Path, capture: Any, patch: pytest.MonkeyPatch, group: str) -> None:
        self.base, self.results = base, base / "results"
        self._capture, self._patch, self._group = capture, patch, group
        self.earlier = self.results / "quick" / "cifar10" / "kd" / "seed0-3e333a6b69c1.json"
        self.earlier.parent.mkdir(parents=True)
        shutil.copy(RECORDS / "schema-1.json", self.earlier)
        self._before = self.earlier.read_bytes()

    def __call__(self, *arguments: str) -> Said:
        """Run the command line with ``arguments``."""
        return bench_here(self._capture, self._patch, *arguments)

    def refuses(self, what: str, *arguments: str, says: Sequence[str], code: int = 2) -> str:
        """Run a command that must fail with one clear line holding ``says``; returns the line.

        Args:
            what: the bad input, for the table.
            arguments: of the command line.
            says: parts of the line.
            code: the exit status.
        """
        said = self(*arguments)
        assert said.code == code, said
        return self.tells(what, said, says)

    def tells(self, what: str, said: Said, says: Sequence[str]) -> str:
        """Return the one line of ``said`` that holds ``says``: short, printable, no traceback."""
        assert "Traceback" not in said.text, said.text
        lines = [line for line in said.text.splitlines() if not line.startswith("[")]  # progress
        found = [line for line in lines if all(part in line for part in says)]
        assert len(found) == 1, (says, said.text)
        assert len(found[0]) <= LARGEST_LINE and found[0].rstrip().isprintable()
        others = [line for line in lines if line.startswith(BEGINNINGS) and line not in found]
        assert not others, said.text
        self.note(what, said.code, found[0])
        return found[0]

    def note(self, what: str, code: int, line: str) -> None:
        """Keep a row of the table, and check that the page has it.

        The test's own folders are left out of it.
        """
        line = line.replace(f"{self.base}/", "").replace(f"{self.base.parent}/", "")
        line = re.sub(r"a{30,}", "aaa…", line)
        FOUND.append((self._group, what, code, re.sub(r"\s+", " ", line).strip()))
        if "BAD_INPUT_TABLE" not in os.environ:
            rows = [
                row for row in PAGE.read_text("utf-8").splitlines() if f"| {cell(what)} |" in row
            ]
            assert len(rows) == 1 and rows[0].endswith(f"| {code} |"), (what, rows)
            now = f"| {cell(what)} | `{FOUND[-1][3]}` | {code} |"
            assert alike(rows[0], now) >= ALIKE, (rows[0], now)

    def check(self) -> None:
        """Check that the earlier record is what it was and nothing half-written is left."""
        assert self.earlier.read_bytes() == self._before
        assert not list(self.results.rglob("*.tmp")) and not (self.results / ".leases").exists()


def alike(one: str, other: str) -> float:
    """Return how alike two rows are, 0 to 1, numbers and checksums apart."""
    plain = (re.sub(r"[0-9a-f]{8,}|\d+", "0", row) for row in (one, other))
    return difflib.SequenceMatcher(None, *plain, autojunk=False).ratio()


@pytest.fixture
def desk(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Desk]:
    base = tmp_path / "work"
    base.mkdir()
    for name in ("BENCH_DATA", "BENCH_CHECKPOINT_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(base)
    do_jobs_here(monkeypatch)
    made = Desk(base, capsys, monkeypatch, request.module.GROUP)
    yield made
    made.check()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table when asked to; each worker of a parallel run has but a part of it."""
    target = os.environ.get("BAD_INPUT_TABLE")
    if target and FOUND and not session.testsfailed and not hasattr(session.config, "workerinput"):
        Path(target).write_text(rendered(), encoding="utf-8")


def rendered() -> str:
    """Return the table as a page."""
    lines = [
        "# Bad input and what is said about it",
        "",
        f"Written by `BAD_INPUT_TABLE=docs/bad-input.md python -m pytest tests/bad_input`: "
        f"{len(FOUND)} cases, each run through the command line beside the record of an earlier "
        "run, which stays as it was. Parts of lines that come from libraries or the system change "
        "with them. Exit status 2: refused; 1: some of it failed, the rest was done; "
        "0: made good, and said so.",
    ]
    for group in dict.fromkeys(row[0] for row in FOUND):
        lines += [
            "",
            f"## {group}",
            "",
            "| input | what it printed | exit |",
            "| :-- | :-- | --: |",
        ]
        for _, what, code, line in (row for row in FOUND if row[0] == group):
            lines.append(f"| {cell(what)} | {cell(line)} | {code} |")
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Return ``text`` as code in a Markdown table."""
    return "`{}`".format(text.replace("`", "'").replace("|", "\\|"))
