"""Ablations in the report: found in the records, tabled against the default, drawn as a grid."""

from __future__ import annotations

import math
import pickle
import random
import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from factory import context, record

from bench.report import write_reports
from bench.report.ablation import Ablation, ablations
from bench.report.ablation_page import ablation_parts, figure_name, options_text
from bench.report.content import Part, Table
from bench.report.figures.ablation import draw
from bench.report.formats import markdown
from bench.report.parts import _own_name, build
from bench.stats import difference_interval
from bench.store import Record, write_record

DEFAULT = {"parts": 4, "beta": 1.0, "rotation": True, "projection": "pca"}


def configured(options: dict[str, Any], scores: list[float | None], **changes: Any) -> list[Record]:
    """Return one record a seed of the method ``mine`` with ``options``; None is a failed cell."""
    told = ", ".join(f"{name}={options[name]}" for name in sorted(options))
    made = []
    for seed, score in enumerate(scores):
        one = record(
            changes.get("method", "mine"),
            seed,
            score,
            label=f"mine ({told})" if options else "mine",
            status="ok" if score is not None else "failed",
            error=None if score is not None else {"class": "E", "message": "no <b> luck"},
            **{name: value for name, value in changes.items() if name != "method"},
        )
        one["cell"]["config"] = {**DEFAULT, **options}
        made.append(one)
    return made


def grid(**changes: Any) -> list[Record]:
    """Return a full 2 × 3 grid over kd, one part switched off, and an oracle."""
    records = [record("kd", seed, 0.80 + seed / 100, **changes) for seed in range(3)]
    records += [record("scratch", seed, 0.70, **changes) for seed in range(3)]
    for parts in (4, 8):
        for beta in (0.5, 1.0, 2.0):
            options = {} if (parts, beta) == (4, 1.0) else {"parts": parts, "beta": beta}
            base = 0.80 + (parts - 4) / 100 - abs(beta - 1) / 50
            records += configured(options, [base + seed / 100 for seed in range(3)], **changes)
    records += configured({"rotation": False}, [0.75, 0.78, 0.82], **changes)
    records += configured({"projection": "oracle"}, [0.95] * 3, kind="oracle", **changes)
    return records


def found(records: list[Record]) -> list[Ablation]:
    return ablations(context(records))


def part(records: list[Record]) -> Part:
    (only,) = ablation_parts(context(records))
    return only


def rows(page: str) -> dict[str, list[str]]:
    """Return the table's cells by their first."""
    split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line[:1] == "|"]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in split}


def filled(root: Path, records: list[Record]) -> Path:
    for each in records:
        write_record(root / "results", each)
    return root / "results"


def page_of(records: list[Record]) -> str:
    return "\n".join(markdown([part(records)]))


def test_differences_to_the_default_by_hand() -> None:
    table = rows(page_of(grid()))
    assert list(table)[:3] == ["configuration", ":" + 31 * "-", "default"]
    assert table["default"] == ["81.00 ± 1.00", "-", "-", "0.00 ± 0.00", "3"]
    # −5, −3, 0 points to 80, 81, 82: mean −2.67, sd 2.52, t(0.975, 2) = 4.303
    mean, bounds = table["rotation=off"][1:3]
    half = 4.302653 * math.sqrt(19 / 3) / math.sqrt(3)
    assert mean == "-2.67"
    assert bounds == f"{-8 / 3 - half:+.2f} to {-8 / 3 + half:+.2f}"
    assert table["beta=0.5, parts=8"][1] == "+3.00"
    assert table["parts=8"][3] == "+4.00 ± 0.00"


def test_options_that_say_a_default_are_the_same_configuration() -> None:
    records = grid()
    records += configured({"beta": 1.0, "parts": 4}, [0.8, 0.81, 0.82])  # the default, spelt out
    (ablation,) = found(records)
    assert len(ablation.configurations) == 8
    assert ablation.default is not None and ablation.default.label == "mine"


