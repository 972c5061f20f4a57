"""What can be set is told as the configuration classes have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from pydantic import BaseModel, Field

from bench import BASELINES, METHODS, TASKS
from bench.config import build
from bench.errors import BenchError
from bench.settings import Setting, settings_of
from bench.tasks.preset import Recipe
from bench.tasks.retrieval import RetrievalPreset

if TYPE_CHECKING:
    from conftest import Call


class Inner(BaseModel):
    """Within another.

    Attributes:
        rate: how fast; two
            lines of it.
    """

    rate: float = Field(gt=0, le=1)


class Outer(BaseModel):
    """Settings of all kinds.

    Attributes:
        one: ``x``, the first.
        inner: what holds another.

    A paragraph with a colon: that is no attribute.
    """

    one: int = 1
    on: bool = True
    kind: Literal["a", "b"] = "a"
    inner: Inner | None = None
    places: tuple[float, ...] = ()
    limit: float | None = None


def test_each_setting_is_told_with_default_bounds_and_meaning() -> None:
    assert list(settings_of(Outer)) == [
        Setting("one", "1", "whole number", "x, the first."),
        Setting("on", "true", "true or false", ""),
        Setting("kind", "a", "a or b", ""),
        Setting("inner.rate", "", "number > 0, ≤ 1", "how fast; two lines of it."),
        Setting("places", "()", "list: number", ""),
        Setting("limit", "none", "number or none", ""),
    ]


@pytest.mark.parametrize("name", [*METHODS.names(), *BASELINES.names()])
def test_every_option_of_a_method_says_what_it_means(name: str) -> None:
    cls = (METHODS if name in METHODS else BASELINES).get(name)
    told = list(settings_of(cls.Config))
    assert [each.path for each in told] == list(cls.Config.model_fields)
    assert all(each.meaning and each.allowed != "text" for each in told)


def test_milestones_can_be_written_on_a_command_line() -> None:
    def recipe(milestones: str) -> Recipe:
        asked = {"epochs": 1, "batch_size": 1, "learning_rate": 1, "milestones": milestones}
        return build(Recipe, asked, "the test")

    assert recipe("0.5, 0.75").milestones == (0.5, 0.75) and recipe("").milestones == ()
    for wrong in ("1.5", "0", "soon"):
        with pytest.raises(BenchError, match="milestones"):
            recipe(wrong)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"recipe.milestones": "0.5"}, "recipe.milestones changes nothing"),
        ({"teacher_recipe.milestones": "0.5"}, "teacher_recipe.milestones changes nothing"),
        ({"recipe.schedule": "step"}, "schedule=step needs milestones"),
    ],
)
def test_milestones_and_the_step_schedule_need_each_other(given: dict[str, str], told: str) -> None:
    with pytest.raises(BenchError, match=told):
        TASKS.get("cifar10")("quick", overrides=given)
    both = {"recipe.milestones": "0.5", "recipe.schedule": "step"}
    assert TASKS.get("cifar10")("quick", overrides=both).preset.recipe.milestones == (0.5,)


def test_every_setting_of_a_preset_says_what_it_means() -> None:
    assert all(each.meaning for each in settings_of(RetrievalPreset))


def test_a_source_is_asked_for_by_its_own_option(call: Call) -> None:
    said = call("list", "settings")
    names = [line.split()[0] for line in said.out.splitlines() if line.strip()]
    assert "student" in names and "source" not in names
