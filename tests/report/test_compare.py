from __future__ import annotations

from pathlib import Path

import pytest
from factory import context, failure, record
from processes import bench

from bench.errors import BenchError
from bench.report.compare import Comparison, compare
from bench.store import Record, write_record

NOISE = [0.001, -0.002, 0.0015, -0.0005, 0.002, -0.001]


def runs(shift: float = 0.0, seeds: int = 6, method: str = "kd", noise: int = 0) -> list[Record]:
    return [
        record(method, seed, 0.8 + seed / 100 + shift + NOISE[(seed + noise) % 6] * (noise > 0))
        for seed in range(seeds)
    ]


def held(a: list[Record], b: list[Record], tolerance: float | None = None) -> Comparison:
    return compare(context(a), context(b), tolerance)


def verdicts(a: list[Record], b: list[Record], tolerance: float | None = None) -> list[str]:
    return [change.verdict for change in held(a, b, tolerance).changes]


@pytest.mark.parametrize(
    ("shift", "noise", "verdict"),
    [
        (0.0, 0, "same"),
        (0.0, 2, "within noise"),
        (-0.03, 2, "worse"),
        (0.03, 2, "better"),
    ],
)
def test_a_change_is_told_from_noise(shift: float, noise: int, verdict: str) -> None:
    assert verdicts(runs(), runs(shift, noise=noise)) == [verdict]


def test_few_seeds_are_no_evidence_unless_a_tolerance_is_given() -> None:
    before, after = runs(seeds=3), runs(-0.03, seeds=3, noise=1)
    assert verdicts(before, after) == ["too few seeds"]
    assert verdicts(before, after, tolerance=1.0) == ["worse"]
    assert verdicts(before, after, tolerance=5.0) == ["within noise"]
    # a fall of just so much is tolerated: 0.80 to 0.79 is a little more in binary
    one, other = ([record("kd", s, score + s / 50) for s in range(2)] for score in (0.80, 0.79))
    assert verdicts(one, other, tolerance=1.0) == ["within noise"]


def test_a_metric_where_smaller_is_better_is_turned_round() -> None:
    names = {"metric": "rmse", "direction": "min"}
    before = [record("kd", s, 1.0 + s / 10, **names) for s in range(6)]  # type: ignore[arg-type]
    after = [record("kd", s, 1.5 + s / 10 + NOISE[s], **names) for s in range(6)]  # type: ignore[arg-type]
    assert verdicts(before, after) == ["worse"]
    assert verdicts(after, before) == ["better"]


def test_what_is_gone_or_fails_now_is_worse_and_what_is_new_is_not() -> None:
    lost = [*runs(seeds=5), failure("kd", 5, "no")]
    assert verdicts(runs(), lost) == ["failing"]
    assert verdicts(lost, runs()) == ["fixed"]
    found = held(runs(), runs(method="dkd"))
    assert {change.label: change.verdict for change in found.changes} == {
        "kd": "only A",
        "dkd": "only B",
    }
    assert [change.label for change in found.worse] == ["kd"]
    assert verdicts([failure("kd", 0, "no")], [failure("kd", 0, "no")]) == ["same"]


def test_machines_are_compared_and_their_differences_told() -> None:
    here, there = runs(), runs(noise=2)
    for made in there:
        made["environment"] = {**made["environment"], "device": "cuda", "torch": "3.0"}
        made["revision"] = {"git": "fedcba9876543210", "clean": True}
    found = held(here, there)
    assert [change.verdict for change in found.changes] == ["within noise"]
    settings = {name: (a, b) for name, a, b in found.settings}
    assert settings["device"] == ("cpu", "cuda")
    assert settings["torch"] == ("2.9.0", "3.0")
    assert settings["revision"] == ("0123456789", "fedcba9876")
    assert held(here, here).settings == ()


def test_a_device_is_held_against_itself_where_both_have_it() -> None:
    def on(device: str, score: float) -> list[Record]:
        return [record("kd", seed, score + seed / 100, device=device) for seed in range(6)]

    both = [*on("cpu", 0.3), *on("cuda", 0.8)]
    found = held(both, on("cuda", 0.4), tolerance=1.0)
    assert [change.verdict for change in found.changes] == ["worse", "only A"]
    assert found.changes[0].where == "amazon, preset quick, embedded data, cuda"
    found = held(both, [*on("cpu", 0.3), *on("cuda", 0.4)], tolerance=1.0)
    assert [change.verdict for change in found.changes] == ["same", "worse"]
    found = held(on("cpu", 0.8), on("cuda", 0.8))
    assert [change.verdict for change in found.changes] == ["same"]
    assert found.changes[0].where.endswith("cpu and cuda")


def test_a_device_that_is_gone_is_told() -> None:
    def on(*devices: str) -> list[Record]:
        return [record("kd", seed, 0.8, device=name) for name in devices for seed in range(2)]

    gone = held(on("cpu", "cuda"), on("cpu"))
    assert [(change.verdict, change.where[-4:]) for change in gone.changes] == [
        ("same", " cpu"),
        ("only A", "cuda"),
    ]
    assert gone.worse == gone.changes[1:]
    assert not held(on("cpu"), on("cpu", "cuda")).worse
    across = held(on("cpu", "cuda"), on("mps"))
    assert [change.where.rpartition(", ")[2] for change in across.changes] == [
        "cpu and mps",
        "cuda",
    ]


