"""The cost table that follows a table of scores, rendered from cost records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.report import text
from bench.report.frame import preset_name, shown_label
from bench.report.sections import Section
from bench.store import Record


def cost_table(costs: Sequence[Record], section: Section) -> list[str]:
    """Return the lines of the cost table of ``section``; none when nothing was measured."""
    found = _of_section(costs, section)
    if not found:
        return []
    rows = [_row(label, modes) for label, modes in sorted(found.items())]
    head = [
        "method",
        "train, teacher cached (samples/s)",
        "train, teacher live (samples/s)",
        "step p5–p95 (ms)",
        "train FLOPs/sample",
        "train memory (MiB)",
        "inference (samples/s)",
        "latency p50 / p95 (ms)",
        "inference FLOPs",
        "extra",
    ]
    lines = ["Cost, measured apart from accuracy:", "", *text.table(head, rows), ""]
    failed = [
        f"- {text.escape(label)}, teacher {mode}: {text.escape(record['error']['message'])}"
        for label, modes in sorted(found.items())
        for mode, record in sorted(modes.items())
        if record["status"] != "ok"
    ]
    if failed:
        lines += ["Costs that could not be measured:", "", *failed, ""]
    return [*lines, *_indexes(found), f"<sub>{_caption(found)}</sub>", ""]


def _indexes(found: dict[str, dict[str, Record]]) -> list[str]:
    """Return what the search indexes of retrievers take; inference above is encoding and search."""
    lines = []
    for label, modes in sorted(found.items()):
        for record in modes.values():
            index = (record.get("inference") or {}).get("index")
            if record["status"] == "ok" and index:
                passages = f"{index['passages']:,}".replace(",", " ")
                size = f"{index['bytes'] / 2**20:.1f} MiB for {passages} passages"
                built = f"built at {_rate(index['build'])} passages/s"
                lines.append(f"- {text.escape(label)}: {size}, {built}")
                break
    return ["Search index (exact, float32):", "", *lines, ""] if lines else []


def _of_section(costs: Sequence[Record], section: Section) -> dict[str, dict[str, Record]]:
    """Return this section's cost records by method and by how the teacher was served.

    Of several measurements of one thing the newest counts.
    """
    found: dict[str, dict[str, Record]] = {}
    place = (section.task, section.preset, section.source, section.device)
    for record in sorted(costs, key=lambda record: (str(record["finished"]), str(record["key"]))):
        cell = record["cell"]
        device = str((record.get("environment") or {}).get("device"))
        if (cell["task"], preset_name(cell), cell["source"], device) == place:
            found.setdefault(shown_label(cell), {})[str(record["teacher_served"])] = record
    return found


def _row(label: str, modes: dict[str, Record]) -> list[str]:
    ok = {mode: record for mode, record in modes.items() if record["status"] == "ok"}
    # without a teacher there is one way to train, and it belongs under the cheaper heading
    cheap, live = ok.get("cached") or ok.get("none"), ok.get("live")
    whole = live or cheap
    if whole is None:
        states = {str(record["status"]) for record in modes.values()}
        state = "failed" if "failed" in states else "skipped"
        return [text.escape(label), state, *[text.NOTHING] * 8]
    step = (cheap or whole)["training"]["step"]
    inference = whole["inference"]
    latency = inference["latency"]
    return [
        text.escape(label),
        _rate(cheap["training"]["step"]) if cheap else text.NOTHING,
        _rate(live["training"]["step"]) if live else text.NOTHING,
        f"{step['p5_s'] * 1e3:.1f}–{step['p95_s'] * 1e3:.1f}",
        text.count(whole["training"]["flops_per_sample"]),
        _memory((cheap or whole)["training"]["memory"]),
        _rate(inference["throughput"]),
        f"{latency['p50_s'] * 1e3:.2f} / {latency['p95_s'] * 1e3:.2f}",
        text.count(inference["flops_per_sample"]),
        text.count(whole["parameters"]["train_only"]),
    ]


def _rate(summary: dict[str, Any]) -> str:
    return f"{summary['samples_per_s']:,.0f}".replace(",", " ")


def _memory(memory: dict[str, int]) -> str:
    """Write the peak: what CUDA allocated, or by how much the process grew."""
    value = memory.get("cuda_allocated_bytes", memory.get("rss_growth_bytes"))
    return text.NOTHING if value is None else f"{value / 2**20:.0f}"


def _caption(found: dict[str, dict[str, Record]]) -> str:
    records = [record for modes in found.values() for record in modes.values()]
    environment = records[0].get("environment") or {}
    gpu = str(environment.get("device", "")).startswith("cuda")
    memory = (
        "the peak that PyTorch allocated on the device"
        if gpu
        else "the peak growth of the process over the loaded models"
    )
    days = sorted(str(record["finished"])[:10] for record in records)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return text.escape(
        f"One process at a time, {environment.get('threads')} processor thread(s), on "
        f"{environment.get('device_name')}; medians after warm-up. Train FLOPs count the teacher's "
        f"own pass; train memory is {memory}; extra is parameters that are trained and thrown "
        f"away. Measured {when}."
    )
