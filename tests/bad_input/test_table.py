"""The page that shows what each bad input printed; that it has each case, every case checks."""

from __future__ import annotations

import os
import re

import pytest
from processes import ROOT

pytestmark = pytest.mark.skipif("BAD_INPUT_TABLE" in os.environ, reason="the page is being written")
PAGE = ROOT / "docs" / "bad-input.md"


def test_page_has_at_least_sixty_cases_and_tells_no_folder_of_a_machine() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("\n| `") >= 60
    assert not re.search(r"/(tmp|home|root|Users)/| at 0x", page)
