from __future__ import annotations

import random
import re

import pytest
from factory import context, failure, record, runs

from bench.privacy import without_paths
from bench.report.leaderboard import render_leaderboard
from bench.report.parts import build
from bench.report.text import count, escape, points
from bench.store import Record


def render(records: list[Record]) -> str:
    made = context(records)
    return render_leaderboard(made, build(made))


def cells(page: str, name: str, nth: int = 0) -> list[str]:
    """Return the cells of the ``nth`` table row whose first cell is ``name``."""
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in page.splitlines()
        if line.startswith("|")
    ]
    return [row for row in rows if row[0] == name][nth]


@pytest.fixture
def small() -> list[Record]:
    return [
        *runs("scratch", [0.80, 0.81, 0.82]),
        *runs("kd", [0.84, 0.84, 0.87], last=0.83),
        *runs("gpd", [0.81, 0.82, 0.83]),
        *runs("teacher", [0.91], teacher=None),
    ]


def test_numbers_by_hand(small: list[Record]) -> None:
    page = render(small)
    # kd: mean 85, deviations -1 -1 2, sd sqrt(6 / 2); gains 4, 3, 5; (85 - 81) of (91 - 81)
    assert cells(page, "kd") == [
        *["kd", "85.00 ± 1.73", "83.00 ± 0.00", "85.00 ± 1.73"],
        *["+4.00 ± 1.00", "40", "412 k", "0", "12.0", "3"],
    ]
    assert cells(page, "*scratch*")[4:6] == ["-", "-"]
    assert cells(page, "*teacher*")[4:6] == ["+10.00 (unpaired)", "100"]
    assert cells(page, "*teacher*")[-1] == "1"
    assert "**" not in page  # three seeds name no winner


def test_rows_are_ranked_and_the_caption_says_where_they_come_from(small: list[Record]) -> None:
    page = render(small)
    places = [page.index(f"| {name} ") for name in ("*teacher*", "kd", "gpd", "*scratch*")]
    assert places == sorted(places)
    assert "1,600 train, 200 validation, 200 test rows. A few hundred sentences only." in page
    assert "seeds 0, 1, 2, on cpu: a cpu. Teacher big with 412 k parameters" in page
    assert "test accuracy 91.00 %" in page
    assert "Finished 2025-03-01, revision 0123456789, torch 2.9.0." in page
    assert "3 seeds: too few for tests" in page


def test_the_same_bytes_for_shuffled_records(small: list[Record]) -> None:
    records = [*small, failure("tgt", 0, "no"), *runs("kd", [0.5], task="imdb")]
    shuffled = records[:]
    random.Random(1).shuffle(shuffled)
    assert render(records) == render(records) == render(shuffled)


def test_a_method_that_is_not_like_for_like_is_marked_and_never_bold(small: list[Record]) -> None:
    apart = {"not_like_for_like": "retrains a|b", "own_teacher": (0.97, 61.6)}
    page = render([*small, *runs("subclass", [0.94, 0.95, 0.96], **apart)])
    assert cells(page, "subclass †")[1] == "95.00 ± 1.00"
    told = next(line for line in page.splitlines() if line.startswith("> "))
    assert r"† subclass: not like for like and never bold, as it retrains a\|b" in told
    assert "97.00 % in 62 s" in told
    # its own teacher is not what the others had: ceiling and gap are those of the common one
    assert cells(page, "kd")[5] == "40"
    alone = [each for each in small if each["cell"]["method"] != "teacher"]
    page = render([*alone, *runs("subclass", [0.94, 0.95, 0.96], **apart)])
    assert cells(page, "kd")[5] == "44"  # (85 − 81) of (90 − 81)
    assert "†" not in render(small)


