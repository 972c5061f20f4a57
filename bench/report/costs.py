"""Cost records as one flat line per method, and the cost table that follows a table of scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench.privacy import without_paths
from bench.report import text
from bench.report.content import Block, Bullets, Context, Table, Text, Value
from bench.report.lines import Line
from bench.report.record_row import (
    MALFORMED,
    UNKNOWN_DEVICE,
    finite,
    preset_name,
    shown,
    shown_label,
    version,
)
from bench.report.sections import Section
from bench.store import Record

Place = tuple[str, ...]  # task, preset, source, device, origin
Network = tuple[float, str, bool]  # inference FLOPs, precision, whether it is a student


@dataclass(frozen=True)
class Cost:
    """What one method costs on one task, measured apart from accuracy; None if not measured.

    Attributes:
        cached: training samples/s with the teacher read from the cache (or without a teacher).
        live: training samples/s with the teacher run beside the student.
        step_p5: seconds of a training step.
        step_p95: likewise.
        cached_flops: of training on a sample, with the teacher read from the cache or without one.
        live_flops: likewise with the teacher's own pass.
        train_memory: bytes.
        rate: inference samples/s in large batches, of the record with a live teacher if both are.
        rates: those of every record.
        p50: seconds of a single prediction.
        p95: likewise.
        flops: of a prediction.
        extra: parameters trained and thrown away.
        precision: what the network is served in.
        index: what a retriever's search index takes, in words; empty for a classifier.
        reranked: passages of a first stage that a query's ranking reads; None without one.
        failures: what could not be measured, one line each.
        state: "ok", "failed" or "skipped".
    """

    cached: float | None = None
    live: float | None = None
    step_p5: float | None = None
    step_p95: float | None = None
    cached_flops: float | None = None
    live_flops: float | None = None
    train_memory: float | None = None
    rate: float | None = None
    rates: tuple[float, ...] = ()
    p50: float | None = None
    p95: float | None = None
    flops: float | None = None
    extra: float | None = None
    precision: str = ""
    index: str = ""
    reranked: int | None = None
    failures: tuple[str, ...] = ()
    state: str = "ok"
    environment: Mapping[str, Any] | None = None
    finished: str = ""

    @property
    def train_rate(self) -> float | None:
        """Training samples/s, in the cheaper way of serving the teacher that was measured."""
        return self.cached or self.live

    @property
    def network(self) -> Network | None:
        """What tells networks apart whose cost was measured; None where nothing was."""
        return None if self.flops is None else (self.flops, self.precision, bool(self.train_rate))


def collect_costs(usable: Iterable[Record]) -> dict[Place, dict[str, Cost]]:
    """Return costs by place and method.

    Args:
        usable: as :func:`usable_costs` returns them, oldest first: of several measurements of the
            same method the newest counts, and what was measured by other code does not stand beside
            it.
    """
    found: dict[Place, dict[str, dict[str, Record]]] = {}
    for record in usable:
        methods = found.setdefault(place_of(record), {})
        modes = methods.setdefault(shown_label(record["cell"]), {})
        for mode in [mode for mode, other in modes.items() if _made(other) != _made(record)]:
            del modes[mode]
        modes[_mode(record)] = record
    return {
        place: {label: cost(modes) for label, modes in sorted(methods.items())}
        for place, methods in found.items()
    }


def usable_costs(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """Return the records that can be used, oldest first, and a line for each that cannot."""
    usable, problems = [], []
    for record in sorted(records, key=lambda r: (str(r.get("finished")), str(r.get("key")))):
        try:
            place_of(record)
            shown_label(record["cell"])
            cost({_mode(record): record})
            usable.append(record)
        except MALFORMED as error:
            name = str(record.get("key"))[:12]
            problems.append(f"cost record {name}: malformed ({type(error).__name__}: {error})")
    return usable, problems


def _mode(record: Record) -> str:
    """Return none, cached or live.

    "cached and live" is cached: what can be kept is, but not what a method makes in a step.

    Raises:
        ValueError: for another word.
    """
    mode = str(record["teacher_served"]).removesuffix(" and live")
    if mode not in ("none", "cached", "live"):
        raise ValueError(f"a teacher cannot be served '{mode}'")
    return mode


def _made(record: Record) -> tuple[object, str]:
    """Return what must be equal for two measurements to stand in one row."""
    return record.get("measurement", 1), version(record["cell"])


def place_of(record: Record) -> Place:
    """Return the place of a cost record, with the names of the frame.

    Raises:
        AttributeError, LookupError, TypeError, ValueError: for a malformed record.
    """
    cell = record["cell"]
    if not all(isinstance(cell[name], str) for name in ("task", "source", "label")):
        raise TypeError("cell.task, cell.source or cell.label is no text")
    device = str((record.get("environment") or {}).get("device") or UNKNOWN_DEVICE)
    origin = str((record.get("external") or {}).get("origin") or "")
    words = (cell["task"], preset_name(cell), cell["source"], device, origin)
    return tuple(map(shown, words))


def cost(modes: Mapping[str, Record]) -> Cost:
    """Return one flat line from the records of a method, by how the teacher was served."""
    ok = {mode: record for mode, record in modes.items() if record["status"] == "ok"}
    # the teacher's row is of no training: then what trains, if anything does, is what counts
    ok = {mode: record for mode, record in ok.items() if record["training"]} or ok
    # without a teacher there is one way to train, and it belongs under the cheaper heading
    cheap, live = ok.get("cached") or ok.get("none"), ok.get("live")
    whole = live or cheap
    newest = max(modes.values(), key=lambda record: str(record.get("finished")))
    failures = tuple(
        f"teacher {mode}: {without_paths(text.first_line(str(record['error']['message'])))}"
        for mode, record in sorted(modes.items())
        if record["status"] != "ok"
    )
    environment, finished = newest.get("environment") or {}, str(newest["finished"])
    if whole is None:
        states = {str(record["status"]) for record in modes.values()}
        state = "skipped" if states == {"skipped"} else "failed"
        return Cost(failures=failures, state=state, environment=environment, finished=finished)
    inference, values = whole["inference"], whole["cell"].get("preset_values") or {}
    recipe = values.get("recipe" if whole["training"] else "teacher_recipe") or {}
    served = Cost(
        rate=_amount(inference["throughput"]["samples_per_s"]),
        rates=tuple(_amount(r["inference"]["throughput"]["samples_per_s"]) for r in ok.values()),
        p50=_amount(inference["latency"]["p50_s"]),
        p95=_amount(inference["latency"]["p95_s"]),
        flops=_number(inference["flops_per_sample"]),
        extra=_number(whole["parameters"]["train_only"]),
        precision=shown(str(recipe.get("precision") or "")),
        index=_index(inference.get("index")),
        reranked=_count(inference.get("reranked")),
        failures=failures,
        environment=environment,
        finished=finished,
    )
    if whole["training"] is None:  # what no step of the suite's loop trains: the teacher's row
        return served
    cheapest = cheap or whole
    step, memory = cheapest["training"]["step"], cheapest["training"]["memory"]
    return replace(
        served,
        cached=_amount(cheap["training"]["step"]["samples_per_s"]) if cheap else None,
        live=_amount(live["training"]["step"]["samples_per_s"]) if live else None,
        step_p5=_amount(step["p5_s"]),
        step_p95=_amount(step["p95_s"]),
        cached_flops=_number(cheap["training"]["flops_per_sample"]) if cheap else None,
        live_flops=_number(live["training"]["flops_per_sample"]) if live else None,
        # what CUDA allocated, or by how much the process grew
        train_memory=_number(memory.get("cuda_allocated_bytes", memory.get("rss_growth_bytes"))),
    )


def _index(index: Mapping[str, Any] | None) -> str:
    """Return in words what a search index takes; empty without one."""
    if not index:
        return ""
    passages = f"{int(index['passages']):,}".replace(",", " ")
    built = _rate(_amount(index["build"]["samples_per_s"]))
    size = f"{_amount(index['bytes']) / 2**20:.1f} MiB for {passages} passages"
    return f"{size}, built at {built} passages/s"


def _amount(value: Any) -> float:
    number = finite(value)
    if number is None or number < 0:
        raise ValueError(f"{value!r} is no amount")
    return number


def _count(value: Any) -> int | None:
    return None if value is None else int(_amount(value))


def _number(value: Any) -> float | None:
    return None if value is None else _amount(value)


HEAD = (
    "method",
    "train, teacher cached (samples/s)",
    "train, teacher live (samples/s)",
    "step p5–p95 (ms)",
    "train FLOPs/sample, cached / live",
    "train memory (MiB)",
    "inference (samples/s)",
    "latency p50 / p95 (ms)",
    "inference FLOPs",
    "extra",
)


def cost_table(context: Context, section: Section) -> list[Block]:
    """Return the blocks of the cost table of ``section``; none when nothing was measured."""
    found = context.costs_of(section)
    if not found:
        return []
    table = Table(
        name=f"cost-{section.slug}",
        head=HEAD,
        rows=[_row(label, cost) for label, cost in found.items()],
        title=f"Cost, measured apart from accuracy: {section.title}, {section.where}",
        source=_caption(section, found),
    )
    failed = [f"{label}, {line}" for label, cost in found.items() for line in cost.failures]
    blocks: list[Block] = [Text("Cost, measured apart from accuracy:"), table]
    indexes = tuple(f"{label}: {cost.index}" for label, cost in found.items() if cost.index)
    if indexes:
        blocks.append(Bullets("Search index (exact, float32):", indexes))
    if failed:
        blocks.append(Bullets("Costs that could not be measured:", tuple(failed)))
    return blocks


def _row(label: str, cost: Cost) -> list[Value]:
    if cost.state != "ok":
        return [Value(label), Value(cost.state), *[Value(text.NOTHING)] * (len(HEAD) - 2)]
    step = _pair(_ms(cost.step_p5, 1), "–", _ms(cost.step_p95, 1))
    latency = _pair(_ms(cost.p50, 2), " / ", _ms(cost.p95, 2))
    flops = _pair(text.count(cost.cached_flops), " / ", text.count(cost.live_flops))
    memory = text.NOTHING if cost.train_memory is None else f"{cost.train_memory / 2**20:.0f}"
    return [
        Value(label, label),
        Value(_rate(cost.cached), cost.cached),
        Value(_rate(cost.live), cost.live),
        Value(step, cost.step_p5),
        Value(flops, cost.cached_flops or cost.live_flops),
        Value(memory, cost.train_memory),
        Value(_rate(cost.rate), cost.rate),
        Value(latency, cost.p50),
        Value(text.count(cost.flops), cost.flops),
        Value(text.count(cost.extra), cost.extra),
    ]


def _pair(first: str, between: str, second: str) -> str:
    nothing = first == second == text.NOTHING
    return text.NOTHING if nothing else f"{first}{between}{second}"


def _rate(value: float | None) -> str:
    return text.NOTHING if value is None else f"{value:,.0f}".replace(",", " ")


def _ms(value: float | None, digits: int) -> str:
    return text.NOTHING if value is None else f"{value * 1e3:.{digits}f}"


def train_seconds(line: Line, cost: Cost | None) -> float | None:
    """Return seconds to train on a thousand samples, or None where they were not measured."""
    rate = cost.train_rate if cost else None
    return 1000 / rate if rate and line.trained_student else None


def _caption(section: Section, found: Mapping[str, Cost]) -> str:
    costs = list(found.values())
    environment = costs[0].environment or {}
    gpu = str(environment.get("device", "")).startswith("cuda")
    memory = (
        "the peak that PyTorch allocated on the device"
        if gpu
        else "the peak growth of the process over the loaded models"
    )
    days = sorted(cost.finished[:10] for cost in costs)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    sentences = [
        f"One process at a time, {environment.get('threads')} processor thread(s), on "
        f"{environment.get('device_name')}; preset {section.told_preset}, source {section.source}; "
        "medians after warm-up."
    ]
    if any(cost.train_rate for cost in costs):
        sentences.append(
            "Step and train memory are those of the cached teacher where there is one (it runs in "
            "the step for inputs that a method makes there), FLOPs with a live teacher count its "
            f"own pass; train memory is {memory}; extra is parameters that are trained and thrown "
            "away."
        )
    if any(cost.cached and cost.live for cost in costs):
        sentences.append(
            "Each was measured once, inference beside either teacher (shown: beside the live one)."
        )
    alone = [name for name, cost in found.items() if cost.state == "ok" and not cost.train_rate]
    if alone:
        sentences.append(f"Of {', '.join(alone)} serving alone is measured.")
    sentences += [*_precisions(found), *_reranked(found), *_noise(costs), f"Measured {when}."]
    return " ".join(sentences)


def _precisions(found: Mapping[str, Cost]) -> list[str]:
    """Return a sentence where networks of one table are served in several precisions."""
    rows: dict[str, list[str]] = {}
    for label, cost in found.items():
        if cost.precision:
            rows.setdefault(cost.precision, []).append(label)
    if len(rows) < 2:
        return []
    told = "; ".join(f"in {name}: {', '.join(labels)}" for name, labels in sorted(rows.items()))
    return [f"Networks are served as they are tested, {told}."]


def _reranked(found: Mapping[str, Cost]) -> list[str]:
    """Return a sentence on the rows that rank again what a first stage found."""
    rows: dict[int, list[str]] = {}
    for label, cost in found.items():
        if cost.reranked is not None:
            rows.setdefault(cost.reranked, []).append(label)
    return [
        f"Serving {', '.join(labels)} ranks the first {count} passages of BM25 again; BM25's own "
        "time is not counted."
        for count, labels in sorted(rows.items())
    ]


def rates_of_networks(costs: Iterable[Cost]) -> dict[Network, list[float]]:
    """Return every measured inference rate of each network; equal networks differ by noise."""
    alike: dict[Network, list[float]] = {}
    for cost in costs:
        if cost.network is not None:
            alike.setdefault(cost.network, []).extend(rate for rate in cost.rates if rate > 0)
    return alike


def _noise(costs: Iterable[Cost]) -> list[str]:
    """Return a sentence on how far measurements of one network's throughput lie apart."""
    apart = [max(found) / min(found) for found in rates_of_networks(costs).values() if found[1:]]
    if not apart:
        return []
    return [
        "Measurements of equal inference FLOPs are of one network; that their inference rates "
        f"differ, by a factor of up to {max(apart):.1f}, is noise."
    ]
