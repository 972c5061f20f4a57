"""Settings: one name each, however they are spelt."""

from __future__ import annotations

from typing import Any

import pytest
from planned import cell, plan

from bench import TASKS
from bench.errors import BenchError
from bench.report.presets import joined
from bench.tasks.preset import changed, override

STEPS, STEPPED = {"recipe.schedule": "step"}, "+recipe.schedule=step"


def test_two_spellings_of_a_setting_are_one_cell_and_one_table() -> None:
    short, long = (
        plan(tasks=["cifar10"], overrides={path: "2"}).cells[0]
        for path in ("epochs", "recipe.epochs")
    )
    assert short.key == long.key
    assert short.described()["overrides"] == long.described()["overrides"] == {"epochs": "2"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"epochs": "6"}, "quick"),  # the preset's own
        ({"recipe.epochs": 6, "frozen_teacher": "True", "train_limit": "none"}, "quick"),
        ({"recipe.learning_rate": "1e-1"}, "quick+recipe.learning_rate=0.1"),
        ({"recipe.learning_rate": 0.10}, "quick+recipe.learning_rate=0.1"),
        ({"recipe.clip": "2.0", "max_length": "032"}, "quick+max_length=32+recipe.clip=2"),
        (
            {"recipe.clip": None, "recipe.compile": True},
            "quick+recipe.clip=none+recipe.compile=true",
        ),
        (
            {"recipe.milestones": " .5, 0.750", **STEPS},
            f"quick+recipe.milestones=0.5,0.75{STEPPED}",
        ),
        ({"recipe.milestones": [0.5, 0.75], **STEPS}, f"quick+recipe.milestones=0.5,0.75{STEPPED}"),
        ({"generator_recipe": None}, "quick+generator_recipe=none"),
        ({"student": "minilm:2"}, "quick+student=minilm:2"),
    ],
)
def test_a_setting_has_one_name_and_the_presets_own_has_none(
    given: dict[str, Any], name: str
) -> None:
    found = cell("scratch", tasks=["amazon"], overrides=given)
    described = found.described()
    assert joined(described["preset"], described["overrides"]) == name
    # what is written makes the same cell again, and the same teacher
    again = cell("scratch", tasks=["amazon"], overrides=described["overrides"])
    assert (again.key, again.described()) == (found.key, described)


def test_a_whole_recipe_is_named_by_what_it_changes() -> None:
    own = TASKS.get("amazon").presets["quick"].recipe.model_dump()
    found = cell("scratch", tasks=["amazon"], overrides={"recipe": {**own, "epochs": 2}})
    assert found.overrides == {"epochs": "2"}
    bare = TASKS.get("amazon").presets["standard"]
    made = override(bare, {"generator_recipe": own}, "the test")
    assert changed(bare, made, {"generator_recipe": own}) == {"generator_recipe": own}


@pytest.mark.parametrize("other", ["epochs", "recipe"])
def test_one_setting_in_two_spellings_is_refused(other: str) -> None:
    with pytest.raises(BenchError, match=f"settings .*'{other}'.* are one and the same"):
        plan(overrides={other: "4", "recipe.epochs": "5"})
    with pytest.raises(BenchError, match=f"settings .*'{other}'.* are one and the same"):
        plan(tasks=[f"cifar10:recipe.epochs=5:{other}=4"])


def test_a_tasks_own_setting_counts_in_any_spelling() -> None:
    found = cell("scratch", tasks=["cifar10:recipe.epochs=5"], overrides={"epochs": "4"})
    assert found.overrides == {"epochs": "5"}


def test_a_part_of_a_recipe_changes_that_part_alone() -> None:
    """As TOML writes it: ``recipe.epochs = 2`` is a table within a table there."""
    nested = cell("scratch", overrides={"recipe": {"epochs": 2}})
    assert nested.overrides == {"epochs": "2"}
    assert nested.key == cell("scratch", overrides={"epochs": 2}).key


@pytest.mark.parametrize("recipe", ["teacher_recipe", "generator_recipe"])
def test_only_students_are_compiled(recipe: str) -> None:
    with pytest.raises(BenchError, match=rf"{recipe}\.compile is no setting \(only students"):
        plan(tasks=["amazon"], overrides={f"{recipe}.compile": True})
