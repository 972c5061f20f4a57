"""What machines are asked before they run anything."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import pytest

from bench.executors.survey import Survey, data_sets, difference, survey

from .conftest import Tiny


def test_the_survey_names_versions_code_plugins_and_data(tiny: Tiny) -> None:
    plan = tiny.plan("scratch", "kd", seeds=2)
    (cell,) = data_sets(plan.cells)
    plugins = (str(tiny.plugin), str(tiny.base / "absent.py"))
    found = survey(Survey((cell,)), plugins)
    assert found["torch"] == importlib.metadata.version("torch")
    assert found["data of cifar10 (embedded)"] == cell.origin["fingerprint"][:12]
    assert found["plug-in absent.py"] == "missing"
    tiny.plugin.write_text(tiny.plugin.read_text() + "\n")
    changed = survey(Survey((cell,)), plugins)
    assert difference(found, changed) == (
        f"plug-in waiting.py is {changed['plug-in waiting.py']} there "
        f"and {found['plug-in waiting.py']} here"
    )


def test_data_that_cannot_be_read_differs(tiny: Tiny) -> None:
    (cell,) = data_sets(tiny.plan("scratch").cells)
    here = survey(Survey((cell,)), ())
    there = survey(Survey((replace(cell, source="mirror"),)), ())
    assert "data of cifar10 (mirror)" in str(difference(here, there))
    assert difference(here, dict(here)) is None


def test_other_code_of_the_project_differs(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "methods" / "kd.py"
    module.parent.mkdir()
    module.write_text("weight = 0.9\n")
    monkeypatch.setattr("bench.executors.survey.PROJECT", tmp_path)
    cells = data_sets(tiny.plan("scratch").cells)
    here = survey(Survey(cells), ())
    assert difference(here, survey(Survey(cells), ())) is None
    module.write_text("weight = 0.8\n")
    there = survey(Survey(cells), ())
    assert difference(here, there) == (
        f"project code is {there['project code']} there and {here['project code']} here"
    )


def test_every_data_set_of_one_task_counts(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = data_sets(tiny.plan("scratch").cells)
    other = replace(cell, preset_values={**cell.preset_values, "train_limit": 7})
    cells = data_sets([cell, other])
    here = survey(Survey(cells), ())
    fingerprints = iter(["another", cell.origin["fingerprint"][:12]])
    monkeypatch.setattr("bench.executors.survey._fingerprint", lambda _: next(fingerprints))
    assert "data of cifar10 (embedded) is another; " in str(
        difference(here, survey(Survey(cells), ()))
    )
