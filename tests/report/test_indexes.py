"""What a retriever's search index takes, beneath the cost table."""

from __future__ import annotations

from typing import Any

from bench.report.costs import _indexes


def costs(passages: int | None, status: str = "ok") -> dict[str, Any]:
    build = {"samples_per_s": 1234.4}
    index = {"passages": passages, "bytes": (passages or 0) * 384 * 4, "build": build}
    return {"status": status, "inference": {"index": index} if passages else {}}


def test_every_retrievers_index_is_told_once() -> None:
    found = {
        "kd": {"cached": costs(12_585), "live": costs(12_585)},
        "scratch|x": {"none": costs(2_406)},
        "broken": {"cached": {"status": "failed"}, "live": costs(10, "failed")},
    }
    assert _indexes(found) == [
        "Search index (exact, float32):",
        "",
        "- kd: 18.4 MiB for 12 585 passages, built at 1 234 passages/s",
        r"- scratch\|x: 3.5 MiB for 2 406 passages, built at 1 234 passages/s",
        "",
    ]


def test_classifiers_have_none() -> None:
    assert _indexes({"kd": {"cached": costs(None)}, "tgt": {"live": {"status": "ok"}}}) == []
