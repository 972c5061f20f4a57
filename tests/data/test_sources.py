"""Hub and mirror through one interface."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from processes import python

from bench.data import hub_refs
from bench.data.images import decode_images
from bench.data.sources import DatasetRef, Hub, Mirror, Source, open_source
from bench.errors import BenchError

REF = DatasetRef(name="maker/reviews", revision="0" * 40, columns=("text", "label"))
REAL = os.environ.get("BENCH_DATA")
needs_mirror = pytest.mark.skipif(not REAL, reason="BENCH_DATA names no mirror")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caches of each test, the hub library's too, in its own folder."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    if "datasets" in sys.modules:
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture
def table() -> pa.Table:
    """Return six rows with a column that nobody asks for and an image-like one."""
    picture = [{"bytes": bytes([row] * 3), "path": None} for row in range(6)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table(
        {
            "label": pa.array(range(6), pa.int64()),
            "unread": ["x"] * 6,
            "text": [f"text {row}" for row in range(6)],
            "img": pa.array(picture, kind),
        }
    )


@pytest.fixture
def root(tmp_path: Path, table: pa.Table) -> Path:
    """Return a mirror with splits train and test as one file each."""
    write(table, tmp_path / "mirror" / REF.name / "train.parquet")
    write(table.slice(2, 3), tmp_path / "mirror" / REF.name / "test.parquet")
    return tmp_path / "mirror"


def write(table: pa.Table, path: Path) -> Path:
    """Write ``table`` as parquet and return ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def expected(table: pa.Table) -> pa.Table:
    """Return what reading :data:`REF` gives for ``table``."""
    return table.select(["text", "label"])


def run_offline(code: str, home: Path) -> Any:
    """Run ``code`` in a process whose hub is off; returns what it prints, read as JSON."""
    said = python("-c", code, HF_HUB_OFFLINE="1", HF_HOME=str(home))
    assert said.code == 0, said.err
    return json.loads(said.out)


# The mirror.


def test_plain_layout(root: Path, table: pa.Table) -> None:
    mirror = Mirror(root)
    assert mirror.read(REF, "train").equals(expected(table))
    assert mirror.read(REF, "test").equals(expected(table.slice(2, 3)))
    assert [mirror.has(REF, split) for split in ("train", "test", "validation")] == [1, 1, 0]
    assert mirror.problem(REF, ["train", "test"]) is None


@pytest.mark.parametrize("folder", ["", "data", "plain_text/deeper"])
def test_shards_in_order(tmp_path: Path, table: pa.Table, folder: str) -> None:
    base = tmp_path / REF.name / folder
    for index in (2, 0, 1):
        write(table.slice(2 * index, 2), base / f"train-{index:05}-of-00003.parquet")
    mirror = Mirror(tmp_path)
    assert mirror.read(REF, "train").combine_chunks().equals(expected(table).combine_chunks())
    assert mirror.has(REF, "train")
    assert not mirror.has(REF, "train-00000-of-00003")


def test_missing_shard_is_refused(tmp_path: Path, table: pa.Table) -> None:
    write(table, tmp_path / REF.name / "train-00000-of-00002.parquet")
    with pytest.raises(BenchError, match=r"1 files for split 'train' .* 2 expected"):
        Mirror(tmp_path).read(REF, "train")


def test_configuration_has_its_own_folder(root: Path, table: pa.Table) -> None:
    write(table.slice(5), root / REF.name / "small" / "train.parquet")
    small = DatasetRef(REF.name, REF.revision, REF.columns, config="small")
    assert Mirror(root).read(small, "train").num_rows == 1
    absent = DatasetRef(REF.name, REF.revision, REF.columns, config="default")
    assert Mirror(root).read(absent, "train").num_rows == 6


def test_metadata_is_dropped(root: Path, table: pa.Table) -> None:
    write(table.replace_schema_metadata({"huggingface": "{}"}), root / REF.name / "train.parquet")
    assert Mirror(root).read(REF, "train").schema.metadata is None


def test_missing_split_names_those_there_are(root: Path) -> None:
    with pytest.raises(BenchError, match=r"no split 'tests'.*did you mean 'test'"):
        Mirror(root).read(REF, "tests")
    with pytest.raises(BenchError, match=r"no split 'zzz'.*known: test, train"):
        Mirror(root).read(REF, "zzz")
    assert "no split 'zzz'" in str(Mirror(root).problem(REF, ["train", "zzz"]))


def test_missing_dataset(root: Path) -> None:
    other = DatasetRef("maker/other", "main", ("text",))
    with pytest.raises(BenchError, match="no folder maker/other"):
        Mirror(root).read(other, "train")
    assert not Mirror(root).has(other, "train")