@pytest.mark.parametrize("apart", [{"not_like_for_like": "retrains"}, {"kind": "oracle"}])
def test_what_is_not_on_the_terms_of_all_is_neither_bold_nor_ranked(apart: dict[str, str]) -> None:
    scratch, kd = [0.70, 0.71, 0.72, 0.71, 0.70], [0.70, 0.72, 0.71, 0.72, 0.70]
    best = [score + 0.2 for score in scratch]
    records = [
        made
        for task in ("amazon", "imdb")
        for made in (
            *runs("scratch", scratch, task=task),
            *runs("kd", kd, task=task),
            *runs("mine", best, task=task, **apart),
        )
    ]
    name = "mine †" if "not_like_for_like" in apart else "mine"
    page = render(records)
    assert cells(page, name, 1)[1] == "90.80 ± 0.84"  # behind the overview
    assert cells(page, "kd", 2)[1].startswith("**")
    # however good it is, it does not stand for the others
    assert page.count("No distillation method beats scratch significantly") == 2
    assert f"Not ranked, as not on the terms of all: {name}." in page
    assert "a seed or a task is missing" not in page
    (group,) = context(records).groups
    assert group.labels == ["kd", "scratch"] and group.left_out == []
    front = [line.label for line in group.sections[0].contenders]
    assert front == ["kd"]


def test_incomplete_and_failed_methods_are_shown_as_such(small: list[Record]) -> None:
    skipped = [
        record("ofa", seed, status="skipped", error={"class": "Skipped", "message": "no labels"})
        for seed in range(3)
    ]
    lost = failure("fitnets", 2, "shapes `a|b` <b>\nmore")
    page = render([*small, *runs("fitnets", [0.9, 0.9]), lost, *skipped, record("vid", 0, 0.7)])
    assert cells(page, "fitnets")[1] == "90.00 ± 0.00"  # best mean, yet not bold: not complete
    assert cells(page, "fitnets")[-1] == "2/3 (1 failed)"
    assert cells(page, "vid")[-1] == "1/3 (2 not run)"
    assert cells(page, "ofa")[1] == "skipped"
    assert cells(page, "ofa")[-1] == "0/3 (3 skipped)"
    assert r"- fitnets, seed 2, failed: ValueError: shapes \`a\|b\` &lt;b&gt;" in page
    assert "- ofa, seeds 0, 1, 2, skipped: no labels" in page
    assert "**" not in page


def test_foreign_names_cannot_break_the_page(small: list[Record]) -> None:
    label = "a|b <script>alert(1)</script>\n# x"
    page = render([*small, *runs("kd", [0.8, 0.8, 0.8], label=label)])
    assert "<script>" not in page
    assert r"a\|b &lt;script&gt;alert(1)&lt;/script&gt; # x" in page
    widths = {len(re.findall(r"(?<!\\)\|", row)) for row in page.splitlines() if row[:1] == "|"}
    assert widths == {11, 6}  # scores, and differences to scratch and kd


def test_a_single_seed_has_no_spread_and_no_winner() -> None:
    page = render([record("scratch", 0, 0.8), record("kd", 0, 0.85)])
    assert cells(page, "kd")[1] == "85.00"
    assert cells(page, "kd")[4] == "+5.00"
    assert "**" not in page
    assert "One common seed only" in page


def test_without_a_reference_there_is_no_gain() -> None:
    page = render(runs("kd", [0.8, 0.81, 0.82]))
    assert cells(page, "kd")[4:6] == ["-", "-"]
    assert "No finished scratch run here" in page


def test_gains_are_paired_on_the_common_seeds_and_say_so() -> None:
    page = render([*runs("scratch", [0.8, 0.8]), *runs("kd", [0.82, 0.84, 0.9])])
    assert cells(page, "kd")[4] == "+3.00 ± 1.41 (2 pairs)"
    assert cells(page, "*scratch*")[-1] == "2/3 (1 not run)"


def test_a_metric_where_smaller_is_better() -> None:
    names = {"metric": "rmse", "direction": "min"}
    page = render(
        [
            *runs("scratch", [2.0, 2.0, 2.0], **names),
            *runs("kd", [1.5, 1.25, 1.75], **names),
            *runs("gpd", [2.5, 2.5, 2.5], **names),
            *runs("teacher", [1.0], **names, teacher=None),
        ]
    )
    assert "test rmse, lower is better" in page
    assert cells(page, "kd")[1] == "1.500 ± 0.250"
    assert cells(page, "kd")[4:6] == ["+0.500 ± 0.250", "50"]
    assert cells(page, "gpd")[4:6] == ["-0.500 ± 0.000", "-50"]
    assert page.index("| *teacher*") < page.index("| kd ") < page.index("| gpd ")


