"""How numbers and foreign strings are written in the reports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from bench.privacy import harmless
from bench.stats import Gain, Interval, Spread

NOTHING = "-"

# Metrics that are no share of anything; every other metric is a share and is shown in percent.
UNBOUNDED_METRICS = frozenset({"nll", "loss", "mse", "rmse", "mae", "perplexity"})

METRIC_NAMES = {
    "macro_f1": "macro-F1",
    "nll": "NLL",
    "ece": "ECE",
    "mrr@10": "MRR@10",
    "ndcg@10": "nDCG@10",
}

_LOOSE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def scale(metric: str) -> float:
    """Return the factor from the metric's unit to the one shown: 100 for shares, else 1."""
    return 1.0 if metric in UNBOUNDED_METRICS else 100.0


def unit(metric: str) -> str:
    """Return the shown unit for a column head: " (%)" or nothing."""
    return " (%)" if scale(metric) == 100.0 else ""


def points(metric: str) -> str:
    """Return the unit of a difference for a column head: " (points)" or nothing."""
    return " (points)" if unit(metric) else ""


def metric_name(metric: str) -> str:
    """Return the metric as it is written in prose."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def number(value: float, metric: str, *, signed: bool = False) -> str:
    """Write a score or a difference of ``metric`` with two decimals (three when unscaled)."""
    factor = scale(metric)
    decimals = 2 if factor == 100.0 else 3
    text = f"{value * factor:+.{decimals}f}" if signed else f"{value * factor:.{decimals}f}"
    # A difference that rounds to nothing has no sign worth showing.
    return text.lstrip("+-") if float(text) == 0 else text


def spread(value: Spread | None, metric: str) -> str:
    """Write "87.31 ± 0.42", without the deviation when there is one run only."""
    if value is None:
        return NOTHING
    return _with_sd(number(value.mean, metric), value.sd, metric)


def gain(value: Gain | None, metric: str) -> str:
    """Write "+1.20 ± 0.31", without the deviation when there is one pair only."""
    if value is None:
        return NOTHING
    return _with_sd(number(value.mean, metric, signed=True), value.sd, metric)


def interval(value: Interval | None, metric: str, *, signed: bool = False) -> str:
    """Write "[86.90, 87.71]"."""
    if value is None:
        return NOTHING
    ends = (number(end, metric, signed=signed) for end in (value.low, value.high))
    return f"[{', '.join(ends)}]"


def p_value(p: float) -> str:
    """Write a p-value: "0.031", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _with_sd(mean: str, sd: float | None, metric: str) -> str:
    return mean if sd is None else f"{mean} ± {number(sd, metric)}"


def count(value: float | None) -> str:
    """Write a number of parameters: "950", "412 k", "11.20 M", "1.10 B"."""
    if value is None:
        return NOTHING
    if value < 1_000:
        return f"{value:.0f}"
    if value < 999_500:
        return f"{value / 1e3:.0f} k"
    return f"{value / 1e6:.2f} M" if value < 999_995_000 else f"{value / 1e9:.2f} B"


def seconds(value: float | None) -> str:
    """Write a duration in seconds with about three digits."""
    if value is None:
        return NOTHING
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def first_line(text: str, limit: int = 200) -> str:
    """Return the first line of ``text`` that is not blank, at most ``limit`` characters of it."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def escape(text: object) -> str:
    """Make ``text`` inert in a Markdown table cell: no markup, no HTML, one line.

    Underscores inside a word stay as they are, since Markdown does not read them as emphasis.
    """
    line = harmless(" ".join(str(text).split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*\[\]|~$])", r"\\\1", line)
    return _LOOSE_UNDERSCORE.sub(r"\\_", line)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Return the lines of a Markdown table: the first ``left`` columns left, the rest right."""
    sides = ["left" if at < left else "right" for at in range(len(head))]
    body = [list(row) for row in rows]
    whole: str = tabulate(body, list(head), "pipe", colalign=sides, disable_numparse=True)
    return whole.split("\n")
