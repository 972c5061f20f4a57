"""One task at several learning rates: chosen on validation, from the same rates for all."""

from __future__ import annotations

import pytest
from factory import context, record

from bench.report.content import Table, Text
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


def test_a_further_test_has_a_table_at_the_rates_that_validation_chose(
    grid: list[Record],
) -> None:
    for at_one_rate, score in enumerate((0.6, 0.7, 0.65, 0.9)):
        for one in grid[3 * at_one_rate : 3 * at_one_rate + 3]:
            one["metrics"]["best"]["other"] = {"accuracy": score}
    shown = rows(table(grid, "rates-other"))
    assert shown["scratch"][:4] == ["60.00 ± 0.00", "70.00 ± 0.00", "0.4", "70.00 ± 0.00"]
    assert shown["kd"][:4] == ["65.00 ± 0.00", "90.00 ± 0.00", "0.1", "65.00 ± 0.00"]
    assert shown["kd"][4] == "-5.00 ± 0.00"
    found = table(grid, "rates-other")
    assert found is not None and found.head[4] == "other there (%)"
    for one in [*grid[:3], *grid[6:9]]:
        del one["metrics"]["best"]["other"]
    assert table(grid, "rates-other") is None  # nothing at the lower rate was scored on it


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
    assert family(same).chosen["kd"][0].learning_rate == 0.1


def test_rates_are_equal_up_to_rounding() -> None:
    """The same three scores of a test of 5,000, added up in another order."""
    thirds, same = [2657, 2657, 2693], [2659, 2664, 2684]
    records = [*at("kd", 0.1, 0, 0.7), *at("kd", 0.4, 0, 0.6)]
    for one, count in zip(records, [*thirds, *same], strict=True):
        one["metrics"]["best"]["validation"] = {"accuracy": count / 5000}
    assert sum(thirds) == sum(same)
    assert family(records).chosen["kd"][0].learning_rate == 0.1


def test_a_row_without_a_validation_score_at_a_rate_has_no_choice(grid: list[Record]) -> None:
    del grid[-1]["metrics"]["best"]["validation"]
    assert list(family(grid).chosen) == ["scratch"]


def test_a_loss_is_better_where_it_is_lower() -> None:
    loss = {"metric": "nll", "direction": "min"}
    records = [*at("kd", 0.1, 1.5, 1.4, **loss), *at("kd", 0.4, 1.2, 1.9, **loss)]
    assert family(records).chosen["kd"][0].learning_rate == 0.4


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
    assert found.chosen["kd"][0].settings == []


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
    # each rate still has its table, and nobody is left out of it
    parts = [part.short for part in build(context(records)) if part.short]
    assert parts[:2] == ["amazon (recipe.learning_rate=0.1)", "amazon (recipe.learning_rate=0.4)"]


def failed(label: str, rate: float, seed: int, status: str = "failed") -> Record:
    """Return a run at ``rate`` that ended without a result."""
    made = record(label, seed, None, status=status, overrides={"recipe.learning_rate": str(rate)})
    made["cell"]["preset_values"] = {"recipe": {"learning_rate": rate}}
    return made


def test_a_rate_at_which_a_run_failed_is_not_chosen(grid: list[Record]) -> None:
    broken = [*at("dkd", 0.1, 0.3, 0.3), *at("dkd", 0.4, 0.9, 0.9, seeds=2), failed("dkd", 0.4, 2)]
    found = family([*grid, *broken])
    assert found.chosen["dkd"][0].learning_rate == 0.1
    assert found.without == []
    own = found.own
    assert own is not None
    line = own.line("dkd")
    assert line is not None and line.complete and line.ranked


def test_seeds_must_agree_between_the_rates_of_a_row(grid: list[Record]) -> None:
    screened = [*at("dkd", 0.1, 0.3, 0.3), *at("dkd", 0.4, 0.9, 0.9, seeds=1)]
    more = [*at("label_smoothing", 0.1, 0.3, 0.3), *at("label_smoothing", 0.4, 0.9, 0.9, seeds=1)]
    found = family([*grid, *screened, *more])
    assert found.without == ["dkd", "label_smoothing"]


