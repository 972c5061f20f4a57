from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from factory import record, world

from bench.errors import BenchError
from bench.report.publish import publish
from bench.report.select import load
from bench.store import read_records, record_path, write_predictions, write_record


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    made, costs = world(seeds=2, tasks=1, methods=2)
    for each in made:
        write_record(root, each)
    (root / "a.cost.json").write_text(json.dumps(costs[0]), encoding="utf-8")
    path = record_path(root, made[0]).with_suffix(".npz")
    write_predictions(path, {})
    (root / "notes.txt").write_text("private", encoding="utf-8")
    return root


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_publication_is_whole_and_its_checksums_hold(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    publish(results, out)
    files = everything(out)
    for name in ("index.html", "leaderboard.md", "CITATION.cff", "badge.svg", ".nojekyll"):
        assert name in files
    sums = dict(reversed(line.split("  ", 1)) for line in files["SHA256SUMS"].decode().splitlines())
    assert sums.keys() == files.keys() - {"SHA256SUMS"}
    assert all(hashlib.sha256(files[name]).hexdigest() == sum_ for name, sum_ in sums.items())
    assert not any(name.endswith((".npz", ".txt")) for name in files)
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in out.rglob("*") if path.is_file())
    assert len(read_records(out / "results")[0]) == len(read_records(results)[0])
    assert str(tmp_path).encode() not in b"".join(files.values())


def test_publishing_again_writes_the_same_and_drops_what_is_gone(
    results: Path, tmp_path: Path
) -> None:
    out = tmp_path / "site"
    publish(results, out)
    before = everything(out)
    publish(results, out)
    assert everything(out) == before
    gone = next(results.rglob("seed1-*.json"))
    gone.unlink()
    publish(results, out)
    assert f"results/{gone.relative_to(results).as_posix()}" not in everything(out)


def test_predictions_only_when_asked_for(results: Path, tmp_path: Path) -> None:
    publish(results, tmp_path / "site", predictions=True)
    assert sum(name.endswith(".npz") for name in everything(tmp_path / "site")) == 1


def test_the_readme_says_what_needs_the_predictions(results: Path, tmp_path: Path) -> None:
    publish(results, tmp_path / "site")
    told = " ".join((tmp_path / "site" / "README.md").read_text(encoding="utf-8").split())
    assert "Only the agreement of student and teacher is read off saved predictions" in told
    assert "records that all of it is rendered from" not in told


def test_a_link_out_of_the_results_is_not_published(results: Path, tmp_path: Path) -> None:
    kept = sorted(results.rglob("seed1-*.json"))[0]
    (tmp_path / "secret.json").write_bytes(kept.read_bytes())
    (results / "link.json").symlink_to(tmp_path / "secret.json")  # a record the report can use
    (tmp_path / "secret.npz").write_bytes(b"somebody's")
    kept.with_suffix(".each.npz").symlink_to(tmp_path / "secret.npz")
    publish(results, tmp_path / "site")
    files = everything(tmp_path / "site")
    assert f"results/{kept.relative_to(results).as_posix()}" in files
    assert "results/link.json" not in files
    assert not [name for name in files if name.endswith(".each.npz")]


def test_only_what_the_report_used_is_published(results: Path, tmp_path: Path) -> None:
    kept = sorted(results.rglob("seed1-*.json"))[0]
    made = json.loads(kept.read_text(encoding="utf-8"))
    malformed = write_record(results, {**made, "key": "0" * 64, "parameters": [1]})
    (results / ".leases").mkdir()
    (results / ".leases" / "a.json").write_text("{}", encoding="utf-8")
    (results / ".old").mkdir()
    (results / ".old" / "seed.json").write_bytes(kept.read_bytes())
    (results / "private.json").write_text("{}", encoding="utf-8")
    (results / "b.cost.json").write_text("{}", encoding="utf-8")
    kept.with_suffix(".each.npz").write_bytes(b"scores")
    kept.with_suffix(".samples.json").write_text("{}", encoding="utf-8")
    (kept.parent / "stray.each.npz").write_bytes(b"scores")
    publish(results, tmp_path / "site", predictions=True)
    files = {name for name in everything(tmp_path / "site") if name.startswith("results/")}
    beside = kept.with_suffix(".each.npz").relative_to(results).as_posix()
    records = [path for path in results.rglob("seed?-*.json") if ".samples" not in path.name]
    taken = {path.relative_to(results).as_posix() for path in records if path != malformed}
    assert {name for name in files if name.endswith(".json")} == {
        f"results/{name}" for name in (*taken, "a.cost.json")
    }
    assert {name for name in files if name.endswith(".each.npz")} == {f"results/{beside}"}


def test_a_folder_with_something_else_is_left_alone(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BenchError, match="holds something else"):
        publish(results, out)
    assert everything(out) == {"mine.txt": b"mine"}
    for place in (results, results / "site", tmp_path):
        with pytest.raises(BenchError, match="within each other"):
            publish(results, place)


def test_citation_and_badge_are_well_formed(results: Path, tmp_path: Path) -> None:
    odd = record('<b>&"', 0, 0.5)
    write_record(results, odd)
    publish(results, tmp_path / "site")
    cited = yaml.safe_load((tmp_path / "site" / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "dataset"
    assert str(cited["date-released"]) == "2025-03-01"
    assert cited["commit"] == "0123456789"
    badge = ET.fromstring((tmp_path / "site" / "badge.svg").read_text(encoding="utf-8"))
    assert "4 methods, 1 task" in "".join(badge.itertext())
    assert load(tmp_path / "site" / "results").problems == []