@pytest.mark.parametrize(
    ("teacher", "said"), [(0.815, "hardly beats"), (0.80, "does not beat"), (0.83, None)]
)
def test_a_weak_teacher_is_called_one(teacher: float, said: str | None) -> None:
    page = render([*runs("scratch", [0.81, 0.81]), *runs("teacher", [teacher], teacher=None)])
    if said is None:
        assert "says little about distillation" not in page
    else:
        assert f"The teacher {said} the plain student here" in page
    if said == "does not beat":
        assert cells(page, "*teacher*")[5] == "no gap"


def test_the_methods_own_teacher_stands_in_for_a_missing_row() -> None:
    page = render([*runs("scratch", [0.8, 0.8]), *runs("kd", [0.85, 0.85], teacher=0.9)])
    assert cells(page, "kd")[5] == "50"


def test_rows_of_another_copy_of_the_teacher_are_named(small: list[Record]) -> None:
    assert "was trained" not in render(small)

    def taught_anew(made: Record) -> Record:
        test = {**made["teacher"]["test"], "accuracy": 0.905}
        return {**made, "teacher": {**made["teacher"], "test": test}}

    anew = {("gpd", 0), ("gpd", 1), ("gpd", 2), ("kd", 1)}
    again = [
        taught_anew(made) if (made["cell"]["label"], made["cell"]["seed"]) in anew else made
        for made in small
    ]
    assert (
        "The teacher was trained 2 times: most rows had one that scores 90.00 %; gpd, kd (seed 1) "
        "had one that scores 90.50 %. A difference between rows of two copies is not the methods' "
        "alone."
    ) in render(again)


def test_copies_without_a_score_or_a_key_are_not_told_apart(small: list[Record]) -> None:
    """As of an altered record, or of somebody's table that names two teachers."""
    without = [
        {**made, "teacher": {**made["teacher"], "test": test, "validation": {"accuracy": at}}}
        for at, (made, test) in enumerate(zip(small[:6], [None, {"f1": 0.1}] * 3, strict=True))
    ]
    assert "was trained" not in render([*without, *runs("teacher", [0.9])])
    foreign = [
        {**made, "teacher": {"name": f"net{at}", "key": "", "test": {"accuracy": 0.9 + at / 100}}}
        for at, made in enumerate(small[:6])
    ]
    assert "was trained" not in render(foreign)


def test_a_teacher_of_the_methods_own_is_no_copy(small: list[Record]) -> None:
    apart = {"not_like_for_like": "retrains it", "own_teacher": (0.97, 61.6)}
    assert "was trained" not in render([*small, *runs("subclass", [0.9, 0.9, 0.9], **apart)])


def test_a_model_without_parameters_that_wins_is_named(small: list[Record]) -> None:
    page = render([*small, record("tfidf", 0, 0.88, parameters=None)])
    assert "tfidf, which is no neural network, scores 88.00 and beats the best trained" in page
    assert cells(page, "*tfidf*")[6:8] == ["-", "-"]
    worse = render([*small, record("tfidf", 0, 0.70, parameters=None)])
    assert "no neural network" not in worse


def test_a_second_teacher_and_a_plain_student_without_parameters_are_what_they_are() -> None:
    plain = runs("scratch", [0.7] * 3, parameters=None)
    page = render([*plain, *runs("kd", [0.6] * 3)])
    assert "no neural network" not in page
    second = record("teacher", 0, 0.97)
    second["cell"]["teacher_seed"] = 1
    page = render([*plain, *runs("kd", [0.6] * 3), record("teacher", 0, 0.95), second])
    assert "no neural network" not in page
    page = render(
        [*plain, second, record("teacher", 0, 0.95), record("tfidf", 0, 0.99, parameters=None)]
    )
    assert "beats the best trained student, scratch with 70.00" in page