def test_records_that_know_no_teacher_have_ablations_all_the_same() -> None:
    records = grid()
    (told,) = ablations(context(records))
    for made in records:
        made["cell"]["teacher_seed"] = None
    assert ablations(context(records)) == [told]
    assert ablations(context([record("scratch")])) == []
    records[0]["cell"]["teacher_seed"] = 0  # of one alone it is known
    assert ablations(context(records)) == [told]


def test_rows_of_a_second_teacher_are_no_configuration() -> None:
    records = grid()
    again = configured({}, [0.1, 0.1, 0.1])
    for made in again:
        made["cell"]["teacher_seed"] = 1
        made["key"] = made["key"][::-1]
    (one,), (other,) = (ablations(context(found)) for found in (records, [*records, *again]))
    assert one == other


def test_rows_are_in_the_order_of_their_numbers() -> None:
    records = configured({}, [0.8])
    for beta in (10.0, 2.0, 0.5):
        records += configured({"beta": beta}, [0.8])
    records += configured({"projection": "random"}, [0.8])
    names = list(rows(page_of(records)))[2:]
    assert names == ["default", "beta=0.5", "beta=2", "beta=10", "projection=random"]


def test_an_oracle_is_marked_and_no_part_of_the_grid() -> None:
    records = grid()
    assert "**projection=oracle (oracle)**" in rows(page_of(records))
    (ablation,) = found(records)
    (only,) = ablation.grids()
    assert len(only.gains) == 6
    assert max(gain.mean for gain in only.gains.values()) < 0.1


def test_the_grid_holds_gains_over_kd_or_else_over_scratch() -> None:
    records = grid()
    (ablation,) = found(records)
    (only,) = ablation.grids()
    assert (only.row, only.column) == ("parts", "beta")
    assert (only.rows, only.columns) == ((4.0, 8.0), (0.5, 1.0, 2.0))
    assert only.default == (4.0, 1.0)
    assert only.gains[8.0, 0.5].mean == pytest.approx(0.03)
    assert (ablation.reference, only.gains[8.0, 0.5].pairs) == ("kd", 3)
    (other,) = found([each for each in records if each["cell"]["label"] != "kd"])
    assert other.reference == "scratch"
    assert next(iter(other.grids())).gains[4.0, 1.0].mean == pytest.approx(0.11)


def test_without_any_reference_there_is_a_table_and_no_heat_map() -> None:
    records = [each for each in grid() if each["cell"]["method"] == "mine"]
    (table,) = part(records).tables
    assert part(records).pictures == ()
    assert not any("gain over" in name for name in table.head)
    assert {len(row) for row in table.rows} == {len(table.head)}


def test_a_cross_of_two_options_is_no_grid() -> None:
    records = [record("kd", seed, 0.8) for seed in range(2)]
    records += configured({}, [0.8, 0.8])
    for options in ({"beta": 0.5}, {"beta": 2.0}, {"parts": 2}, {"parts": 8}):
        records += configured(options, [0.8, 0.8])
    (ablation,) = found(records)
    assert ablation.grids() == []


def test_a_switch_is_no_number() -> None:
    records = [record("kd", seed, 0.8) for seed in range(2)]
    for rotation in (True, False):
        for beta in (1.0, 2.0):
            records += configured({"rotation": rotation, "beta": beta}, [0.8, 0.8])
    assert found(records) == []  # no default to hold them against, and no grid


def test_failed_cells_are_said_and_leave_a_hole() -> None:
    records = [
        each for each in grid() if each["cell"]["config"] != {**DEFAULT, "parts": 8, "beta": 2.0}
    ]
    records += configured({"parts": 8, "beta": 2.0}, [None, None, None])
    page = page_of(records)
    assert rows(page)["beta=2, parts=8"][0] == "failed: no &lt;b&gt; luck"
    (ablation,) = found(records)
    (only,) = ablation.grids()
    assert (8.0, 2.0) not in only.gains
    drawn = draw(ablation, only)
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert len(texts) == 5


