"""One task at several learning rates: chosen on validation, from the same rates for all."""

from __future__ import annotations

import pytest
from factory import record

from bench.report.content import Context, Table, Text
from bench.report.frame import collect
from bench.report.parts import build
from bench.report.rates import Rates, rate_families
from bench.store import Record


def at(
    label: str,
    rate: float,
    validation: float,
    test: float,
    *,
    seeds: int = 3,
    default: bool = False,
    **changes: object,
) -> list[Record]:
    """Return runs at ``rate``: set for the task, or (``default``) the preset's own."""
    overrides = dict(changes.pop("overrides", {}))  # type: ignore[call-overload]
    if not default:
        overrides["recipe.learning_rate"] = str(rate)
    made = []
    for seed in range(seeds):
        shift = (seed - 1) / 100
        one = record(label, seed, test + shift, overrides=overrides, **changes)  # type: ignore[arg-type]
        metric = one["task"]["metric"]
        one["cell"]["preset_values"] = {"recipe": {"learning_rate": rate}}
        one["metrics"]["best"]["validation"] = {metric: validation + shift}
        made.append(one)
    return made


@pytest.fixture
def grid() -> list[Record]:
    """Two methods at two rates; KD's test score is best where its validation score is not."""
    return [
        *at("scratch", 0.1, 0.40, 0.41),
        *at("scratch", 0.4, 0.50, 0.51),
        *at("kd", 0.1, 0.55, 0.53),
        *at("kd", 0.4, 0.52, 0.60),
    ]


def context(records: list[Record]) -> Context:
    return Context(collect(records).frame)


def family(records: list[Record]) -> Rates:
    (found,) = rate_families(context(records).sections)
    return found


def table(records: list[Record], name: str) -> Table | None:
    found = [t for part in build(context(records)) for t in part.tables if t.name.startswith(name)]
    return found[0] if found else None


def rows(found: Table | None) -> dict[str, list[str]]:
    assert found is not None
    return {row[0].text: [value.text for value in row[1:]] for row in found.rows}


def test_the_rate_is_chosen_on_validation_whatever_the_test_says(grid: list[Record]) -> None:
    shown = rows(table(grid, "rates"))
    assert shown["scratch"][:4] == ["41.00 ± 1.00", "51.00 ± 1.00", "0.4", "51.00 ± 1.00"]
    assert shown["kd"][:4] == ["53.00 ± 1.00", "60.00 ± 1.00", "0.1", "53.00 ± 1.00"]
    assert shown["kd"][4:6] == ["+2.00 ± 0.00", "[+2.00, +2.00]"]
    assert shown["scratch"][6] == "-2.00 ± 0.00"


def test_rates_at_an_end_of_the_range_are_named(grid: list[Record]) -> None:
    def notes(records: list[Record]) -> list[str]:
        blocks = [block for part in build(context(records)) for block in part.blocks]
        return [
            b.text for b in blocks if isinstance(b, Text) and b.text.startswith("Best at an end")
        ]

    (note,) = notes(grid)
    assert note.endswith("beyond: the lowest rate for kd; the highest rate for scratch.")
    between = [each for label in ("scratch", "kd") for each in at(label, 0.2, 0.9, 0.9)]
    wider = [each for label in ("scratch", "kd") for each in at(label, 0.8, 0.1, 0.1)]
    assert notes([*grid, *between, *wider]) == []


def test_of_equal_rates_the_lowest_is_taken() -> None:
    same = [*at("kd", 0.4, 0.5, 0.6), *at("kd", 0.1, 0.5, 0.7)]
    chosen = family(same).chosen("kd")
    assert chosen is not None and chosen[0].learning_rate == 0.1


def test_a_loss_is_better_where_it_is_lower() -> None:
    loss = {"metric": "nll", "direction": "min"}
    records = [*at("kd", 0.1, 1.5, 1.4, **loss), *at("kd", 0.4, 1.2, 1.9, **loss)]
    chosen = family(records).chosen("kd")
    assert chosen is not None and chosen[0].learning_rate == 0.4


def test_a_row_that_lacks_a_rate_or_a_seed_has_no_choice(grid: list[Record]) -> None:
    some = [
        *at("dkd", 0.4, 0.9, 0.9),
        *at("rkd", 0.1, 0.9, 0.9),
        *at("rkd", 0.4, 0.9, 0.9, seeds=2),
    ]
    shown = rows(table([*grid, *some], "rates"))
    assert list(shown) == ["kd", "scratch", "dkd", "rkd"]
    assert shown["dkd"] == ["-", "90.00 ± 1.00", *["-"] * 6]
    assert shown["rkd"][2:] == ["-"] * 6


def test_the_presets_own_rate_is_one_of_them(grid: list[Record]) -> None:
    more = [*at("scratch", 0.2, 0.45, 0.46, default=True), *at("kd", 0.2, 0.6, 0.6, default=True)]
    found = family([*grid, *more])
    assert [section.learning_rate for section in found.sections] == [0.1, 0.2, 0.4]
    chosen = found.chosen("kd")
    assert chosen is not None and chosen[0].settings == []


def test_tables_that_differ_in_more_are_no_family() -> None:
    records = [*at("kd", 0.1, 0.5, 0.5), *at("kd", 0.4, 0.5, 0.5, overrides={"epochs": "3"})]
    assert rate_families(context(records).sections) == []
    assert table(records, "rates") is None


def test_overview_and_ranks_take_each_method_at_its_own_rate(grid: list[Record]) -> None:
    other = [
        *at("scratch", 0.1, 0.7, 0.70, task="cifar10"),
        *at("kd", 0.1, 0.7, 0.69, task="cifar10"),
    ]
    teacher = at("teacher", 0.1, 0.9, 0.91, seeds=1, teacher=None)
    records = [*grid, *other, *teacher]
    found = table(records, "overview")
    assert found is not None and found.head == ["method", "amazon", "cifar10"]
    assert rows(found)["kd"] == ["+2.00 ± 0.00", "-1.00 ± 0.00"]
    assert rows(found)["teacher"][0] == "+39.00"  # its one run of 90, held against 51
    assert "recipe.learning_rate=own" in found.source
    # each rate still has its table, and none is left out of it
    heads = [section.settings for section in context(records).sections if section.task == "amazon"]
    assert heads == [["recipe.learning_rate=0.1"], ["recipe.learning_rate=0.4"]]
