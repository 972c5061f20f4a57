"""Method cards: read from the source, whole, and without running it."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import python

from bench import METHODS
from bench.report.cards import read_cards, read_file

SOURCE = '''
"""A file."""
CARD = Card(title="Shared", paper="Somebody 2020", confirmed=("one", "two"), choices=("mine",))


@register_method("first")
class First(Method):
    """Do it.

    ``L = 1``.
    """

    card = CARD


@register_method("second")
class Second(Method):
    """Do it again."""

    card = Card(title="Own", confirmed=(*CARD.confirmed, "three"), choices=CARD.choices)


@register_method("third")
class Third(Method):
    """Run something."""

    card = Card(title=made_up(), choices=(*made_up(),))
'''


def test_a_card_may_be_shared_and_built_upon(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text(SOURCE)
    first, second, third = read_file(path, "methods")
    assert (first.title, first.paper, first.confirmed) == (
        "Shared",
        "Somebody 2020",
        ("one", "two"),
    )
    assert first.details == ("L = 1.",)
    assert second.confirmed == ("one", "two", "three") and second.choices == ("mine",)
    assert third.title == "third" and third.choices == ()  # nothing is run


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_says_what_it_is(name: str) -> None:
    card = read_cards()[name]
    assert card.title != name and card.paper and card.summary and card.origin
    own = METHODS.get(name).card
    assert (card.title, card.paper) == (own.title, own.paper)
    assert (card.confirmed, card.choices) == (own.confirmed, own.choices)


def test_reading_them_loads_no_torch() -> None:
    code = "import sys; from bench.report.cards import read_cards; assert len(read_cards()) > 10; "
    code += "sys.exit('torch' in sys.modules)"
    assert python("-c", code).code == 0
