"""The plain student: hard labels, nothing else.  Every gain is measured against it."""

from __future__ import annotations

from bench import Card, register_baseline
from bench.supervised import Supervised


@register_baseline("scratch")
class Scratch(Supervised):
    """Train the same student on hard labels: ``L = CE(z_s, y)``."""

    card = Card(title="student alone")