def test_a_cell_with_fewer_seeds_says_how_many() -> None:
    records = [
        each
        for each in grid()
        if not (each["cell"]["config"].get("parts") == 8 and each["cell"]["seed"] == 2)
    ]
    (ablation,) = found(records)
    (only,) = ablation.grids()
    texts = [text.get_text() for text in draw(ablation, only).axes[0].texts]
    assert sum("(n=2)" in text for text in texts) == 3
    assert rows(page_of(records))["parts=8"][-1] == "2/3"


def test_colours_are_centred_on_zero() -> None:
    (ablation,) = found(grid())
    (only,) = ablation.grids()
    figure = draw(ablation, only)
    low, high = figure.axes[1].get_ylim()  # of the colour bar
    assert low == pytest.approx(-high)
    middle = matplotlib.colormaps["RdBu"](0.5)
    zero = next(patch for patch in figure.axes[0].patches if patch.get_xy() == (0.5, -0.5))
    assert zero.get_facecolor() == pytest.approx(middle, abs=0.01)  # the default: gain 0 over kd


def test_few_configurations_are_no_ablation() -> None:
    assert found(configured({}, [0.8]) + configured({"beta": 2.0}, [0.8])) == []


def test_tasks_and_presets_have_tables_of_their_own() -> None:
    records = [*grid(), *grid(task="imdb"), *grid(overrides={"epochs": 1})]
    assert len(found(records)) == 3
    names = [block.name for block in (*part(records).tables, *part(records).pictures)]
    assert len(names) == len(set(names)) == 6  # of each a table and a grid


def test_the_report_links_them_and_is_the_same_twice(tmp_path: Path) -> None:
    records = grid()
    shuffled = records[:]
    random.Random(3).shuffle(shuffled)
    outs = []
    for name, order in (("one", records), ("two", shuffled)):
        for each in order:
            write_record(tmp_path / name, each)
        summary = write_reports(tmp_path / name, tmp_path / f"{name}-out")
        folder = tmp_path / f"{name}-out"
        outs.append({path.relative_to(folder): path.read_bytes() for path in summary.paths})
    assert outs[0] == outs[1]
    out = tmp_path / "one-out"
    page = (out / "leaderboard.md").read_text(encoding="utf-8")
    assert "## Ablations" in page and "### mine on amazon · embedded snippets" in page
    links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", page)
    (figure,) = (link for link in links if "/ablation-mine-parts-beta-amazon-" in link)
    for link in (figure, figure.replace(".svg", ".png"), *links):
        assert (out / link).is_file()
    (table,) = out.glob("tables/ablation-mine-amazon-*.csv")
    assert "rotation=off" in table.read_text(encoding="utf-8")
    index = (out / "index.html").read_text(encoding="utf-8")
    assert ">Ablations</h2>" in index and "rotation=off</th>" in index
    assert write_reports(tmp_path / "one", out).written == ()


def test_names_cannot_leave_the_folder_or_the_page(tmp_path: Path) -> None:
    records = grid(task="../../<x>")
    summary = write_reports(filled(tmp_path, records), tmp_path / "out")
    shown = [path for path in summary.paths if "ablation" in path.name]
    assert len(shown) == 5  # a table in three formats, a figure in two
    for path in summary.paths:
        assert path.resolve().is_relative_to(tmp_path / "out") and "<" not in path.name
        if path.suffix in (".md", ".html"):
            assert "<x>" not in path.read_text(encoding="utf-8")


def test_names_too_long_for_a_file_stay_apart() -> None:
    records = grid(task="x" * 300 + "a") + grid(task="x" * 300 + "b")
    names = [block.name for block in (*part(records).tables, *part(records).pictures)]
    assert len(set(names)) == 4
    assert max(map(len, names)) < 200


def test_tables_and_pictures_of_one_name_are_told_apart() -> None:
    records = [*grid(task="a/b"), *grid(task="a b")]
    parts = build(context(records))
    for names in (
        [table.name for each in parts for table in each.tables],
        [picture.name for each in parts for picture in each.pictures],
    ):
        assert len(names) == len(set(names))
    assert "a-b-quick-embedded-cpu-2" in {table.name for each in parts for table in each.tables}


