"""Tables of one preset side by side, whatever was changed of it for a task."""

from __future__ import annotations

import pytest
from factory import context, record

from bench.report.captions import caption
from bench.report.content import Table, Text
from bench.report.groups import comparable
from bench.report.parts import build
from bench.store import Record

FEW = {"epochs": 4}


def runs(label: str, score: float, **changes: object) -> list[Record]:
    scores = [score, score + 0.01, score - 0.01]
    return [record(label, seed, each, **changes) for seed, each in enumerate(scores)]  # type: ignore[arg-type]


def table(records: list[Record], name: str) -> Table:
    """Return the one table whose name begins with ``name``."""
    (found,) = [each for each in tables(records) if each.name.startswith(name)]
    return found


def tables(records: list[Record]) -> list[Table]:
    return [each for part in build(context(records)) for each in part.tables]


def rows(found: Table) -> dict[str, list[str]]:
    return {row[0].text: [value.text for value in row[1:]] for row in found.rows}


@pytest.fixture
def mixed() -> list[Record]:
    """Amazon twice (whole with fewer methods), CIFAR-10 and a retrieval task."""
    few = {"task": "amazon:n=500", "overrides": FEW}
    found = {"task": "msmarco", "metric": "mrr", "overrides": {"epochs": 1}}
    return [
        *runs("scratch", 0.70, task="amazon"),
        *runs("kd", 0.90, task="amazon"),
        *runs("scratch", 0.50, **few),
        *runs("kd", 0.53, **few),
        *runs("rkd", 0.56, **few),
        *runs("scratch", 0.60, task="cifar10"),
        *runs("kd", 0.64, task="cifar10"),
        *runs("rkd", 0.66, task="cifar10"),
        *runs("scratch", 0.40, **found),
        *runs("kd", 0.41, **found),
    ]


def test_changed_settings_are_columns_of_one_overview_that_names_them(mixed: list[Record]) -> None:
    found = table(mixed, "overview")
    assert found.head == ["method", "amazon", "amazon:n=500", "cifar10", "msmarco"]  # no mean
    assert rows(found)["kd"] == [f"{gain} ± 0.00" for gain in ("+20.00", "+3.00", "+4.00", "+1.00")]
    assert rows(found)["rkd"] == ["-", "+6.00 ± 0.00", "+6.00 ± 0.00", "-"]
    assert "amazon:n=500 with epochs=4" in found.source
    assert "amazon with" not in found.source


def test_options_of_one_table_alone_are_named_beneath_and_have_no_row(mixed: list[Record]) -> None:
    def configured(label: str, task: str) -> list[Record]:
        return [record("kd", seed, 0.7, label=label, task=task) for seed in range(3)]

    tuned = configured("kd (temperature=2)", "cifar10")
    both = [*configured("kd (w_kd=1)", "cifar10"), *configured("kd (w_kd=1)", "amazon")]
    records = [*mixed, *tuned, *both]
    shown = rows(table(records, "overview"))
    assert "kd (w_kd=1)" in shown and "kd (temperature=2)" not in shown
    parts = build(context(records))
    (overview,) = [part for part in parts if part.title == "Overview"]
    said = [block.text for block in overview.blocks if isinstance(block, Text)]
    assert "In one column only, and so not here: kd (temperature=2)." in said
    # where settings are alike, a row is "not run" elsewhere as every other
    alike = [each for each in records if not each["cell"]["overrides"]]
    assert "kd (temperature=2)" in rows(table(alike, "overview"))


def test_without_changed_settings_the_gains_are_averaged(mixed: list[Record]) -> None:
    alike = [each for each in mixed if not each["cell"]["overrides"]]
    found = table(alike, "overview")
    assert found.head == ["method", "amazon", "cifar10", "mean"]
    assert rows(found)["kd"][-1] == "+12.00"
    assert rows(found)["rkd"][0] == "not run"