def test_missing_column_names_file_column_and_nearest(root: Path) -> None:
    wrong = DatasetRef(REF.name, REF.revision, ("text", "labels"))
    with pytest.raises(BenchError, match=r"train\.parquet: no column 'labels'.*'label'"):
        Mirror(root).read(wrong, "train")
    assert "no column 'labels'" in str(Mirror(root).problem(wrong, ["train"]))


@pytest.mark.parametrize("keep", [0, 3, -20])
def test_broken_parquet_names_the_file(root: Path, keep: int) -> None:
    path = root / REF.name / "train.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BenchError, match=r"train\.parquet: not readable as parquet"):
        Mirror(root).read(REF, "train")
    assert "\n" not in str(Mirror(root).problem(REF, ["train"]))


def test_spoiled_pages_name_the_file(root: Path) -> None:
    path = root / REF.name / "train.parquet"
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196
    path.write_bytes(data)
    with pytest.raises(BenchError, match=r"train\.parquet: not readable as parquet"):
        Mirror(root).read(REF, "train")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc", "a//b", "", ".", "a\\b"])
def test_name_cannot_leave_the_mirror(root: Path, name: str) -> None:
    with pytest.raises(BenchError, match="is not a dataset's name"):
        Mirror(root / "maker").read(DatasetRef(name, "main", ("text",)), "train")


def test_configuration_cannot_leave_the_mirror(root: Path) -> None:
    ref = DatasetRef(REF.name, "main", ("text",), config="../..")
    with pytest.raises(BenchError, match="is not a dataset's name"):
        Mirror(root).read(ref, "train")


@pytest.mark.parametrize("split", ["../reviews/train", "*", "train.parquet"])
def test_split_is_a_plain_name(root: Path, split: str) -> None:
    with pytest.raises(BenchError, match="no split"):
        Mirror(root).read(REF, split)


def test_links_outside_are_refused_and_inside_are_followed(root: Path, table: pa.Table) -> None:
    outside = write(table, root.parent / "elsewhere" / "train.parquet")
    inside = root / REF.name / "train.parquet"
    (root / "maker" / "linked").mkdir()
    (root / "maker" / "linked" / "train.parquet").symlink_to(inside)
    linked = DatasetRef("maker/linked", "main", ("text", "label"))
    assert Mirror(root).read(linked, "train").num_rows == 6
    (root / "maker" / "linked" / "test.parquet").symlink_to(outside)
    with pytest.raises(BenchError, match="leads outside the mirror"):
        Mirror(root).read(linked, "test")
    (root / "maker" / "folder").symlink_to(outside.parent)
    with pytest.raises(BenchError, match="leads outside the mirror"):
        Mirror(root).read(DatasetRef("maker/folder", "main", ("text",)), "train")


def test_fingerprint_follows_the_bytes_of_the_splits(root: Path, table: pa.Table) -> None:
    mirror = Mirror(root)
    train, test = mirror.fingerprint(REF, ["train"]), mirror.fingerprint(REF, ["test"])
    assert train != test
    assert mirror.fingerprint(REF, ["test", "train"]) == mirror.fingerprint(REF, ["train", "test"])
    path = root / REF.name / "train.parquet"
    os.utime(path, ns=(10**18, 10**18))
    assert mirror.fingerprint(REF, ["train"]) == train
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    assert mirror.fingerprint(REF, ["train"]) != train
    assert mirror.fingerprint(REF, ["test"]) == test


def test_fingerprint_does_not_depend_on_where_the_mirror_is(root: Path) -> None:
    before = Mirror(root).fingerprint(REF, ["train"])
    assert Mirror(root.rename(root.parent / "moved")).fingerprint(REF, ["train"]) == before


# The hub.


