"""Tables in every format: what is escaped, what is marked, and whether TeX takes it."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from factory import failure, record, world

from bench.errors import BenchError
from bench.report import write_reports
from bench.report.content import Table, Value
from bench.report.formats import WRITERS, csv_table, html_table, inert, latex_escape, latex_table
from bench.report.select import Choice, load, render_choice
from bench.store import Record, write_record

NASTY = "<script>alert('x')</script> a_b & 50% $x^2$ #1 {y} ~z \\input{secret} 中 é |"
TABLE = Table(
    "scores",
    ["method", "test (%)"],
    [
        [Value(NASTY, bold=True), Value("80.00 ± 1.00", 0.8)],
        [Value("=cmd()", italic=True), Value("-")],
    ],
    title="T_1",
    source="Data: a & b.",
)


class Tags(HTMLParser):
    """Collects the tags of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


def test_html_holds_no_markup_of_a_name() -> None:
    parser = Tags()
    parser.feed(html_table(TABLE))
    assert "script" not in parser.tags
    assert parser.tags.count("td") == 2 and parser.tags.count("strong") == 2
    assert "&lt;script&gt;" in html_table(TABLE)


@pytest.mark.parametrize(
    "cell",
    [
        *["-", "+1.23", "-0.50 ± 0.10", "+3.72 (unpaired)", "-1.00 ± 0.20 (2/3 seeds)"],
        *["+37.39 [+34.69, +40.09], p = 0.001 (615 / 57)", "-0.67 to +0.65"],
    ],
)
def test_what_a_report_writes_itself_is_left_as_it_is(cell: str) -> None:
    assert inert(cell) == cell


@pytest.mark.parametrize(
    "cell", ["=1+1", "+cmd", "@x", "-1 (x)+HYPERLINK(1)", "+1 (2)+3 (4)", "-1+1", "\t=1"]
)
def test_a_formula_gets_an_apostrophe(cell: str) -> None:
    assert inert(cell) == f"'{cell}"


def test_csv_is_read_back_and_runs_no_formula() -> None:
    rows = list(csv.reader(io.StringIO(csv_table(TABLE))))
    assert rows[1] == [NASTY, "80.00 ± 1.00"]
    assert rows[2] == ["'=cmd()", "-"]
    assert [inert(cell) for cell in ("+4.00 ± 1.00", "-0.20", "+1 (unpaired)", "-")] == [
        *["+4.00 ± 1.00", "-0.20", "+1 (unpaired)", "-"]
    ]
    assert [inert(cell) for cell in ("+a()", "@x", "-1+2")] == ["'+a()", "'@x", "'-1+2"]


def test_latex_leaves_no_active_character() -> None:
    written = latex_escape(NASTY)
    for command in (r"\textbackslash{}", r"\textless{}", r"\_", r"\%", r"\$", r"\#", r"\&"):
        assert command in written
    rest = re.sub(r"\\[a-zA-Z]+\{\}|\\[&%$#_{}]|\{[\[\]]\}", "", written)
    assert not re.search(r"[\\&%$#_{}~^]", rest)
    assert written.isascii()
    assert latex_escape("\n a \t b") == "a b"


@pytest.mark.parametrize(
    ("given", "written"),
    [
        *[("é", "e"), ("Ǖ", "U"), ("ệ", "e"), ("n²", "n$^2$")],
        *[("≠", "U+2260"), ("½", "U+00BD"), ("10⁵", "10U+2075"), ("kd¹", "kdU+00B9")],
        *[("ﬁ", "U+FB01"), ("\x07", "U+0007"), ("中", "U+4E2D")],
    ],
)
def test_latex_drops_accents_and_changes_no_meaning(given: str, written: str) -> None:
    assert latex_escape(given) == written


def test_latex_has_the_structure_of_a_booktabs_table() -> None:
    lines = latex_table(TABLE).splitlines()
    places = [lines.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert places == sorted(places)
    body = lines[places[1] + 1 : places[2]]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in body] == [1, 1]
    assert all(row.endswith(r" \\") for row in body)
    assert body[0].startswith(r"\textbf{") and body[1].startswith(r"\emph{")


def nasty_records() -> list[Record]:
    names = ["scratch", "kd", NASTY, "$ {", "\\", "αβ–…±"]
    return [
        record("kd", seed, 0.7 + at / 50 + seed / 200, label=name, task=task)
        for task in ("a_1", "<script>")
        for at, name in enumerate(names)
        for seed in range(5)
    ] + [failure("fitnets", 0, "bad & worse_%", task="a_1")]


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nasty")
    for made in nasty_records():
        write_record(folder / "results", made)
    write_reports(folder / "results", folder / "out")
    return folder


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine here")
def test_all_tables_compile(nasty: Path, tmp_path: Path) -> None:
    for path in (nasty / "out" / "tables").glob("*.tex"):
        shutil.copy(path, tmp_path)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:].decode("utf-8", "replace")
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


