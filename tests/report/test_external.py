from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from factory import failure, record, runs_of

from bench.errors import BenchError
from bench.report import write_reports
from bench.report.content import Context
from bench.report.external import ExternalRow, import_results
from bench.report.index import render_index
from bench.report.leaderboard import footnotes
from bench.report.publish import badge, citation
from bench.report.remarks import remarks
from bench.report.select import load
from bench.store import read_records, write_record

HEAD = "task,method,seed,score,teacher,teacher_score,setting,url,date,kind\n"
ROWS = [
    "cifar10,scratch,0,0.6906,resnet56,0.7234,resnet20,,2020-01-01,baseline",
    "cifar10,kd,0,0.7066,resnet56,0.7234,resnet20,https://example.org/a,2020-01-01,method",
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "paper.csv"
    path.write_text(HEAD + "\n".join(ROWS) + "\n", encoding="utf-8")
    return path


def test_a_table_becomes_marked_records_with_gains_of_their_own(
    table: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    for made in runs_of("cifar10"):
        write_record(results, made)
    assert len(import_results(table, "A Paper (2020)", results)) == 2
    context = load(results)
    assert context.problems == []
    ours, theirs = context.sections
    assert (ours.origin, theirs.origin) == ("", "A Paper (2020)")
    kd = theirs.line("kd")
    assert kd is not None and kd.gain is not None and kd.closed is not None
    assert kd.gain.mean == pytest.approx(0.016)
    assert kd.closed == pytest.approx(0.0160 / 0.0328)
    assert {line.label for line in ours.lines} == {"scratch", "kd"}
    write_reports(results, tmp_path / "out")
    page = (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8")
    assert "external: A Paper (2020)" in page
    assert "Epoch chosen by: unknown" in page


def test_importing_twice_changes_nothing_and_a_different_number_needs_to_be_meant(
    table: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    first = import_results(table, "A", results)
    assert import_results(table, "A", results) == first
    table.write_text(table.read_text(encoding="utf-8").replace("0.7066", "0.9"), encoding="utf-8")
    with pytest.raises(BenchError, match="imported before and differs"):
        import_results(table, "A", results)
    import_results(table, "A", results, replace=True)
    assert len(read_records(results)[0]) == 2
    import_results(table, "B", results)
    assert len(read_records(results)[0]) == 4


def test_whatever_differs_from_an_earlier_import_needs_to_be_meant(tmp_path: Path) -> None:
    table, results = tmp_path / "paper.csv", tmp_path / "results"
    head = "task,method,seed,score,teacher_score,parameters,direction\n"
    table.write_text(f"{head}cifar10,kd,0,0.5,0.9,100,max\n", encoding="utf-8")
    (path,) = import_results(table, "A", results)
    before = path.read_bytes()
    table.write_text(f"{head}cifar10,kd,0,0.5,0.9,999,min\n", encoding="utf-8")
    with pytest.raises(BenchError, match="imported before and differs"):
        import_results(table, "A", results)
    assert path.read_bytes() == before


def test_a_failed_record_may_be_imported_twice(tmp_path: Path) -> None:
    made = failure("kd", 0, "no")
    path = write_record(tmp_path / "theirs", made)
    results = tmp_path / "results"
    assert import_results(path, "A", results) == import_results(path, "A", results)
    write_record(tmp_path / "theirs", {**made, "metrics": record("kd", 0, 0.8)["metrics"]})
    with pytest.raises(BenchError, match="imported before and differs"):
        import_results(path, "A", results)


def test_a_record_of_another_machine_is_marked_and_cannot_pass_for_ours(tmp_path: Path) -> None:
    made = record("kd", 0, 0.8)
    made["predictions"] = {"file": "../x.npz", "sha256": "0"}
    path = write_record(tmp_path / "theirs", made)
    import_results(path, "Somebody", tmp_path / "results")
    (kept,) = read_records(tmp_path / "results")[0]
    assert kept["external"]["origin"] == "Somebody"
    assert kept["external"]["file"] == path.name
    assert kept["key"] != made["key"]  # or a run of ours would be taken for done
    assert "predictions" not in kept
    assert kept["metrics"] == made["metrics"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.7066", "70.66", "line 3: score = 70.66 is not a share"),
        ("0.7066", "much", "line 3: score"),
        ("0.7066", "nan", "line 3: score"),
        ("kd,0", "kd,-1", "line 3: seed"),
        ("setting", "seting", "has no option 'seting'"),
        ("https://example.org/a", "javascript:alert(1)", "line 3: url"),
        ("2020-01-01,method", "yesterday,method", "line 3: date"),
        (",method\n", ",method,more\n", "line 3: 10 cells expected"),
        ("cifar10,kd,0,0.7066", "cifar10,scratch,0,0.7066", "the same run as line 2"),
        ("cifar10,kd", ",kd", "line 3: task"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(
    table: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = table.read_text(encoding="utf-8")
    assert old in text
    table.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(BenchError, match=r"paper\.csv") as caught:
        import_results(table, "A", tmp_path / "results")
    assert said in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "paper.csv"
    path.write_text("task,method,seed,score,score\ncifar10,kd,0,0.7,0.9\n", encoding="utf-8")
    with pytest.raises(BenchError, match="column 'score' is given twice"):
        import_results(path, "A", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_other_bad_input(tmp_path: Path) -> None:
    def refused(path: Path, said: str, origin: str = "A") -> None:
        with pytest.raises(BenchError, match=said):
            import_results(path, origin, tmp_path / "results")

    empty = tmp_path / "empty.csv"
    empty.write_text(HEAD, encoding="utf-8")
    refused(empty, "holds no results")
    latin = tmp_path / "latin.csv"
    latin.write_bytes(HEAD.encode() + b"caf\xe9")
    refused(latin, "not UTF-8 at byte")
    refused(tmp_path / "nowhere.csv", "cannot be read")
    refused(tmp_path, "cannot be read")
    text = tmp_path / "text.txt"
    text.write_text("x", encoding="utf-8")
    refused(text, "neither a .json record nor a .csv table")
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"schema": 0}), encoding="utf-8")
    refused(old, "record schema 0")
    made = record()
    del made["task"]["metric"]
    malformed = tmp_path / "malformed.json"
    malformed.write_text(json.dumps(made), encoding="utf-8")
    refused(malformed, "malformed")
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    refused(pipe, "no ordinary file")
    far = tmp_path / "far.csv"
    far.write_text(f"{HEAD}cifar10,kd,{'9' * 300},0.5,,,,,,\n", encoding="utf-8")
    refused(far, "seed")
    for origin in ("", "  ", "this project", "x" * 81, "Universit\udce9", "a\u200bb"):
        refused(empty, "does not say whose", origin)
    assert not (tmp_path / "results").exists()


def test_names_cannot_lead_out_of_the_results(table: Path, tmp_path: Path) -> None:
    text = table.read_text(encoding="utf-8").replace("cifar10,kd", "../../../etc,../kd")
    table.write_text(text, encoding="utf-8")
    results = tmp_path / "results"
    for path in import_results(table, "../../up", results):
        assert path.resolve().is_relative_to(results.resolve())


def test_the_schema_names_every_column() -> None:
    schema = ExternalRow.model_json_schema()
    assert set(HEAD.strip().split(",")) <= schema["properties"].keys()
    assert set(schema["required"]) == {"task", "method", "seed", "score"}


def imported(folder: Path, lines: list[str], head: str = "task,method,seed,score") -> Context:
    path = folder / "theirs.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    import_results(path, "A", folder / "results")
    return load(folder / "results")


def test_a_teacher_is_a_baseline_whatever_its_line_says(tmp_path: Path) -> None:
    scores = [(method, seed, 0.7 + seed / 100) for method in ("scratch", "kd") for seed in range(3)]
    lines = [f"cifar,{method},{seed},{score}" for method, seed, score in scores]
    (section,) = imported(tmp_path, [*lines, "cifar,teacher,0,0.9"]).sections
    teacher = section.line("teacher")
    assert teacher is not None and teacher.kind == "baseline" and teacher.complete
    assert [line.label for line in section.contenders] == ["kd"]
    assert "the highest, kd" in " ".join(remarks(section))


def test_a_baseline_of_others_is_not_called_a_linear_model(tmp_path: Path) -> None:
    lines = ["c,scratch,0,0.7,baseline", "c,kd,0,0.71,method", "c,label_smoothing,0,0.8,baseline"]
    (section,) = imported(tmp_path, lines, "task,method,seed,score,kind").sections
    assert "no neural network" not in " ".join(remarks(section))


def test_a_metric_that_is_no_share_needs_a_direction(tmp_path: Path) -> None:
    head = "task,method,seed,score,metric"
    with pytest.raises(BenchError, match=r"line 2: nll without a direction \(max or min\)"):
        imported(tmp_path, ["c,kd,0,1.2,nll"], head)
    lines = ["c,scratch,0,2.7,nll,min", "c,kd,0,1.2,nll,min"]
    (section,) = imported(tmp_path, lines, f"{head},direction").sections
    assert section.lines[0].label == "kd"


def test_results_of_others_do_not_count_in_ours(tmp_path: Path) -> None:
    for made in runs_of("cifar10", seeds=2):
        write_record(tmp_path / "results", made)
    before = load(tmp_path / "results")
    lines = [f"cifar100,m{n},{seed},0.7,2031-01-01" for n in range(20) for seed in range(5)]
    context = imported(tmp_path, lines, "task,method,seed,score,date")
    assert badge(context) == badge(before) and "2 methods, 1 task, 4 runs" in badge(context)
    assert citation(context) == citation(before)
    assert (
        "104 cells" in footnotes(context)[0] and "100 of them are external" in footnotes(context)[0]
    )
    shown = " ".join(render_index(context, [], {}).split())
    assert "4 finished cells, 0 failed, 0 skipped, and 100 external." in shown