def test_the_gap_of_another_teachers_rows_is_the_gap_to_that_teacher() -> None:
    def of_second(made: Record) -> Record:
        made["cell"]["teacher_seed"] = 1
        return made

    plain = [*runs("scratch", [0.5]), *runs("kd", [0.6]), record("teacher", 0, 0.9, teacher=None)]
    taught = of_second(record("kd", 0, 0.6, finished="2025-03-02T10:00:00+00:00"))
    page = render([*plain, taught])
    assert cells(page, "kd")[5] == "25"
    assert cells(page, "kd (teacher seed 1)")[4:6] == ["+10.00", "-"]  # its teacher has no row
    page = render([*plain, taught, of_second(record("teacher", 0, 0.8))])
    assert cells(page, "kd")[5] == "25"
    assert cells(page, "kd (teacher seed 1)")[5] == "33"
    assert cells(page, "*teacher (teacher seed 1)*")[5] == "100"


def test_seeds_are_counted_where_rows_are_held_against_each_other() -> None:
    page = render([*runs("scratch", [0.7] * 5), *runs("kd", [0.8, 0.81, 0.79])])
    assert "3 seeds: too few for tests (5 are needed)." in page
    assert "kd leads on 3 of 5 seeds, so nothing is set in bold." in page
    page = render([*runs("scratch", [0.7] * 3), *runs("kd", [0.8, 0.81, 0.79])])
    assert "3 seeds: too few for tests (5 are needed), so nothing is set in bold." in page


def test_gains_within_the_noise_are_called_that() -> None:
    page = render([*runs("scratch", [0.80, 0.80, 0.80]), *runs("kd", [0.78, 0.80, 0.83])])
    assert "No distillation method beats scratch by more than the standard deviation" in page


def test_overview_averages_complete_rows_only(small: list[Record]) -> None:
    other = [
        *runs("scratch", [0.5, 0.5, 0.5], task="imdb"),
        *runs("kd", [0.52, 0.52, 0.52], task="imdb"),
        *runs("gpd", [0.54, 0.54], task="imdb"),
    ]
    page = render([*small, *other])
    assert cells(page, "kd", 0) == ["kd", "+4.00 ± 1.00", "+2.00 ± 0.00", "+3.00"]
    assert cells(page, "gpd", 0)[2:] == ["+4.00 ± 0.00 (2/3 seeds)", "-"]
    assert cells(page, "*teacher*", 0)[2:] == ["not run", "-"]
    assert "## Overview" not in render(small)


def test_presets_and_devices_are_never_in_one_table(small: list[Record]) -> None:
    page = render(
        [*small, *runs("kd", [0.9], preset="full"), *runs("kd", [0.9], device="cuda")],
    )
    heads = [line for line in page.splitlines() if line.startswith("## ") and "(" in line]
    assert [head[head.index("(") :] for head in heads] == [
        "(preset full, source embedded, cpu)",
        "(preset quick, source embedded, cpu)",
        "(preset quick, source embedded, cuda)",
    ]


def test_small_words() -> None:
    assert [points(metric) for metric in ("accuracy", "nll")] == [" (points)", ""]
    assert [count(n) for n in (None, 950, 412_300, 999_600, 272_000_000, 1_100_000_000)] == [
        *["-", "950", "412 k", "1.00 M", "272.00 M", "1.10 B"]
    ]
    assert escape("label_smoothing _x_ a*b [c](d)") == r"label_smoothing \_x\_ a\*b \[c\](d)"
    assert without_paths("see https://example.org/a/b or C:\\Users\\me\\x.pt, and/or") == (
        "see https://example.org/a/b or …/x.pt, and/or"
    )
    assert without_paths("file:///home/jane/a.txt, /home/jane/a,b/x.pt, /home/jane/50%/y.pt") == (
        "…/a.txt, …/x.pt, …/y.pt"
    )
