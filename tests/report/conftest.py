"""Lets the report's tests import ``factory`` from beside them (pytest adds no path of its own)."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.append(_HERE)