def test_gains_that_are_no_points_are_not_in_the_mean(mixed: list[Record]) -> None:
    alike = [each for each in mixed if not each["cell"]["overrides"]]
    rmse = {"task": "language", "metric": "rmse", "direction": "min"}
    alike += [*runs("scratch", 3.0, **rmse), *runs("kd", 2.5, **rmse)]
    found = table(alike, "overview")
    assert found.head == ["method", "amazon", "cifar10", "language", "mean of points"]
    assert rows(found)["kd"][2:] == ["+0.500 ± 0.000", "+12.00"]
    alone = [each for each in alike if each["task"]["metric"] == "rmse"]
    alone += [{**each, "cell": {**each["cell"], "task": "other"}} for each in alone]
    assert table(alone, "overview").head == ["method", "language", "other"]


def test_one_task_with_two_settings_has_two_columns_of_different_names() -> None:
    changed = {"task": "amazon", "overrides": FEW}
    records = [*runs("scratch", 0.7), *runs("kd", 0.8)]
    records += [*runs("scratch", 0.6, **changed), *runs("kd", 0.65, **changed)]
    found = table(records, "overview")
    assert found.head == ["method", "amazon", "amazon (epochs=4)"]
    assert rows(found)["kd"] == ["+10.00 ± 0.00", "+5.00 ± 0.00"]
    (group,) = context(records).overall
    assert group.gains["kd"] == pytest.approx({"amazon": 10.0, "amazon (epochs=4)": 5.0})


def test_columns_of_one_task_are_told_apart_by_what_differs() -> None:
    rates = [{"epochs": 10, "rate": rate} for rate in (0.1, 0.4)]
    records = [each for changed in rates for each in runs("scratch", 0.7, overrides=changed)]
    records += [each for changed in rates for each in runs("kd", 0.8, overrides=changed)]
    assert table(records, "overview").head == ["method", "amazon (rate=0.1)", "amazon (rate=0.4)"]


def test_a_column_shows_the_presets_own_value_of_what_others_changed() -> None:
    precise = {"recipe.precision": "float32"}
    values = {"recipe": {"epochs": 2, "precision": "float32"}}
    records = [*runs("scratch", 0.6, overrides={"epochs": 1}), *runs("scratch", 0.7)]
    records += runs("scratch", 0.7, overrides=precise)
    for each in records:
        if each["cell"]["overrides"] == precise:
            each["cell"]["preset_values"] = values
    assert table(records, "overview").head == [
        "method",
        "amazon",  # as the preset has it
        "amazon (epochs=1)",
        "amazon (epochs=2, recipe.precision=float32)",
    ]


def test_a_plus_sign_in_a_value_is_no_setting() -> None:
    changed = {"teacher": "dual:hub:a/b+cls+dot", "epochs": 1}
    (section,) = context(runs("kd", 0.8, overrides=changed)).sections
    assert section.base_preset == "quick"
    assert section.settings == ["epochs=1", "teacher=dual:hub:a/b+cls+dot"]


def test_ranks_take_one_table_a_task_and_one_metric(mixed: list[Record]) -> None:
    # rkd cannot run on retrieval, and KD's lead on the whole of Amazon is not counted twice
    found = table(mixed, "standings")
    assert [row[0].text for row in found.rows] == ["rkd", "kd", "scratch"]
    assert [row[1].text for row in found.rows] == ["1.00", "2.00", "3.00"]
    assert "amazon:n=500" in found.source and "msmarco" not in found.source


def test_the_choice_of_a_table_knows_no_scores(mixed: list[Record]) -> None:
    def chosen(records: list[Record]) -> list[str]:
        (group,) = context(records).overall
        return [section.task for section in comparable(group)[0].sections]

    worse = [
        each
        for each in mixed
        if (each["cell"]["label"], each["cell"]["task"]) != ("rkd", "amazon:n=500")
    ]
    worse += runs("rkd", 0.01, task="amazon:n=500", overrides=FEW)
    assert chosen(mixed) == chosen(worse) == ["amazon:n=500", "cifar10"]
    # a method that lacks a seed does not count
    fewer = [each for each in mixed if each["cell"]["label"] != "rkd" or each["cell"]["seed"]]
    assert chosen(fewer) == ["amazon", "cifar10"]


