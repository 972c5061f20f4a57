"""Options: how they are written, what is refused, how they are hashed."""

from __future__ import annotations

import math
import random
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator

from bench import METHODS
from bench.config import Config, build, changed, content_hash, label, parse_spec, written
from bench.errors import BenchError

WORDS = st.text(string.ascii_letters + string.digits + "_-.", min_size=1, max_size=12)
VALUES = st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"]), max_size=12).map(
    str.strip
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


class Inner(Config):
    rate: float = Field(default=1.0, gt=0)


class Outer(Config):
    count: int = Field(default=1, ge=1, le=9)
    inner: Inner = Inner()


def kd(**options: Any) -> Config:
    return build(METHODS.get("kd").Config, options, "method 'kd'")


class Asked(Config):
    rate: float = Field(default=4.0, gt=0)
    often: bool = False
    limit: float | None = 5.0
    kind: str = "none"

    @field_validator("rate")
    @classmethod
    def _below(cls, rate: float) -> float:
        if rate >= 100:
            raise ValueError("KL needs T below 100, see Eq. 4")
        return rate


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"rate": "4"}, {}),
        ({"rate": "4.0", "often": "no", "limit": "5"}, {}),
        ({"rate": "2.0"}, {"rate": "2"}),
        ({"rate": "0.50", "often": "yes"}, {"rate": "0.5", "often": "true"}),
        ({"limit": "none", "kind": "none"}, {"limit": "none"}),
    ],
)
def test_one_setting_has_one_name(options: dict[str, str], left: dict[str, str]) -> None:
    made = build(Asked, options, "a test")
    assert changed(made, options) == left
    assert build(Asked, left, "a test") == made


@given(st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_value_is_written_as_it_is_read(value: Any) -> None:
    class One(Config):
        value: type(value)  # type: ignore[valid-type]

    assert build(One, {"value": written(value)}, "a test").value == value


def test_a_validators_own_words_stand_as_they_are() -> None:
    with pytest.raises(BenchError) as caught:
        build(Asked, {"rate": 200}, "a test")
    assert str(caught.value) == "a test: rate = 200: KL needs T below 100, see Eq. 4"


@given(WORDS, st.dictionaries(WORDS, VALUES, max_size=4))
def test_spec_round_trip(name: str, options: dict[str, str]) -> None:
    text = ":".join([name, *(f"{key}={value}" for key, value in options.items())])
    assert parse_spec(text) == (name, options)
    assert parse_spec(f"  {text}  ") == (name, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kd:temperature", r"cannot read 'temperature' in 'kd:temperature' \(write NAME:KEY="),
        ("kd:=2", "cannot read '=2'"),
        ("kd:", "cannot read ''"),
        ("kd:t=1:t=2", "'t' is given twice in 'kd:t=1:t=2'"),
        ("", "no name in ''"),
        (":t=1", "no name in ':t=1'"),
    ],
)
def test_spec_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        parse_spec(text)


def test_strings_become_numbers() -> None:
    assert kd(temperature="2").model_dump()["temperature"] == 2.0
    assert kd(temperature="2") == kd(temperature=2.0)


def test_unknown_option_gives_the_nearest_match() -> None:
    with pytest.raises(BenchError) as caught:
        kd(temprature=2)
    assert str(caught.value) == (
        "method 'kd' has no option 'temprature' (did you mean 'temperature'?)"
    )


def test_unknown_option_inside_another_gives_the_nearest_match() -> None:
    with pytest.raises(BenchError, match=r"no option 'inner\.rat' \(did you mean 'rate'\?\)"):
        build(Outer, {"inner": {"rat": 1}}, "outer")


@pytest.mark.parametrize("value", [0, -1, "-0.5"])
def test_value_out_of_range_is_named_with_the_bound(value: object) -> None:
    with pytest.raises(BenchError) as caught:
        kd(temperature=value)
    message = str(caught.value)
    assert message.startswith("method 'kd': temperature")
    assert repr(value) in message and "greater than 0" in message


@pytest.mark.parametrize("value", ["warm", "", None, [1], {"a": 1}])
def test_value_of_the_wrong_type_is_named(value: object) -> None:
    with pytest.raises(BenchError, match=r"method 'kd': temperature = ") as caught:
        kd(temperature=value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, "nan", "inf", "-inf"])
def test_numbers_that_are_not_finite_are_refused(value: object) -> None:
    with pytest.raises(BenchError, match="temperature"):
        kd(temperature=value)


def test_choice_names_what_is_allowed() -> None:
    with pytest.raises(BenchError, match=r"loss = 'ml'.*'kl'.*'margin_mse'"):
        kd(loss="ml")


def test_defaults_are_checked_too() -> None:
    class Wrong(Config):
        rate: float = Field(default=-1.0, gt=0)

    with pytest.raises(BenchError, match="rate"):
        build(Wrong, {}, "wrong")


def test_configuration_is_frozen() -> None:
    config = kd()
    with pytest.raises(ValidationError, match="frozen"):
        config.temperature = 2.0  # type: ignore[attr-defined]


@given(st.dictionaries(st.text(max_size=5), JSON, min_size=2), st.randoms())
def test_hash_is_independent_of_key_order(value: dict[str, Any], chance: random.Random) -> None:
    keys = list(value)
    chance.shuffle(keys)
    assert content_hash({key: value[key] for key in keys}) == content_hash(value)


def test_hash_tells_values_apart() -> None:
    values: list[Any] = [{"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {"a": [1]}, {"a": None}, {}]
    hashes = {content_hash(value) for value in values}
    assert len(hashes) == len(values)
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in hashes)


def test_hash_refuses_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_hash({"a": math.nan})


def test_label_shows_the_options_in_order() -> None:
    assert label("kd", {}) == "kd"
    assert label("kd", {"w_kd": "1", "temperature": "2"}) == "kd (temperature=2, w_kd=1)"
