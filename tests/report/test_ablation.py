"""Ablations in the report: found in the records, tabled against the default, drawn as a grid."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from bench.report.heatmap import draw_heatmap
from factory import record

from bench.report import write_reports
from bench.report.ablation import Ablation, ablations, interval
from bench.report.ablation_page import PAGE, ablation_files, options_text
from bench.report.frame import collect
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
    return ablations(collect(records).frame, records)


def rows(page: str) -> dict[str, list[str]]:
    """Return the table's cells by their first."""
    split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line[:1] == "|"]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in split}


def page_of(records: list[Record]) -> str:
    return ablation_files(collect(records).frame, records)[PAGE].decode()


def test_differences_to_the_default_by_hand() -> None:
    table = rows(page_of(grid()))
    assert list(table)[:3] == ["configuration", ":------------------------", "default"]
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


def test_an_oracle_is_marked_and_no_part_of_the_grid() -> None:
    records = grid()
    assert "projection=oracle **oracle**" in rows(page_of(records))
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
    files = ablation_files(collect(records).frame, records)
    assert list(files) == [PAGE]
    assert "gain over" not in files[PAGE].decode().split("<sub>")[0].split("\n\n")[-2]


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
    drawn = draw_heatmap(ablation, only)
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
    texts = [text.get_text() for text in draw_heatmap(ablation, only).axes[0].texts]
    assert sum("(n=2)" in text for text in texts) == 3
    assert rows(page_of(records))["parts=8"][-1] == "2/3"


def test_colours_are_centred_on_zero() -> None:
    (ablation,) = found(grid())
    (only,) = ablation.grids()
    figure = draw_heatmap(ablation, only)
    low, high = figure.axes[1].get_ylim()  # of the colour bar
    assert low == pytest.approx(-high)
    middle = matplotlib.colormaps["RdBu"](0.5)
    zero = next(patch for patch in figure.axes[0].patches if patch.get_xy() == (0.5, -0.5))
    assert zero.get_facecolor() == pytest.approx(middle, abs=0.01)  # the default: gain 0 over kd


def test_few_configurations_are_no_ablation() -> None:
    assert found(configured({}, [0.8]) + configured({"beta": 2.0}, [0.8])) == []


def test_tasks_and_presets_have_tables_of_their_own() -> None:
    records = [*grid(), *grid(task="imdb"), *grid(overrides={"epochs": 1})]
    files = ablation_files(collect(records).frame, records)
    assert len(found(records)) == 3
    assert len(files) == 1 + 3 * 2  # a page, and each grid as svg and png


def test_the_report_links_them_and_is_the_same_twice(tmp_path: Path) -> None:
    records = grid()
    shuffled = records[:]
    random.Random(3).shuffle(shuffled)
    outs = []
    for name, order in (("one", records), ("two", shuffled)):
        for each in order:
            write_record(tmp_path / name, each)
        summary = write_reports(tmp_path / name, tmp_path / f"{name}-out")
        outs.append({path.name: path.read_bytes() for path in summary.paths})
    assert outs[0] == outs[1]
    assert len(outs[0]) == 6
    out = tmp_path / "one-out"
    assert f"[{PAGE}]({PAGE})" in (out / "leaderboard.md").read_text(encoding="utf-8")
    for link in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", (out / PAGE).read_text(encoding="utf-8")):
        assert (out / link).is_file()
    assert write_reports(tmp_path / "one", out).written == ()


def test_names_cannot_leave_the_folder_or_the_page(tmp_path: Path) -> None:
    records = grid(task="../../<x>")
    files = ablation_files(collect(records).frame, records)
    assert all(".." not in Path(name).parts and "<" not in name for name in files)
    assert "<x>" not in files[PAGE].decode()


def test_interval_needs_two_seeds() -> None:
    assert interval([0.1]) is None
    low, high = interval([0.1, 0.3]) or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(0.2)
    assert (high - low) / 2 == pytest.approx(12.7062 * 0.1414214 / math.sqrt(2), rel=1e-4)


def test_options_in_words() -> None:
    assert options_text({"b": 2.0, "a": False, "c": "pca"}) == "a=off, b=2, c=pca"