@pytest.fixture
def local(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetRef:
    """Return a reference that the hub library reads from a local folder."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    return DatasetRef(str(root / REF.name), "ignored", ("text", "label"))


def test_hub_and_mirror_give_the_same_table(root: Path, local: DatasetRef) -> None:
    hub, mirror = Hub(), Mirror(root)
    for columns in (("text", "label"), ("img",)):
        here = DatasetRef(REF.name, REF.revision, columns)
        there = DatasetRef(local.name, "ignored", columns)
        for split in ("train", "test"):
            assert hub.read(there, split).equals(mirror.read(here, split))
    assert hub.has(local, "train")
    assert not hub.has(local, "validation")
    assert hub.problem(local, ["train", "test"]) is None
    assert "no split 'validation'" in str(hub.problem(local, ["validation"]))


def test_hub_does_not_decode_images(local: DatasetRef, table: pa.Table) -> None:
    """Files that declare an image column give its bytes all the same, without decoding them."""
    import datasets

    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    declared = pa.table({"img": table["img"], "label": table["label"]}, features.arrow_schema)
    write(declared, Path(local.name) / "train.parquet")
    write(declared, Path(local.name) / "test.parquet")
    read = Hub().read(DatasetRef(local.name, "ignored", ("img",)), "train")
    assert read["img"].to_pylist() == table["img"].to_pylist()
    assert read.schema.field("img").type == table.schema.field("img").type


def test_hub_reads_named_files_by_format(local: DatasetRef, table: pa.Table) -> None:
    folder = Path(local.name)
    rows = expected(table).to_pylist()
    (folder / "raw").mkdir()
    (folder / "raw" / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"full": "raw/*.jsonl", "held": "te*.parquet", "gone": "no/*.parquet"}
    ref = DatasetRef(local.name, "ignored", ("text", "label"), files=files)
    assert Hub().read(ref, "full").to_pylist() == rows
    assert Hub().read(ref, "held").to_pylist() == rows[2:5]
    assert Hub().has(ref, "full")
    assert not Hub().has(ref, "train")
    with pytest.raises(BenchError, match=r"no split 'fulls'.*did you mean 'full'"):
        Hub().read(ref, "fulls")
    with pytest.raises(BenchError, match="no file no/"):
        Hub().read(ref, "gone")


def test_hub_errors_are_one_line(local: DatasetRef) -> None:
    with pytest.raises(BenchError, match=r"no column 'labels'.*'label'"):
        Hub().read(DatasetRef(local.name, "ignored", ("labels",)), "train")
    with pytest.raises(BenchError) as caught:
        Hub().read(local, "validation")
    assert "validation" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hub_fingerprint_is_of_the_pinned_commit() -> None:
    hub = Hub()
    one = hub.fingerprint(REF, ["train", "test"])
    assert len(one) == 64
    assert hub.fingerprint(REF, ["test", "train"]) == one
    changes: list[Mapping[str, Any]] = [
        {"name": "maker/other"},
        {"revision": "1" * 40},
        {"config": "small"},
    ]
    for change in changes:
        other = DatasetRef(**{"name": REF.name, "revision": REF.revision, "columns": (), **change})
        assert hub.fingerprint(other, ["train", "test"]) != one
    assert hub.fingerprint(REF, ["train"]) != one
    first, second = (
        DatasetRef(REF.name, REF.revision, (), files={"train": name}) for name in ("a", "b")
    )
    assert hub.fingerprint(first, ["train"]) != hub.fingerprint(second, ["train"])


def test_folder_that_shadows_the_hub_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(BenchError, match="has its own 'maker/reviews'"):
        Hub().read(REF, "train")
    assert "has its own" in str(Hub().problem(REF, ["train"]))


def test_offline_hub_says_so_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    code = """if True:
        import json
        from bench.data.hub_refs import CIFAR10, SENTIMENT140
        from bench.data.sources import Hub
        from bench.errors import BenchError
        lines = [Hub().problem(CIFAR10, ["test"])]
        for call in (Hub().read, Hub().has, Hub().fingerprint):
            for ref in (CIFAR10, SENTIMENT140):
                try:
                    call(ref, "test")
                except BenchError as error:
                    lines.append(str(error))
        print(json.dumps(lines))
    """
    lines = run_offline(code, tmp_path)
    # Asking for splits of named files, and for a fingerprint of a pinned commit, needs no hub.
    assert len(lines) == 1 + 2 + 1 + 1
    for line in lines:
        assert "cannot reach the hub for" in line
        assert "set BENCH_DATA to a mirror directory, or use --preset quick" in line
        assert "\n" not in line


def test_branch_is_resolved_to_the_commit_that_is_read(tmp_path: Path) -> None:
    """What the hub's own cache holds is read offline, and the record gets its commit."""
    pytest.importorskip("datasets")
    commit = "ab" * 20
    repository = tmp_path / "hub" / "datasets--maker--reviews"
    branch = repository / "refs" / "refs" / "convert" / "parquet"  # the branch's name has "refs"
    branch.parent.mkdir(parents=True)
    branch.write_text(commit)
    raw = repository / "snapshots" / commit / "raw"
    raw.mkdir(parents=True)
    (raw / "all.jsonl").write_text('{"text": "one", "label": 1}\n')
    code = """if True:
        import json
        from bench.data.sources import DatasetRef, Hub
        def ref(revision):
            files = {"full": "raw/all.jsonl"}
            return DatasetRef("maker/reviews", revision, ("label", "text"), files=files)
        hub, branch = Hub(), ref("refs/convert/parquet")
        revision = hub.revision(branch)
        same = hub.fingerprint(branch, ["full"]) == hub.fingerprint(ref(revision), ["full"])
        print(json.dumps([revision, same, hub.read(branch, "full").to_pylist()]))
    """
    assert run_offline(code, tmp_path) == [commit, True, [{"label": 1, "text": "one"}]]


@pytest.mark.parametrize("asked", ["ab" * 20, "cd" * 20])
def test_only_the_pinned_commit_is_read_from_the_hubs_cache(
    root: Path, local: DatasetRef, tmp_path: Path, asked: str
) -> None:
    """Offline, `datasets` gives whichever version it has; only the pinned one may be read."""
    import datasets

    held, ref = "ab" * 20, DatasetRef(REF.name, asked, REF.columns)
    files = {"train": str(root / REF.name / "train.parquet")}
    prepared = datasets.load_dataset("parquet", data_files=files, split="train")
    (cached,) = (Path(entry["filename"]) for entry in prepared.cache_files)
    target = tmp_path / "home" / "datasets" / "maker___reviews" / "default" / "0.0.0" / held
    shutil.copytree(cached.parent, target)
    (target / cached.name).rename(target / cached.name.replace("parquet", "reviews"))
    code = f"""if True:
        import json
        from bench.data.sources import DatasetRef, Hub
        from bench.errors import BenchError
        ref = DatasetRef({ref.name!r}, {asked!r}, {ref.columns!r})
        try:
            print(json.dumps([Hub().problem(ref, ["train"]), Hub().read(ref, "train").num_rows]))
        except BenchError as error:
            print(json.dumps(str(error)))
    """
    answer = run_offline(code, tmp_path / "home")
    if asked == held:
        assert answer == [None, 6]
    else:
        assert "holds another version of 'maker/reviews' than cdcdcdcdcdcd" in answer


# Either.


def test_open_source(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_source("hub").kind == "hub"
    assert open_source("mirror", root).kind == "mirror"
    monkeypatch.setenv("BENCH_DATA", str(root))
    opened: Source = open_source("mirror")
    assert opened.has(REF, "train")
    with pytest.raises(BenchError, match=r"unknown data source 'miror'.*did you mean 'mirror'"):
        open_source("miror")


def test_mirror_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("BENCH_DATA", raising=False)
    with pytest.raises(BenchError, match=r"BENCH_DATA is not set .*--preset quick"):
        open_source("mirror")
    with pytest.raises(BenchError, match="gone does not exist"):
        open_source("mirror", tmp_path / "gone")
    with pytest.raises(BenchError, match="file is not a directory"):
        open_source("mirror", tmp_path / "file")


def test_importing_sources_is_light() -> None:
    code = "import sys, bench.data.sources; print({'datasets', 'torch'} & set(sys.modules))"
    assert python("-c", code).out.strip() == "set()"


def test_pinned_commits_are_whole() -> None:
    for ref in hub_refs.ALL:
        named = ref.revision == "refs/convert/parquet"
        assert named or (len(ref.revision) == 40 and int(ref.revision, 16)), ref.name


# A real mirror.


@needs_mirror
def test_real_cifar10() -> None:
    mirror = open_source("mirror", REAL)
    table = mirror.read(hub_refs.CIFAR10, "test")
    assert table.num_rows == 10_000
    assert np.bincount(table["label"].to_numpy()).tolist() == [1000] * 10
    images = decode_images(table["img"], (32, 32))
    assert images.shape == (10_000, 32, 32, 3)
    # The published channel means of the test split.
    np.testing.assert_allclose(images.mean((0, 1, 2)) / 255, [0.4942, 0.4851, 0.4504], atol=5e-4)


@needs_mirror
@pytest.mark.parametrize("ref", hub_refs.ALL, ids=lambda ref: ref.name)
def test_real_columns_are_readable(ref: DatasetRef) -> None:
    mirror = open_source("mirror", REAL)
    splits = [split for split in ("train_random", "validation", "test") if mirror.has(ref, split)]
    if not splits:
        pytest.skip(f"this mirror has no {ref.name}")
    assert mirror.problem(ref, splits) is None
    for split in splits:
        table = mirror.read(ref, split)
        assert table.column_names == list(ref.columns)
        assert table.num_rows > 0
        assert len(mirror.fingerprint(ref, [split])) == 64