def test_results_of_others_are_not_held_against_our_own() -> None:
    theirs = [record("kd", seed, 0.9) for seed in range(6)]
    for made in theirs:
        made["external"] = {"origin": "another lab"}
    found = held(theirs, runs(-0.3))
    assert [change.verdict for change in found.changes] == ["only A", "only B"]
    assert found.changes[0].where.endswith(", external: another lab")


def test_a_fixed_seed_hides_no_worse_score() -> None:
    before = [record("kd", 0, 0.8), record("kd", 1, 0.8), failure("kd", 2, "no")]
    after = [record("kd", seed, 0.5) for seed in range(3)]
    assert verdicts(before, after, tolerance=1.0) == ["worse"]
    assert verdicts(before, after, tolerance=50.0) == ["fixed"]
    tested = [*runs(seeds=6), failure("kd", 6, "no")]
    assert verdicts(tested, runs(-0.03, seeds=7, noise=1)) == ["worse"]


@pytest.mark.parametrize("more", [0, 1])
def test_results_without_a_common_seed_do_not_pass_in_silence(more: int) -> None:
    before = [record("kd", seed, 0.8) for seed in (0, 1)]
    after = [record("kd", seed, 0.8) for seed in range(2, 4 + more)]
    found = held(before, after, tolerance=1.0)
    assert [change.verdict for change in found.changes] == ["no common seeds"]
    assert found.worse


def test_seeds_that_are_gone_do_not_pass_in_silence() -> None:
    found = held(runs(seeds=5), runs(seeds=2))
    assert [change.verdict for change in found.changes] == ["seeds gone"]
    assert found.worse
    assert verdicts(runs(seeds=5), runs(seeds=2), tolerance=1.0) == ["seeds gone"]
    assert verdicts(runs(seeds=7), runs(0.03, seeds=6, noise=2)) == ["seeds gone"]
    assert verdicts(runs(seeds=5), runs(-0.03, seeds=2), tolerance=1.0) == ["worse"]
    assert verdicts(runs(seeds=2), runs(seeds=5)) == ["too few seeds"]  # more of them is no loss


def test_unrelated_sets_do_not_change_alarms_at_five_percent_each() -> None:
    """Many comparisons without a difference: Holm's correction keeps alarms of the whole rare."""
    import numpy as np

    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(30):
        a, b = (
            [record(f"m{m}", s, float(rng.normal(0.8, 0.01))) for m in range(8) for s in range(5)]
            for _ in range(2)
        )
        alarms += bool({"worse", "better"} & set(verdicts(a, b)))
    assert alarms <= 5


def test_the_exit_status_is_for_continuous_integration(tmp_path: Path) -> None:
    for name, shift in (("a", 0.0), ("b", -0.05)):
        for made in runs(shift, noise=int(shift < 0)):
            write_record(tmp_path / name, made)
    worse = bench("compare", "a", "b", cwd=tmp_path)
    assert worse.code == 1, worse.err
    assert "worse: kd on amazon" in worse.out
    better = bench("compare", "b", "a", "--format", "csv", cwd=tmp_path)
    assert better.code == 0
    assert better.out.splitlines()[1].endswith(",better")
    one = bench("compare", "a@0123456", "a@01234567", cwd=tmp_path)
    assert one.code == 0 and "1 same." in one.out
    none = bench("compare", "a@ffff", "b", cwd=tmp_path)
    assert none.code == 2 and "no record of revision 'ffff'" in none.err


def test_a_revision_has_the_records_that_newer_ones_of_the_same_cells_replace(
    tmp_path: Path,
) -> None:
    from bench.report.command import _load

    for at, revision in enumerate(("aaaaaaaaaaaa", "bbbbbbbbbbbb")):
        made = record("kd", 0, 0.5 + at / 10, finished=f"2025-03-0{at + 1}T10:00:00+00:00")
        made["revision"] = {"git": revision, "clean": True}
        write_record(tmp_path, made)
    assert [_load(f"{tmp_path}@{letter * 4}").frame.test_best.tolist() for letter in "ab"] == [
        [0.5],
        [0.6],
    ]


@pytest.mark.parametrize(
    "words",
    [("report", "--task", "amazon"), ("compare", "results", "results"), ("publish", "site")],
    ids=lambda words: words[0],
)
def test_a_table_that_lacks_a_record_says_so_beside_it(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    for made in runs(seeds=2):
        broken = write_record(tmp_path / "results", made)
    assert bench(*words, cwd=tmp_path).code == 0
    broken.write_text("{broken", encoding="utf-8")
    done = bench(*words, cwd=tmp_path)
    assert done.code == 1
    assert done.err.count(f"warning: quick/amazon/kd/{broken.name}") == 1
    assert "warning" not in done.out


def test_what_a_comparison_does_not_use_does_not_fail_it(tmp_path: Path) -> None:
    for made in runs(seeds=2):
        write_record(tmp_path / "results", made)
    (tmp_path / "results" / "x.cost.json").write_text("{broken", encoding="utf-8")
    done = bench("compare", "results", "results", cwd=tmp_path)
    assert done.code == 0 and not done.err
    assert bench("report", "--task", "amazon", cwd=tmp_path).code == 1


def test_a_revision_must_be_told_well_enough(tmp_path: Path) -> None:
    from bench.report.command import _load

    write_record(tmp_path / "a", runs()[0])
    with pytest.raises(BenchError, match="too short"):
        _load(f"{tmp_path / 'a'}@01")