def test_presets_sources_and_devices_stay_apart(mixed: list[Record]) -> None:
    other = [
        *runs("scratch", 0.7, preset="small", task="cifar10"),
        *runs("scratch", 0.7, device="cuda", task="cifar10"),
    ]
    groups = context([*mixed, *other]).overall
    assert sorted((group.preset, len(group.sections)) for group in groups) == [
        ("quick", 1),
        ("quick", 4),
        ("small", 1),
    ]


def test_variants_stand_beneath_their_task_and_settings_beneath_a_variant() -> None:
    tasks = [("cifar10-binary", {}), ("cifar10:n=250", FEW), ("amazon", {}), ("cifar10", {})]
    tasks += [("cifar10", FEW), ("cifar10:n=250", {})]
    records = [
        each for task, changed in tasks for each in runs("kd", 0.8, task=task, overrides=changed)
    ]
    found = context(records).sections
    assert [(section.task, *section.settings) for section in found] == [
        ("amazon",),
        ("cifar10",),
        ("cifar10", "epochs=4"),
        ("cifar10:n=250",),
        ("cifar10:n=250", "epochs=4"),
        ("cifar10-binary",),
    ]


def test_a_caption_says_how_students_were_trained() -> None:
    recipe = {"epochs": 4, "batch_size": 32, "optimizer": "adamw", "learning_rate": 2e-4}
    records = runs("scratch", 0.7, overrides=FEW)
    for each in records:
        each["cell"]["preset_values"] = {"recipe": recipe}
    (section,) = context(records).sections
    assert "preset quick with epochs=4, source" in section.where
    assert "Students trained 4 epochs, batch 32, adamw at rate 0.0002." in caption(section)
    for odd in ({}, {**recipe, "epochs": "many"}, {**recipe, "optimizer": ""}):
        for each in records:
            each["cell"]["preset_values"] = {"recipe": odd}
        (section,) = context(records).sections
        assert "Students trained" not in caption(section)


def test_a_caption_lists_the_seeds_of_the_students_alone() -> None:
    made = [record(label, seed, 0.7) for label in ("scratch", "kd") for seed in (3, 4)]
    (section,) = context([*made, record("teacher", 0, 0.9)]).sections
    assert "seeds 3, 4, on" in caption(section)
    (alone,) = context([record("teacher", 0, 0.9)]).sections
    assert "seeds 0, on" in caption(alone)


def test_differences_are_also_taken_on_further_held_out_splits() -> None:
    records = [*runs("scratch", 0.7), *runs("kd", 0.8)]
    for each in records:
        official = each["metrics"]["best"]["test"]["accuracy"]
        lead = 0.02 if each["cell"]["label"] == "kd" else 0.0
        each["metrics"]["best"]["second"] = {"accuracy": official / 2 + lead}
    (second,) = [t for t in tables(records) if t.name.startswith("differences-second")]
    (first,) = [t for t in tables(records) if t.name.startswith("differences-amazon")]
    assert rows(first)["kd"][0] == "+10.00 ± 0.00"
    assert rows(second)["kd"][0] == "+7.00 ± 0.00"
    assert "on second" in second.title and "on" not in first.title.split(":")[0].split()
    records += [*runs("scratch", 0.7, task="other"), *runs("kd", 0.8, task="other")]
    (note,) = (
        block.text
        for part in build(context(records))
        for block in part.blocks
        if isinstance(block, Text) and block.text.startswith("On the official test here")
    )
    assert note.endswith("tables: amazon.")


def test_with_one_seed_and_no_second_reference_a_further_split_has_its_gains() -> None:
    records = [record("scratch", 0, 0.7), record("dkd", 0, 0.8)]
    for each in records:
        best = each["metrics"]["best"]
        best["second"] = {"accuracy": best["test"]["accuracy"] / 2}
    (second,) = [t for t in tables(records) if t.name.startswith("differences")]
    assert second.name.startswith("differences-second")
    assert rows(second)["dkd"] == ["+5.00"]