def test_without_a_choice_for_the_plain_student_the_rates_stay_apart(grid: list[Record]) -> None:
    without = [x for x in grid if x["cell"]["label"] != "scratch" or x["cell"]["seed"] < 2]
    without += at("scratch", 0.1, 0.4, 0.41)[2:]
    alone = [*grid[:6], *at("kd", 0.1, 0.55, 0.53)]  # KD at one rate only
    for records in (without, alone):
        found = table(records, "overview")
        assert found is not None
        assert found.head[1:3] == [f"amazon (recipe.learning_rate={rate})" for rate in (0.1, 0.4)]
        assert rows(found)["kd"][0].startswith("+12.00")


def test_rows_that_are_not_in_the_column_are_named(grid: list[Record]) -> None:
    other = [*at("scratch", 0.1, 0.7, 0.7, task="cifar10"), *at("dkd", 0.4, 0.5, 0.5)]
    blocks = [block for part in build(context([*grid, *other])) for block in part.blocks]
    (note,) = [b.text for b in blocks if isinstance(b, Text) and "not in this column" in b.text]
    assert note.startswith("amazon: ") and ": dkd." in note
    assert all(
        "not in this column" not in str(block) for p in build(context(grid)) for block in p.blocks
    )


def test_the_teacher_counts_once_and_where_it_finished(grid: list[Record]) -> None:
    ceiling = at("teacher", 0.4, 0.9, 0.91, seeds=1, teacher=None)
    own = family([*grid, failed("teacher", 0.1, 0), *ceiling]).own
    assert own is not None and own.teacher == pytest.approx(0.90)
    assert (own.cells.label == "teacher").sum() == 1


def test_a_baseline_run_once_is_not_held_against_single_seeds(grid: list[Record]) -> None:
    once = [
        *at("label_smoothing", 0.1, 0.40, 0.41, seeds=1),
        *at("label_smoothing", 0.4, 0.50, 0.51, seeds=1),
    ]
    shown = rows(table([*grid, *once], "rates"))
    assert shown["label_smoothing"][4:] == ["-"] * 4
    assert shown["kd"][4] != "-"


def test_a_rate_that_stands_twice_makes_no_family(grid: list[Record]) -> None:
    twice = at("kd", 0.4, 0.9, 0.9, overrides={"recipe.learning_rate": "4e-1"}, default=True)
    assert rate_families(context([*grid, *twice]).sections) == []


@pytest.mark.parametrize("changed", [{"device": "cuda"}, {"metric": "mrr"}, {"preset": "small"}])
def test_what_runs_elsewhere_is_of_another_family(changed: dict[str, str]) -> None:
    records = [*at("kd", 0.1, 0.5, 0.5), *at("kd", 0.4, 0.5, 0.5, **changed)]
    assert rate_families(context(records).sections) == []


def test_rows_on_other_terms_are_explained(grid: list[Record]) -> None:
    reason = "retrains the teacher"
    apart = [
        x for rate in (0.1, 0.4) for x in at("subclass", rate, 0.9, 0.9, not_like_for_like=reason)
    ]
    blocks = [block for part in build(context([*grid, *apart])) for block in part.blocks]
    notes = [b.text for b in blocks if isinstance(b, Text) and b.text.startswith("Best at an end")]
    assert len(notes) == 1 and notes[0].count(reason) == 1


def test_without_a_finished_student_there_is_no_table_of_rates() -> None:
    assert table([failed("kd", rate, 0) for rate in (0.1, 0.4)], "rates") is None


def test_own_rates_are_promised_only_where_they_are_taken(grid: list[Record]) -> None:
    def told(records: list[Record]) -> str:
        other = at("scratch", 0.1, 0.7, 0.7, task="cifar10")
        blocks = [block for part in build(context([*records, *other])) for block in part.blocks]
        return " ".join(block.text for block in blocks if isinstance(block, Text))

    promises = ("each method at its own rate.", "Overview and ranks above take each row at its own")
    assert all(promise in told(grid) for promise in promises)
    without = [x for x in grid if x["cell"]["label"] != "scratch" or x["cell"]["seed"] < 2]
    alone = told([*without, *at("scratch", 0.1, 0.4, 0.41)[2:]])
    assert not any(promise in alone for promise in promises)
    assert "overview and ranks keep these tables apart" in alone
