"""What a retriever's search index takes, beneath the cost table."""

from __future__ import annotations

from typing import Any

from factory import cost as cost_record
from factory import record

from bench.report.content import Bullets, Context
from bench.report.costs import collect_costs, cost_table, usable_costs
from bench.report.frame import collect


def told(passages: dict[str, int | None]) -> list[tuple[str, ...]]:
    """Return the lists beneath the cost table of methods with indexes of so many passages."""
    costs = []
    for label, count in passages.items():
        made: dict[str, Any] = cost_record(label)
        if count is not None:
            build = {"samples_per_s": 1234.4}
            made["inference"]["index"] = {
                "passages": count,
                "bytes": count * 384 * 4,
                "build": build,
            }
        costs.append(made)
    records = [record(label, 0, 0.5) for label in passages]
    context = Context(collect(records).frame, collect_costs(usable_costs(costs)[0]), records)
    (section,) = context.sections
    return [block.items for block in cost_table(context, section) if isinstance(block, Bullets)]


def test_every_retrievers_index_is_told() -> None:
    assert told({"kd": 12_585, "scratch": 2_406}) == [
        (
            "kd: 18.4 MiB for 12 585 passages, built at 1 234 passages/s",
            "scratch: 3.5 MiB for 2 406 passages, built at 1 234 passages/s",
        )
    ]


def test_classifiers_have_none() -> None:
    assert told({"kd": None, "scratch": None}) == []