def test_the_navigation_says_of_a_table_what_tells_it_from_others(mixed: list[Record]) -> None:
    more = [
        *runs("kd", 0.9, task="cifar10", overrides=FEW),
        *runs("kd", 0.9, task="cifar10", device="cuda"),
    ]
    parts = build(context([*mixed, *more]))
    names = [part.short for part in parts if part.short]
    assert names == [
        "amazon",
        "amazon:n=500",
        "cifar10 (cpu)",
        "cifar10 (epochs=4, cpu)",
        "msmarco",
        "cifar10 (cuda)",
    ]


@pytest.mark.parametrize("lacking", ["one run", "a whole row"])
def test_a_run_without_the_further_split_is_left_out_of_its_table(lacking: str) -> None:
    records = [*runs("scratch", 0.7), *runs("kd", 0.8), *runs("dkd", 0.9)]
    for each in records:
        best = each["metrics"]["best"]
        best["second"] = {"accuracy": best["test"]["accuracy"]}
    spared = [x for x in records if x["cell"]["label"] == "dkd"][: 1 if lacking == "one run" else 3]
    for each in spared:
        del each["metrics"]["best"]["second"]
    (second,) = [t for t in tables(records) if t.name.startswith("differences-second")]
    assert rows(second)["kd"][0] == "+10.00 ± 0.00"
    assert ("dkd" in rows(second)) == (lacking == "one run")
    assert second.source == next(t for t in tables(records) if t.name.startswith("amazon")).source


def test_two_tasks_without_a_gain_have_no_map() -> None:
    losses = {"metric": "nll", "direction": "min"}
    plain = [*runs("scratch", 0.7), *runs("scratch", 0.7, task="cifar10"), *runs("teacher", 0.9)]
    loss = [*runs("scratch", 0.7, **losses), *runs("kd", 0.6, **losses)]
    loss += [*runs("scratch", 0.7, task="b", **losses), *runs("kd", 0.6, task="b", **losses)]
    for records in (plain, loss):
        parts = build(context(records))
        assert not [p for part in parts for p in part.pictures if p.name.startswith("gains")]


def test_odd_preset_values_cost_no_score() -> None:
    for odd in (["a list"], {"recipe": "sgd"}, {"recipe": {"learning_rate": "fast"}}, 3):
        records = runs("kd", 0.8)
        records[0]["cell"]["preset_values"] = odd
        (section,) = context(records).sections
        assert section.line("kd").ok == 3  # type: ignore[union-attr]


def test_variants_of_one_task_count_once_in_the_ranks() -> None:
    records = [
        each for task in ("amazon", "amazon:n=5") for each in runs("scratch", 0.7, task=task)
    ]
    records += [each for task in ("amazon", "amazon:n=5") for each in runs("kd", 0.8, task=task)]
    assert not [t for t in tables(records) if t.name.startswith("standings")]
    records += [*runs("scratch", 0.7, task="cifar10"), *runs("kd", 0.8, task="cifar10")]
    parts = build(context(records))
    (found,) = [part for part in parts if part.title == "Across tasks"]
    assert "Tasks amazon, " not in str(found.tables[0].source)
    assert any("several tables" in str(block) for block in found.blocks)


def test_a_row_that_lacks_seeds_or_was_run_once_is_on_no_map_and_marked_in_the_overview() -> None:
    records = []
    for task in ("amazon", "cifar10"):
        records += [*runs("scratch", 0.5, task=task), *runs("kd", 0.6, task=task)]
        records += [record("rkd", 0, 0.9, task=task), record("label_smoothing", 0, 0.8, task=task)]
    (group,) = context(records).groups
    assert list(group.gains) == ["kd"]
    shown = rows(table(records, "overview"))
    assert shown["rkd"][0] == "+40.00 (1/3 seeds)"
    assert shown["label_smoothing"][0] == "+30.00 (unpaired)"
