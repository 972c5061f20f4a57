"""Few labels and a long tail, from the command line to the report, with a method that uses both."""

from __future__ import annotations

from pathlib import Path

import processes
import pytest

from bench.store import Record, read_records, record_files

pytestmark = pytest.mark.slow  # its parts have tests of their own: tests/tasks/test_variants.py
FEW, TAIL = "cifar10:n=100", "cifar10:imbalance=10"
OUTSIDE = "cifar10:n=100:teacher_data=all"
PLUGIN = '''"""KD on labelled and unlabelled inputs."""

import torch
import torch.nn.functional as F

from bench import Method, register_method
from bench.errors import NotApplicable
from bench.losses import soft_kl


@register_method("halves")
class Halves(Method):
    """Match the teacher on unlabelled inputs too."""

    def setup(self, context):
        if context.unlabelled is None:
            raise NotApplicable("halves needs unlabelled inputs")
        self.pool, self.ask = context.unlabelled, context.teacher
        self.student_of = [context.student]  # in a list: not a part of the method

    def loss(self, *, batch, student, teacher, progress):
        other = self.pool.draw(progress.step, len(batch.labels))
        assert (other.labels == -1).all() and other.part != batch.part
        theirs = self.ask(other, ()).scores
        assert theirs.shape == (len(batch.labels), student.scores.shape[1])
        ours = self.student_of[0](other.inputs).scores
        return {
            "ce": F.cross_entropy(student.scores, batch.labels),
            "kd": soft_kl(student=ours, teacher=theirs, temperature=4.0),
        }
'''


def bench(folder: Path, *arguments: str) -> str:
    """Run ``python -m bench`` in a world of its own; it must succeed."""
    said = processes.bench(*arguments, BENCH_CACHE=str(folder / "cache"))
    assert said.code == 0, said.text
    return said.out


def run(folder: Path) -> str:
    plugin = folder / "halves.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    return bench(
        folder,
        *["run", "--methods", "scratch,kd,teacher,halves", "--tasks", f"{FEW},{TAIL},{OUTSIDE}"],
        *["--seeds", "1", "--set", "epochs=2", "--set", "teacher_recipe.epochs=1"],
        *["--device", "cpu", "--plugin", str(plugin), "--results", str(folder / "results")],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("variants")
    (folder / "said.txt").write_text(run(folder), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def records(folder: Path) -> dict[tuple[str, str], Record]:
    found, problems = read_records(folder / "results")
    assert not problems
    return {(each["cell"]["task"], each["cell"]["method"]): each for each in found}


def test_every_cell_leaves_a_record_in_a_place_of_its_own(
    folder: Path, records: dict[tuple[str, str], Record]
) -> None:
    assert len(records) == 12
    bad = {key for key, each in records.items() if each["status"] != "ok"}
    assert bad == {(TAIL, "halves")}
    assert records[TAIL, "halves"]["status"] == "skipped"
    folders = {path.parent.parent.name for path in record_files(folder / "results")}
    assert folders == {*("cifar10-n=100", "cifar10-imbalance=10", "cifar10-n=100-teacher_data=all")}


def test_records_say_what_was_used(records: dict[tuple[str, str], Record]) -> None:
    few, tail = records[FEW, "kd"]["data"], records[TAIL, "kd"]["data"]
    assert few["rows"]["train"] == 100 == sum(few["class_rows"])
    assert few["class_rows"] == [10] * 10
    assert few["rows"]["unlabelled"] > 800
    assert tail["class_rows"][0] == 10 * tail["class_rows"][-1] + tail["class_rows"][0] % 10
    assert "unlabelled" not in tail["rows"]
    assert few["rows"]["test"] == tail["rows"]["test"] == 445
    assert few["rows"]["validation"] == tail["rows"]["validation"]


def test_teachers_are_those_that_were_asked_for(records: dict[tuple[str, str], Record]) -> None:
    keys = {task: records[task, "kd"]["teacher"]["key"] for task in (FEW, TAIL, OUTSIDE)}
    assert len(set(keys.values())) == 3
    assert records[OUTSIDE, "teacher"]["teacher"]["key"] == keys[OUTSIDE]
    scores = {
        task: records[task, "teacher"]["metrics"]["best"]["test"]["accuracy"] for task in keys
    }
    assert scores[OUTSIDE] > scores[FEW]  # ten times the labels


def test_the_unlabelled_part_was_used_with_a_live_teacher(
    records: dict[tuple[str, str], Record],
) -> None:
    halves, kd = records[FEW, "halves"], records[FEW, "kd"]
    assert kd["teacher"]["served"] == "cached"
    assert halves["teacher"]["served"] == "cached and live"


def test_group_accuracies_stand_beside_the_accuracy(
    records: dict[tuple[str, str], Record],
) -> None:
    for method in ("scratch", "kd", "teacher"):
        for when in ("best", "last"):
            scores = records[TAIL, method]["metrics"][when]["test"]
            assert {"accuracy_many", "accuracy_medium", "accuracy_few"} <= scores.keys()
            values = [scores[f"accuracy_{name}"] for name in ("many", "medium", "few")]
            assert min(values) <= scores["accuracy"] <= max(values)
    assert "accuracy_many" not in records[FEW, "kd"]["metrics"]["best"]["test"]


def test_the_report_has_a_table_for_each_and_one_of_groups(folder: Path) -> None:
    arguments = ["report", "--results", str(folder / "results"), "--reports"]
    bench(folder, *arguments, str(folder / "reports"))
    page = (folder / "reports" / "leaderboard.md").read_text(encoding="utf-8")
    for name in (FEW, TAIL, OUTSIDE):
        assert f"## {name} · embedded digits (preset quick with epochs=2" in page
    (head,) = (line for line in page.splitlines() if line.startswith("|") and "many (%)" in line)
    heads = [cell.strip() for cell in head.strip("|").split("|")]
    assert heads == ["method", "many (%)", "medium (%)", "few (%)"]
    (table,) = (folder / "reports" / "tables").glob("groups-*.csv")
    assert "imbalance=10" in table.name
    assert "100 labelled training samples" in page
    assert "the teacher learned from all training labels" in page


def test_a_second_run_runs_nothing(folder: Path) -> None:
    assert "0 cells run, 12 already there." in run(folder)


@pytest.mark.slow
def test_more_labels_than_there_are_is_one_line(tmp_path: Path) -> None:
    said = processes.bench(
        *["run", "--methods", "scratch", "--tasks", "cifar10:n=9999", "--seeds", "1"],
        *["--device", "cpu", "--results", tmp_path / "results"],
    )
    assert said.code == 1
    assert "BenchError: n=9999 labelled samples, but the training split has" in said.out
