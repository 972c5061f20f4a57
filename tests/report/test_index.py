"""The page: in a real browser where there is one, and as text everywhere."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factory import context, cost, failure, learned, record, world

from bench.report import write_reports
from bench.report.cards import read_cards, read_file
from bench.report.content import Context
from bench.report.costs import collect_costs, usable_costs
from bench.report.frame import collect
from bench.report.index import render_index
from bench.report.parts import build
from bench.store import Record, write_record

SCRIPT = "<script>window.hacked = 1</script>"
ATTRIBUTE = '"><img src=x onerror="window.hacked = 1">'


def records() -> tuple[list[Record], list[Record]]:
    made, costs = world(seeds=5, tasks=2, methods=3)
    made += [learned(record("kd", seed, 0.5 + seed / 100, label=SCRIPT)) for seed in range(5)]
    made += [record("kd", 0, 0.5, label=ATTRIBUTE, task="</script><b>", preset="small")]
    made += [failure("fitnets", 9, SCRIPT), record("mine", 0, 0.9, device="cuda")]
    theirs = record("kd", 0, 0.99)
    theirs["external"] = {"origin": "Some <b>Paper</b>"}
    return [*made, theirs], [*costs, cost("kd", "live", 0.4, task="imdb")]


def at_two_rates() -> list[Record]:
    """Return a task at two learning rates, of a name without a place to break it."""
    made = []
    for name, rate, seed in itertools.product(("scratch", "kd"), (0.1, 0.2), range(2)):
        changed = {"recipe.learning_rate": str(rate)}
        one = record(
            name, seed, 0.5, task="cifar10:imbalance=100:teacher_data=all", overrides=changed
        )
        one["cell"]["preset_values"] = {"recipe": {"learning_rate": rate}}
        made.append(one)
    return made


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    made, costs = records()
    for each in [*made, *at_two_rates()]:
        write_record(folder / "results", each)
    for at, each in enumerate(costs):
        (folder / "results" / f"{at}.cost.json").write_text(json.dumps(each), encoding="utf-8")
    write_reports(folder / "results", folder / "out")
    return folder / "out" / "index.html"


def test_the_page_stands_alone_and_names_no_machine(index: Path) -> None:
    page = index.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "default-src 'none'" in page
    assert str(index.parent.parent) not in page
    assert page.count("<script") == 2  # the data and the script
    assert '"src=x' not in page and "<img src=x" not in page


def test_the_data_in_the_page_are_json(index: Path) -> None:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>',
        index.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert found
    data = json.loads(found.group(1))
    labels = {card["label"] for card in data["cards"]}
    assert {SCRIPT, ATTRIBUTE} <= labels
    (kd,) = [c for c in data["cards"] if c["label"] == "kd" and "amazon ·" in c["where"]][:1]
    assert len(kd["runs"]) == 5 and len(kd["runs"][0]["curve"]) == 6


def test_cards_of_all_built_in_methods_are_read_without_importing_them() -> None:
    cards = read_cards()
    kd = cards["kd"]
    assert (kd.title, kd.paper) == ("KD", "Hinton, Vinyals and Dean 2015, arXiv 1503.02531")
    assert kd.needs == ("the teacher's logits",)
    assert any("KL(softmax(z_t/T)" in paragraph for paragraph in kd.details)
    assert kd.confirmed and kd.choices and kd.origin.startswith("methods/kd.py:")
    assert cards["scratch"].needs == () and cards["tfidf"].needs == ()
    assert "its hidden states" in cards["fitnets"].needs


def test_a_card_of_an_odd_file_is_still_a_card(tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_text(
        "title = 'x'\n@register_method('odd')\nclass Odd(Method):\n"
        "    signals = compute()\n    card = Card(title=title, paper='P 2020')\n",
        encoding="utf-8",
    )
    (card,) = read_file(path, "methods")
    assert (card.name, card.title, card.paper, card.needs) == ("odd", "odd", "P 2020", ())


def browser_path() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = browser_path()
    if path is None:
        pytest.skip("no Chromium here (CHROMIUM names one)")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=[(1280, 900, "light"), (390, 844, "dark")], ids=["desktop", "phone"])
def page(browser: Any, index: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Open the page and, at the end, check that it was quiet, alone and not overrun."""
    width, height, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    opened = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.goto(index.as_uri())
    yield opened
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [index.as_uri()]
    assert opened.evaluate("window.hacked") is None
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def column(page: Any, name: str) -> list[str]:
    """Return the texts of the column headed ``name`` of the rows that are shown."""
    heads = page.locator("#scores thead th").all_inner_texts()
    at = [head.split(" ▲")[0].split(" ▼")[0].strip() for head in heads].index(name) + 1
    found: list[str] = page.locator(
        f"#scores tbody tr:not([hidden]) > :nth-child({at})"
    ).all_inner_texts()
    return found