def test_a_numbered_name_is_not_given_twice() -> None:
    taken: set[str] = set()
    names = [_own_name(Table(name, [], []), taken).name for name in ("x", "x", "x-2", "X")]
    assert names == ["x", "x-2", "x-2-2", "X-3"]


def test_every_row_is_as_long_as_the_head() -> None:
    for records in (grid(), [each for each in grid() if each["cell"]["method"] == "mine"]):
        (table,) = part(records + configured({"beta": 9.0}, [None, None])).tables
        assert {len(row) for row in table.rows} == {len(table.head)}


def test_a_default_without_a_result_still_heads_its_table() -> None:
    records = [
        each
        for each in grid()
        if each["cell"]["method"] != "mine" or each["cell"]["config"] != DEFAULT
    ]
    records += configured({}, [None, None, None])
    table = rows(page_of(records))
    assert table["default"] == ["failed: no &lt;b&gt; luck", "-", "-", "-", "0/3"]
    assert table["parts=8"][1:3] == ["-", "-"]  # nothing to hold it against
    assert table["parts=8"][3] == "+4.00 ± 0.00"


def test_results_of_others_have_tables_of_their_own() -> None:
    theirs = grid()
    for each in theirs:
        each["external"] = {"origin": "A *Paper*"}
        each["key"] = f"theirs-{each['key']}"
        if each["status"] == "ok" and each["cell"]["method"] == "mine":
            each["metrics"]["best"]["test"]["accuracy"] += 0.05
    records = [*grid(), *theirs]
    ours, other = found(records)
    assert ours.gain(ours.configurations[0]).mean == pytest.approx(0.0)  # type: ignore[union-attr]
    assert other.gain(other.configurations[0]).mean == pytest.approx(0.05)  # type: ignore[union-attr]
    headings = [line for line in page_of(records).splitlines() if line.startswith("### ")]
    assert [("external: A \\*Paper\\*" in line) for line in headings] == [False, True]
    assert figure_name(ours, ours.grids()[0]) != figure_name(other, other.grids()[0])


def test_a_method_set_apart_is_marked_and_still_has_a_default() -> None:
    records = grid()
    for each in records:
        if each["cell"]["method"] == "mine":
            each["cell"]["not_like_for_like"] = "has a teacher of its own"
    assert {"default †", "rotation=off †", "**projection=oracle (oracle) †**"} <= rows(
        page_of(records)
    ).keys()


def test_records_without_options_are_no_ablation() -> None:
    records = grid()
    for each in records:
        each["cell"]["config"] = None if each["cell"]["seed"] else ["odd"]
    assert found(records) == []
    assert list(ablation_parts(context(records))) == []


def test_pictures_can_be_sent_to_another_process() -> None:
    (picture,) = part(grid()).pictures
    again = pickle.loads(pickle.dumps(picture))  # noqa: S301
    assert again.draw().axes[0].get_xlabel() == "beta"


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("seeds", [1, 2, 5, 6])
def test_intervals_are_those_of_the_tables_of_differences(seeds: int, direction: str) -> None:
    better = 1 if direction == "max" else -1
    lead = [0.01, 0.03, -0.02, 0.05, 0.02, 0.0][:seeds]
    changes = {"metric": "rmse", "direction": direction}
    records = configured({}, [0.5] * seeds, **changes)
    records += configured({"beta": 2.0}, [0.5 + better * each for each in lead], **changes)
    records += configured({"beta": 4.0}, [0.5] * seeds, **changes)
    bounds = difference_interval(lead)
    told = f"{bounds.low:+.3f} to {bounds.high:+.3f}" if bounds else "-"
    assert rows(page_of(records))["beta=2"][2] == told


def test_options_in_words() -> None:
    assert options_text({"b": 2.0, "a": False, "c": "pca"}) == "a=off, b=2, c=pca"
