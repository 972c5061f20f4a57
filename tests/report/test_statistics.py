"""What the tables say and do not say about noise."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from factory import context, cost, failure, record, runs, world

from bench.report.agreement import agreements
from bench.report.content import Context, Table
from bench.report.costs import HEAD, Cost, collect_costs, cost_table, usable_costs
from bench.report.frame import collect
from bench.report.leaderboard import render_leaderboard
from bench.report.parts import build
from bench.report.sections import Section
from bench.store import Record, record_path, write_predictions, write_record

SCRATCH = [0.70, 0.71, 0.69, 0.70, 0.72]
KD = [0.80, 0.82, 0.79, 0.81, 0.82]
CLOSE = [0.80, 0.81, 0.80, 0.805, 0.82]


def section(records: list[Record]) -> Section:
    (found,) = context(records).sections
    return found


def page(made: Context) -> str:
    return render_leaderboard(made, build(made))


def test_the_best_and_the_tied_are_winners_and_the_rest_is_not() -> None:
    records = [*runs("scratch", SCRATCH), *runs("kd", KD), *runs("dkd", CLOSE)]
    assert section(records).winners == {"kd", "dkd"}
    shown = page(context(records))
    # two scores, two gains over scratch, and the plain student's loss against kd
    assert shown.count("**") == 2 * (2 + 2 + 1)
    assert "significant at 5 %" in shown


def test_a_plain_student_that_wins_is_the_winner() -> None:
    records = [*runs("scratch", KD), *runs("kd", SCRATCH)]
    assert section(records).winners == {"scratch"}
    assert "No distillation method beats scratch significantly" in page(context(records))


@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_few_seeds_give_no_winner_and_no_test(seeds: int) -> None:
    records = [*runs("scratch", SCRATCH[:seeds]), *runs("kd", KD[:seeds])]
    found = section(records)
    assert found.winners == frozenset()
    for line in found.lines:
        assert line.interval is None
        assert all(held.p is None for held in line.versus.values())
        assert all((held.interval is None) == (seeds == 1) for held in line.versus.values())
    shown = page(context(records))
    assert "**" not in shown and "(Holm)" not in shown
    assert ("One common seed" if seeds == 1 else "too few") in shown


def test_holm_is_taken_over_the_rows_of_one_reference() -> None:
    made = section([*runs("scratch", SCRATCH), *runs("kd", KD), *runs("dkd", CLOSE)])
    kd = made.line("kd")
    assert kd is not None and set(kd.versus) == {"scratch"}
    held = kd.versus["scratch"]
    assert held.p is not None and held.adjusted is not None
    assert held.p <= held.adjusted <= 2 * held.p


def test_a_method_that_lacks_a_seed_is_never_tied() -> None:
    records = [*runs("scratch", SCRATCH), *runs("kd", KD), *runs("dkd", CLOSE[:4])]
    assert section([*records, failure("dkd", 4, "no")]).winners == {"kd"}


def test_across_tasks_with_enough_of_them() -> None:
    records, costs = world(seeds=3, tasks=5, methods=4)
    made = context(records, costs)
    shown = page(made)
    assert "Friedman's test" in shown and "Nemenyi's critical difference" in shown
    (group,) = made.groups
    assert group.labels == ["fitnets", "kd", "lelp", "scratch"]
    assert group.ranks.sum() == pytest.approx(1 + 2 + 3 + 4)
    pictures = {picture.name.split("-")[0] for part in build(made) for picture in part.pictures}
    assert pictures == {"ranks", "profiles", "scores", "gains", "tradeoff", "curves", "cost"}


def test_across_few_tasks_there_is_no_test_and_it_says_so() -> None:
    made = context(world(seeds=3, tasks=2, methods=3)[0])
    assert "2 tasks are too few for a test of ranks" in page(made)
    assert not [p for part in build(made) for p in part.pictures if p.name.startswith("ranks")]


def test_an_incomplete_method_is_left_out_across_tasks_and_named() -> None:
    whole, _ = world(seeds=2, tasks=2, methods=3)
    records = [r for r in whole if (r["cell"]["label"], r["cell"]["seed"]) != ("fitnets", 1)]
    made = context(records)
    assert made.groups[0].labels == ["kd", "scratch"]
    assert "a seed or a task is missing: fitnets" in page(made)


def test_a_task_without_a_gap_is_no_part_of_the_gap_closed_and_named() -> None:
    records = [
        made
        for task, teacher in (("amazon", 0.9), ("imdb", 0.702))
        for made in (
            *runs("scratch", SCRATCH, task=task, teacher=teacher),
            *runs("kd", KD, task=task, teacher=teacher),
        )
    ]
    made = context(records)
    assert [s.task for s in made.groups[0].with_gap] == ["amazon"]
    assert "not part of the gap closed: imdb" in page(made)


def test_a_row_of_a_second_teacher_closes_the_gap_to_that_teacher() -> None:
    def of_second(made: Record) -> Record:
        made["cell"]["teacher_seed"] = 1
        return made

    plain = [
        made
        for task in ("amazon", "imdb")
        for made in (
            *runs("scratch", [0.5] * 3, task=task),
            *runs("kd", [0.6] * 3, task=task),
            record("teacher", 0, 0.9, task=task, teacher=None),
            *map(of_second, runs("kd", [0.6] * 3, task=task, teacher=0.7)),
        )
    ]
    label = "kd (teacher seed 1)"
    (group,) = context(plain).groups
    assert [shares.tolist() for shares in group.closed("kd")] == [pytest.approx([0.25] * 3)] * 2
    assert group.closed(label) == []  # its teacher has no row
    assert "standings" in {table.name.partition("-")[0] for table in _tables(plain)}
    second = [
        of_second(record("teacher", 0, 0.7, task=t, teacher=None)) for t in ("amazon", "imdb")
    ]
    (group,) = context([*plain, *second]).groups
    assert [shares.tolist() for shares in group.closed(label)] == [pytest.approx([0.5] * 3)] * 2


def _tables(records: list[Record]) -> list[Table]:
    return [table for part in build(context(records)) for table in part.tables]


def test_external_results_never_share_a_table_with_ours() -> None:
    theirs = runs("kd", [0.99] * 5)
    for made in theirs:
        made["external"] = {"origin": "Some Paper"}
    found = context([*runs("scratch", SCRATCH), *runs("kd", KD), *theirs])
    assert [s.origin for s in found.sections] == ["", "Some Paper"]
    assert "99.00" not in str(found.sections[0].lines)
    assert "external: Some Paper" in page(found)


def saved(root: Path, made: Record, predicted: list[int], **changes: object) -> Record:
    """Write ``made`` with predictions beside it."""
    path = record_path(root, made).with_suffix(".npz")
    logits = np.eye(3, dtype=np.float32)[predicted]
    made["predictions"] = {
        "file": path.name,
        "sha256": write_predictions(path, {"best_test": logits}),
        **changes,
    }
    write_record(root, made)
    return made


def test_agreement_is_read_off_the_predictions_and_the_checksum_guards_it(tmp_path: Path) -> None:
    teacher = record("teacher", 0, 0.9)
    teacher["teacher"] = {"key": "t", "name": "big", "test": {"accuracy": 0.9}}
    kd, altered = record("kd", 0, 0.8), record("kd", 1, 0.8)
    records = [
        saved(tmp_path, teacher, [0, 1, 2, 0]),
        saved(tmp_path, kd, [0, 1, 0, 0]),
        saved(tmp_path, altered, [0, 1, 2, 0], sha256=hashlib.sha256(b"").hexdigest()),
        saved(tmp_path, record("kd", 2, 0.8), [0], file="../../../etc/passwd"),
        record("kd", 3, 0.8),
    ]
    found = agreements(records, tmp_path)
    assert found == {kd["key"]: 0.75}
    assert agreements(records, tmp_path) == found  # the second time from the cache
    line = Context(collect(records, found).frame).sections[0].line("kd")
    assert line is not None and line.agreement is not None and line.agreement.mean == 0.75


def test_agreement_is_with_the_copy_of_the_teacher_that_taught(tmp_path: Path) -> None:
    teacher, student = record("teacher", 0, 0.5, teacher=0.5), record("kd", 0, 0.5, teacher=0.75)
    for made in (teacher, student):
        saved(tmp_path, made, [0, 1, 1, 0])
    assert agreements([teacher, student], tmp_path) == {}
    student["teacher"]["test"] = teacher["teacher"]["test"]
    assert agreements([teacher, student], tmp_path) == {student["key"]: 1.0}


def test_agreement_of_other_shapes_is_none(tmp_path: Path) -> None:
    teacher = record("teacher", 0, 0.9)
    teacher["teacher"] = {"key": "t", "name": "big", "test": {"accuracy": 0.9}}
    records = [
        saved(tmp_path, teacher, [0, 1, 2]),
        saved(tmp_path, record("kd", 0, 0.8), [0, 1]),
    ]
    assert agreements(records, tmp_path) == {}


def test_rankings_have_no_agreement(tmp_path: Path) -> None:
    """The place of the largest number of a passage in a ranking is no class."""
    teacher = record("teacher", 0, 0.9)
    teacher["teacher"] = {"key": "t", "name": "big", "test": {"accuracy": 0.9}}
    records = []
    for made in (teacher, record("kd", 0, 0.8)):
        path = record_path(tmp_path, made).with_suffix(".npz")
        digest = write_predictions(path, {"best_test": np.array([[2, 0, 1], [1, 0, 2]])})
        made["predictions"] = {"file": path.name, "sha256": digest}
        write_record(tmp_path, made)
        records.append(made)
    assert agreements(records, tmp_path) == {}


def test_training_is_as_fast_as_the_cheaper_way_of_serving_the_teacher() -> None:
    assert Cost(cached=3.0, live=2.0).train_rate == 3.0
    assert Cost(live=2.0).train_rate == 2.0
    assert Cost().train_rate is None


def test_flops_stand_beside_the_speed_they_belong_to() -> None:
    costs = [cost("kd", "cached"), cost("kd", "live", 0.5), cost("scratch", "none")]
    made = context([*runs("scratch", SCRATCH), *runs("kd", KD)], costs)
    (section,) = made.sections
    (table,) = [block for block in cost_table(made, section) if isinstance(block, Table)]
    at = HEAD.index("train FLOPs/sample, cached / live")
    shown = {row[0].text: row[at].text for row in table.rows}
    assert shown == {"kd": "31.00 M / 62.00 M", "scratch": "31.00 M / -"}


def test_of_a_teacher_serving_alone_is_shown() -> None:
    teacher = {**cost("teacher", "none", 0.2), "training": None}
    made = context([*runs("scratch", SCRATCH), *runs("kd", KD)], [cost("kd"), teacher])
    (section,) = made.sections
    (table,) = [block for block in cost_table(made, section) if isinstance(block, Table)]
    (row,) = [row for row in table.rows if row[0].text == "teacher"]
    told = {name: value.text for name, value in zip(HEAD, row, strict=True) if value.text != "-"}
    assert told == {
        "method": "teacher",
        "inference (samples/s)": "1 040",
        "latency p50 / p95 (ms)": "10.50 / 15.00",
        "inference FLOPs": "12.00 M",
        "extra": "0",
    }
    assert "Of teacher serving alone is measured." in table.source


def test_measurements_of_other_code_do_not_share_a_row() -> None:
    old, new = cost("kd", "live", 0.5), cost("kd", "cached")
    for made, code, day in ((old, "a", "01"), (new, "b", "02")):
        made["cell"] = {**made["cell"], "code": code}
        made["finished"] = f"2026-11-{day}T00:00:00+00:00"
    ((found,),) = (methods.values() for methods in collect_costs([old, new]).values())
    assert found.live is None and found.cached and found.rates == (5200.0,)
    again = {**new, "measurement": 2, "finished": "2026-11-03T00:00:00+00:00"}
    again["teacher_served"] = "live"
    ((found,),) = (methods.values() for methods in collect_costs([old, new, again]).values())
    assert found.cached is None and found.live


def test_the_caption_of_costs_tells_of_what_is_there() -> None:
    def caption(*costs: Record) -> str:
        made = context([*runs("scratch", SCRATCH), *runs("kd", KD)], [*costs])
        tables = [block for block in cost_table(made, made.sections[0]) if isinstance(block, Table)]
        return str(tables[0].source)

    teacher = {**cost("teacher", "none", 0.2), "training": None}
    assert "beside the live one" in caption(cost("kd"), cost("kd", "live"))
    for few in ((cost("kd"), cost("scratch", "none")), (teacher,)):
        assert "beside the live one" not in caption(*few)
    assert "Step and train memory" not in caption(teacher)
    teacher["inference"] = {**teacher["inference"], "reranked": 20}
    assert "Serving teacher ranks the first 20 passages of BM25 again" in caption(teacher)
    values = {"recipe": {"precision": "float32"}, "teacher_recipe": {"precision": "bfloat16"}}
    pair = [cost("kd"), teacher]
    for made in pair:
        made["cell"] = {**made["cell"], "preset_values": values}
    assert "in bfloat16: teacher; in float32: kd" in caption(*pair)
    assert "is noise" not in caption(*pair)  # of equal FLOPs, and yet not measured alike


def test_the_bars_of_one_network_are_of_one_length() -> None:
    from bench.report.figures.bars import draw

    teacher = {**cost("teacher", "none", 0.1), "training": None}
    made = context(
        [*runs("scratch", SCRATCH), *runs("kd", KD)],
        [cost("scratch", "none", 1.0), cost("kd", "cached", 2.0), teacher],
    )
    figure = draw(made.sections, [made.costs_of(made.sections[0])], made.looks)
    lengths = [bar.get_width() for bar in figure.axes[1].patches]
    assert lengths == [7800.0, 7800.0, 520.0]  # kd, scratch, teacher
    assert len({bar.get_width() for bar in figure.axes[0].patches}) == 3  # training differs


def test_the_cost_of_a_teacher_alone_draws_no_student() -> None:
    teacher = {**cost("teacher", "none", 0.2), "training": None}
    made = context([*runs("scratch", SCRATCH), *runs("kd", KD)], [teacher])
    names = {picture.name.split("-")[0] for part in build(made) for picture in part.pictures}
    assert "cost" in names and "tradeoff" not in names


@pytest.mark.parametrize("mode", ["cached", "live"])
def test_a_row_without_training_beside_one_with_it_is_no_crash(mode: str) -> None:
    other = {**cost("kd", "cached" if mode == "live" else "live"), "training": None}
    found_all = collect_costs([cost("kd", mode), other])
    ((found,),) = (methods.values() for methods in found_all.values())
    assert found.state == "ok" and found.train_rate


def test_a_teacher_that_is_served_in_no_known_way_is_a_problem() -> None:
    usable, (problem,) = usable_costs([cost("kd", "by post")])
    assert not usable and "by post" in problem


def test_a_malformed_cost_record_is_a_problem_not_a_crash() -> None:
    _, (whole, *_) = world(seeds=1, tasks=1, methods=1)
    broken = {**whole, "training": {}}
    usable, problems = usable_costs([whole, broken, {"status": "ok"}])
    found = collect_costs(usable)
    assert len(found) == 1
    assert len(problems) == 2 and all("malformed" in problem for problem in problems)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0, 10**400, "fast"])
@pytest.mark.parametrize("place", ["training step samples_per_s", "inference latency p50_s"])
def test_a_cost_that_is_no_amount_is_refused(number: object, place: str) -> None:
    made = cost()
    part, of, name = place.split()
    made[part][of][name] = number
    usable, (problem,) = usable_costs([made])
    assert not usable and "is no amount" in problem


def test_the_pareto_front_by_hand() -> None:
    from bench.report.figures.tradeoff import Point, pareto

    points = [Point(name, cost, score, 0.0) for name, cost, score in (
        ("cheap", 1.0, 0.5), ("dominated", 2.0, 0.4), ("same cost", 1.0, 0.4),
        ("best", 3.0, 0.9), ("no better", 4.0, 0.9),
    )]  # fmt: skip
    assert [point.label for point in pareto(points, "max")] == ["cheap", "best"]
    assert [point.label for point in pareto(points, "min")] == ["same cost"]


def test_wall_time_is_never_drawn_as_a_cost() -> None:
    made = context([*runs("scratch", SCRATCH), *runs("kd", KD)])
    names = {picture.name.split("-")[0] for part in build(made) for picture in part.pictures}
    assert names == {"scores"}


def test_a_method_keeps_its_look_wherever_it_is_drawn() -> None:
    import seaborn

    from bench.report.looks import PALETTE, looks

    few, many = looks(["kd", "scratch"]), looks(["scratch", "kd", *(f"z{n}" for n in range(30))])
    assert few["kd"] == many["kd"] and few["scratch"] == many["scratch"]
    assert len(set(many.values())) == len(many)
    known = {*seaborn.color_palette("colorblind").as_hex(), "#882255"}
    assert set(PALETTE) <= known


def test_students_that_are_one_network_share_a_latency() -> None:
    from bench.report.figures.tradeoff import latencies

    records = [*runs("scratch", SCRATCH), *runs("kd", KD), *runs("dkd", CLOSE)]
    lines = section(records).lines
    costs = {"scratch": Cost(p50=1e-3, flops=9.0), "kd": Cost(p50=3e-3, flops=9.0)}
    shared = latencies(lines, costs)
    assert shared == pytest.approx({"scratch": 2.0, "kd": 2.0})
    assert latencies(lines, {**costs, "dkd": Cost(p50=8e-3, flops=10.0)})["dkd"] == 8.0


def test_the_tradeoff_names_only_what_it_draws_and_says_how_many_are_missing() -> None:
    from bench.report.figures.tradeoff import draw

    made = context(
        [*runs("scratch", SCRATCH), *runs("kd", KD), *runs("dkd", CLOSE)],
        [cost("scratch", "none"), cost("kd")],
    )
    figure = draw(made.sections, [made.costs_of(made.sections[0])], made.looks)
    (legend,) = figure.legends
    assert [each.get_text() for each in legend.get_texts()] == ["kd", "scratch", "Pareto front"]
    for ax in figure.axes:
        assert "measured for 2 of 3 methods" in ax.get_xlabel()


def test_costs_that_hardly_differ_are_drawn_from_zero() -> None:
    from bench.report.figures.tradeoff import draw

    records = [
        *runs("scratch", SCRATCH, parameters={"deployed": 15_470_000}),
        *runs("lelp", KD, parameters={"deployed": 15_472_000}),
    ]
    made = context(records)
    figure = draw(made.sections, [{}], made.looks)
    _, right = figure.axes
    assert right.get_xlim()[0] == 0 and right.get_xlim()[1] > 15_472_000


def test_up_is_better_in_the_tradeoff_of_a_loss_too() -> None:
    from bench.report.figures.tradeoff import draw

    for direction, turned in (("max", False), ("min", True)):
        metric = {"metric": "mse", "direction": direction}
        made = context(
            [*runs("scratch", SCRATCH, **metric), *runs("kd", KD, **metric)],
            [cost("scratch", "none"), cost("kd")],
        )
        figure = draw(made.sections, [made.costs_of(made.sections[0])], made.looks)
        assert [ax.yaxis_inverted() for ax in figure.axes] == [turned, turned]
        assert ("lower is better" in figure.axes[0].get_ylabel()) == turned


def test_rows_on_other_terms_are_bold_nowhere() -> None:
    better = [score + 0.1 for score in KD]
    apart = runs("subclass", better, not_like_for_like="retrains the teacher")
    oracle = runs("lelp", [score + 0.02 for score in better], label="lelp (oracle)", kind="oracle")
    records = [*runs("scratch", SCRATCH), *runs("kd", KD), *apart, *oracle]
    for found in _tables(records):
        for row in found.rows:
            if row[0].text.startswith(("subclass", "lelp")):
                assert not any(value.bold for value in row), found.name
            if row[0].text == "kd" and found.name.startswith("differences"):
                assert any(value.bold for value in row)