def test_sorting(page: Any) -> None:
    head = page.get_by_role("button", name="gain over scratch", exact=True)
    head.click()
    gains = [float(text.split(" ")[0]) for text in column(page, "gain over scratch") if text != "-"]
    assert gains == sorted(gains, reverse=True) and len(gains) > 4
    assert column(page, "gain over scratch")[-1] == "-"
    assert page.locator("th[aria-sort=descending]").count() == 1
    head.focus()
    page.keyboard.press("Enter")
    assert [
        float(t.split(" ")[0]) for t in column(page, "gain over scratch") if t != "-"
    ] == sorted(gains)
    assert column(page, "gain over scratch")[-1] == "-"
    page.get_by_role("button", name="method", exact=True).click()
    names = [name.lower() for name in column(page, "method")]
    assert names == sorted(names)


def test_filtering(page: Any) -> None:
    every = len(column(page, "method"))
    for field, value in (
        ("preset", "small"),
        ("device", "cuda"),
        ("task", "amazon-5"),
    ):
        page.locator(f"select[data-field={field}]").select_option(value)
        assert set(column(page, field)) == {value}
        assert f"of {every} rows" in page.locator("#count").inner_text()
        page.get_by_role("button", name="Clear").click()
        page.get_by_text(f"{every} of {every} rows").wait_for()
    page.locator("#search").fill("fitnets")
    assert all("fitnets" in name for name in column(page, "method"))
    page.locator("#search").fill("nothing like it")
    assert column(page, "method") == []


def test_external_rows_are_marked_and_can_be_filtered(page: Any) -> None:
    page.locator("select[data-field=origin]").select_option("this project")
    assert not any("external" in name for name in column(page, "method"))
    page.locator("select[data-field=origin]").select_option("Some <b>Paper</b>")
    assert column(page, "method") == ["kd external: Some <b>Paper</b>"]


def test_a_method_card_opens(page: Any) -> None:
    page.locator("#scores tbody th a", has_text=re.compile("^kd$")).first.click()
    card = page.locator("details.card[open]")
    card.wait_for()
    shown = card.inner_text()
    for part in ("Hinton", "KL(softmax(z_t/T)", "Needs", "the teacher's logits", "Chosen here"):
        assert part in shown
    assert "A training step takes" in shown


def test_a_run_card_opens_and_closes_by_keyboard(page: Any) -> None:
    button = page.get_by_role("button", name="Runs of kd on amazon", exact=True).first
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    assert dialog.locator("polyline").count() == 5
    assert dialog.locator("tbody tr").count() == 5
    dialog.get_by_text("Environment").click()
    assert "2.9.0" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.textContent") == "runs"


def test_a_hostile_name_is_text_on_every_card(page: Any) -> None:
    page.locator("#search").fill("window.hacked")
    assert sorted(column(page, "method")) == sorted([SCRIPT, ATTRIBUTE])
    for button in page.locator("#scores tbody tr:not([hidden]) button").all():
        button.click()
        assert "window.hacked" in page.locator("#runs-title").inner_text()
        page.keyboard.press("Escape")


def test_the_theme_can_be_chosen(page: Any) -> None:
    def paper() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    before = paper()
    page.locator("#theme").click()
    assert paper() != before
    page.locator("#theme").click()
    assert paper() == before


def test_a_screen_reader_finds_its_way(page: Any) -> None:
    assert page.locator("h1").count() == 1
    assert page.get_by_role("navigation").count() == 1
    assert page.get_by_role("main").count() == 1
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    unnamed = page.locator("input, select, button").evaluate_all(
        "all => all.filter(e => !(e.labels?.length || e.textContent.trim() || e.ariaLabel)).length"
    )
    assert unnamed == 0
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(e => Number(e.tagName[1]))")
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_what_all_rows_have_in_common_is_said_once() -> None:
    records, costs = world(seeds=2, tasks=2, methods=3)
    failed = failure("kd", 9, "out of memory")
    failed["status"] = "oom"
    made = Context(
        collect([*records, failed]).frame, collect_costs(usable_costs(costs)[0]), [*records, failed]
    )
    parts = build(made)
    page = render_index(made, parts, {p.name: b"" for part in parts for p in part.pictures})
    assert "All rows: preset quick, source embedded, device cpu." in page
    assert "1 failed" in page and '<th scope="col">preset</th>' not in page


def test_the_card_says_what_a_generator_is_worth() -> None:
    made = [record("tgt", seed, 0.8) for seed in range(2)]
    judged = {"kept": 0.981, "real": 0.874, "reconstructed": 0.857, "samples": 2000}
    made[0]["generator"] = {"name": "autoencoder <b>", "judged": judged}
    made[1]["generator"] = {"name": "broken", "judged": {"kept": "much"}}
    shown = context(made)
    page = render_index(shown, [], {})
    assert page.count("<dt>Generator</dt>") == 1 and "broken" not in page
    assert "autoencoder &lt;b&gt; on amazon · embedded snippets: the teacher keeps 98%" in page
    assert "(87.4% on real inputs, 85.7% on theirs, 2,000 validation samples)" in page
