"""Timings of one run as ratios, held against the ratios that are kept.

Seconds mean little on another machine; ratios to a hand-written loop timed beside them do.
``--save-ratios`` keeps this run's as the new baseline.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

BASELINE = Path(__file__).parent / "baseline.json"
UNIT = "test_training[bare]"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--save-ratios", action="store_true", help="keep this run's ratios as the baseline"
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print each benchmark's median as a multiple of the bare loop's, beside what was kept."""
    session: Any = getattr(config, "_benchmarksession", None)
    timed = [entry for entry in session.benchmarks if entry.stats.data] if session else []
    median = {entry.name: entry.stats.median for entry in timed}
    if UNIT not in median:
        return
    ratios = {name: value / median[UNIT] for name, value in median.items()}
    kept = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.is_file() else {}
    terminalreporter.section(f"ratios to {UNIT}, against {BASELINE.name}")
    for name, ratio in ratios.items():
        change = f"{ratio / kept[name]:6.2f} ×" if name in kept else "     new"
        before = f"{kept[name]:9.5g}" if name in kept else "        -"
        terminalreporter.write_line(f"{name:<40} now {ratio:9.5g}  kept {before}  {change}")
    if config.getoption("--save-ratios"):
        rounded = {name: float(f"{ratio:.3g}") for name, ratio in sorted(ratios.items())}
        BASELINE.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
        terminalreporter.write_line(f"kept in {BASELINE.name}")