def test_nothing_rendered_holds_live_markup(nasty: Path) -> None:
    for path in (nasty / "out").rglob("*"):
        if path.suffix in (".html", ".md", ".svg"):
            body = path.read_text(encoding="utf-8")
            assert "<script>alert" not in body, path
            assert str(nasty) not in body


def test_every_table_says_where_it_comes_from(nasty: Path) -> None:
    tables = [p for p in (nasty / "out" / "tables").glob("*.tex") if p.name != "all.tex"]
    assert len(tables) >= 5
    for path in tables:
        body = path.read_text(encoding="utf-8")
        caption = next(line for line in body.splitlines() if line.startswith(r"\caption"))
        for part in ("embedded source", "quick", "seeds 0, 1", "2025-03-01", "0123456789", "a cpu"):
            assert part in caption, (path.name, part)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    for made in world(seeds=5, tasks=2, methods=3)[0]:
        write_record(folder, made)
    return folder


def test_chosen_columns_in_the_chosen_order(plain: Path) -> None:
    choice = Choice(("amazon",), ("method", "gain", "p_scratch", "seeds"), "-gain", "csv")
    rows = list(csv.reader(io.StringIO(render_choice(load(plain), choice))))
    assert rows[0] == ["method", "gain over scratch (points)", "p against scratch (Holm)", "seeds"]
    gains = [float(row[1].split(" ")[0]) for row in rows[1:] if row[1] != "-"]
    assert gains == sorted(gains) and len(gains) == 3
    assert rows[-1][0] == "scratch"  # what has no value comes last, whichever the order


def test_several_tables_say_which_is_which(plain: Path) -> None:
    context = load(plain)
    titles = [f"{section.title}, {section.where}" for section in context.sections]
    assert len(titles) == 2
    written = render_choice(context, Choice(columns=("method", "test")))
    assert [line for line in written.splitlines() if line.startswith("### ")] == [
        f"### {title}" for title in titles
    ]
    rows = list(csv.reader(io.StringIO(render_choice(context, Choice(format="csv")))))
    assert [row[0] for row in rows if row] == ["table", *titles[:1] * 4, "table", *titles[1:] * 4]


def test_a_column_that_one_table_has_is_left_out_of_the_others(tmp_path: Path) -> None:
    for task in ("amazon", "imdb"):
        made = record("kd", 0, 0.5, task=task)
        if task == "imdb":
            made["metrics"]["best"]["later"] = dict(made["metrics"]["best"]["test"])
        write_record(tmp_path, made)
    for sort in ("", "later"):
        choice = Choice((), ("method", "later"), sort)
        heads = [
            line.count("|") - 1
            for line in render_choice(load(tmp_path), choice).splitlines()
            if line.startswith("| method")
        ]
        assert heads == [1, 2]


@pytest.mark.parametrize("column", ["test", "interval", "last", "later"])
def test_the_best_comes_first_where_smaller_is_better(tmp_path: Path, column: str) -> None:
    for name, score in (("kd", 0.5), ("rkd", 0.3), ("dkd", 0.4)):
        for seed in range(5):
            made = record(name, seed, score + seed / 1000, metric="rmse", direction="min")
            made["metrics"]["best"]["later"] = dict(made["metrics"]["best"]["test"])
            write_record(tmp_path, made)

    def order(sort: str) -> list[str]:
        written = render_choice(load(tmp_path), Choice((), ("method",), sort, "csv"))
        return written.split()[1:]

    assert order(column) == ["rkd", "dkd", "kd"]
    assert order(f"-{column}") == ["kd", "dkd", "rkd"]


@pytest.mark.parametrize("form", sorted(WRITERS))
def test_every_format_prints_every_task(plain: Path, form: str) -> None:
    written = render_choice(load(plain), Choice(format=form))
    assert written.count("fitnets") == 2


@pytest.mark.parametrize(
    ("choice", "said", "hint"),
    [
        (Choice(("amazn",)), "unknown task with records 'amazn'", "amazon"),
        (Choice(columns=("gian",)), "unknown column 'gian'", "gain"),
        (Choice(sort="-tset"), "unknown column 'tset'", "test"),
        (Choice(format="latx"), "unknown format 'latx'", "latex"),
    ],
)
def test_what_is_not_there_is_named(plain: Path, choice: Choice, said: str, hint: str) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        render_choice(load(plain), choice)
    assert f"'{hint}'" in caught.value.hint
