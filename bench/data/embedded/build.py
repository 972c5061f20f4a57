"""Rebuild the embedded text data from the published source archive of vaderSentiment 3.3.2.

Usage::

    python -m bench.data.embedded.build [--sdist PATH] [--out DIR]

Without ``--sdist`` the archive is fetched with pip, which refuses any file that does not have
the pinned sha256. The inner archive of human ratings is read in memory: nothing is unpacked to
disk. Two runs with the same pyarrow version write the same bytes.

Source: C.J. Hutto and E.E. Gilbert (2014), "VADER: A Parsimonious Rule-based Model for Sentiment
Analysis of Social Media Text", ICWSM-14. Licence: MIT (``LICENSE-vaderSentiment.txt``).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SDIST_NAME = "vaderSentiment-3.3.2.tar.gz"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
LICENSE_MEMBER = "vaderSentiment-3.3.2/LICENSE.txt"
RATINGS_MEMBER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
LICENSE_FILE = "LICENSE-vaderSentiment.txt"
CITATION = (
    "Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment "
    "Analysis of Social Media Text. Eighth International Conference on Weblogs and Social Media "
    "(ICWSM-14). Ann Arbor, MI, June 2014."
)

SPLITS = ("train", "validation", "test")
TRAIN_BELOW, VALIDATION_BELOW = 0.70, 0.80
# The first salts (counting up from 1) whose row shares lie within 3 points of 70/10/20.
SALTS = {"amazon_snippets": "amazon-1", "tweets": "tweets-1"}

# The 200 contrived tweets: 30 stems, which stand among the first 830 rows, and 170 variants of
# them (exclamation marks, capitals, intensifiers) in seven blocks. The source's read-me says only
# that there are 200; these are exactly the rows where the two published files disagree about the
# mean rating, plus row 1484, a variant of stem 2 for which they happen to agree.
CONTRIVED_STEMS = (
    *(2, 7, 9, 11, 15, 20, 30, 35, 58, 60, 73, 89, 100, 101, 114, 119, 124, 136, 169, 175),
    *(203, 215, 220, 239, 242, 252, 253, 273, 288, 298),
)
CONTRIVED_BLOCKS = (
    *((1424, 1486), (1818, 1876), (2215, 2226), (2849, 2855)),
    *((3201, 3212), (3550, 3554), (3855, 3866)),
)
CONTRIVED = frozenset(str(i) for i in CONTRIVED_STEMS) | frozenset(
    str(i) for first, last in CONTRIVED_BLOCKS for i in range(first, last + 1)
)
CONTRIVED_GROUP = "contrived"
DISAGREEING_MEANS = {"amazon_snippets": 0, "tweets": 199}

ESCAPES = (("&amp;", "&"), ("&#38;", "&"), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"))

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("text", pa.string()),
        ("rating", pa.float32()),
        ("raters", pa.list_(pa.int8())),
    ]
)


@dataclass(frozen=True)
class Row:
    """One rated text: ``raters`` are whole scores in -4..4, ``published`` is the file's mean."""

    id: str
    text: str
    published: float
    raters: tuple[int, ...]


# --- the archive ---------------------------------------------------------------------------


def fetch_sdist(folder: Path) -> Path:
    """Download the source archive into ``folder`` with pip and return its path.

    The hash stands in a requirements file so that pip checks it *before* it runs the archive's
    own set-up code to read the metadata. Raises SystemExit when pip fails.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"vaderSentiment==3.3.2 --hash=sha256:{SDIST_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--no-binary", "vaderSentiment", "--dest", str(folder), "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path = folder / SDIST_NAME
    if done.returncode != 0 or not path.is_file():
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise SystemExit(f"pip could not download {SDIST_NAME}: {lines[-1]} (or pass --sdist PATH)")
    return path


def read_sdist(path: Path) -> bytes:
    """Return the archive's bytes; SystemExit when it is missing or not the pinned release."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SystemExit(f"cannot read {path}: {error.strerror}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != SDIST_SHA256:
        raise SystemExit(f"{path.name}: sha256 is {found}, expected {SDIST_SHA256}")
    return data


def member(archive: bytes, name: str) -> bytes:
    """Return one member of a gzipped tar held in memory; SystemExit when it is missing."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            handle = tar.extractfile(name)
            if handle is None:
                raise KeyError(name)
            return handle.read()
    except (KeyError, tarfile.TarError, OSError) as error:
        raise SystemExit(f"the archive has no readable member {name}") from error


# --- parsing -------------------------------------------------------------------------------


def table(data: bytes, columns: int, name: str) -> dict[str, list[str]]:
    """Parse one tab-delimited file: id -> the other fields, in file order.

    The files are UTF-8 with CRLF line ends and no quoting; quote characters belong to the text,
    so a csv reader would join lines. One file begins with a byte-order mark, which ``utf-8-sig``
    removes. SystemExit on a wrong field count or a repeated id.
    """
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(data.decode("utf-8-sig").split("\r\n"), start=1):
        if not line:
            continue
        key, *fields = line.split("\t")
        if len(fields) != columns - 1 or key in rows:
            raise SystemExit(f"{name} line {number}: unexpected field count or repeated id {key}")
        rows[key] = fields
    return rows


def clean(text: str) -> str:
    """Undo the HTML escapes that occur and trim the ends (11 Amazon rows, 1 tweet)."""
    # "&amp;" comes first because eight rows are escaped twice ("&amp;#38;", "&amp;#39;"). Only
    # what occurs is listed: a general unescape could also take "at&t" or "&his" apart.
    for escape, character in ESCAPES:
        text = text.replace(escape, character)
    return text.strip()


def parse(truth: bytes, raw: bytes, name: str) -> list[Row]:
    """Join a ground-truth file with its raw scores *by id*, dropping rows without text.

    By id because the two Amazon files order review 263 differently (snippet 263_3): a join by
    line number would give 20 texts their neighbour's scores. SystemExit if the ids differ, a
    score is outside -4..4, or the raw file's own mean is not the mean of its scores.
    """
    texts, scores = table(truth, 3, name), table(raw, 4, name)
    if texts.keys() != scores.keys():
        raise SystemExit(f"{name}: the two files do not hold the same ids")
    rows = []
    for key, (published, text) in texts.items():
        raters = tuple(json.loads(scores[key][2]))
        mean_is_right = abs(sum(raters) / len(raters) - float(scores[key][0])) < 1e-6
        if not mean_is_right or not all(type(r) is int and -4 <= r <= 4 for r in raters):
            raise SystemExit(f"{name}: the raw scores of id {key} are not as expected")
        if clean(text):
            rows.append(Row(key, clean(text), float(published), raters))
    check_means(rows, name)
    return rows


def check_means(rows: Sequence[Row], name: str) -> None:
    """Raise SystemExit unless published and raw means differ only where they are known to."""
    odd = [r.id for r in rows if abs(r.published - sum(r.raters) / len(r.raters)) > 1e-6]
    if len(odd) != DISAGREEING_MEANS[name] or not CONTRIVED.issuperset(odd):
        raise SystemExit(f"{name}: {len(odd)} published means differ from their raw scores")


# --- groups and splits ---------------------------------------------------------------------


def normalise(text: str) -> str:
    """Return the words in lower case: no @mentions, URLs, digits or punctuation, single spaces.

    Apostrophes vanish without a gap ("don't" -> "dont"). May be empty (emoticons, "...").
    """
    text = re.sub(r"@\w+|https?://\S+", " ", text.lower())
    return " ".join(re.sub(r"[^\w\s]|[\d_]", " ", text.replace("'", "")).split())


class Clusters:
    """Disjoint sets over 0..n-1; the smallest member stands for its set."""

    def __init__(self, size: int) -> None:
        """Start with ``size`` sets of one member each."""
        self._parent = list(range(size))

    def find(self, item: int) -> int:
        """Return the smallest member of the item's set."""
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def merge(self, one: int, other: int) -> None:
        """Join the two items' sets."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low

    def merge_equal(self, keys: Iterable[str]) -> None:
        """Join all items that have an equal key (one key per item, in item order)."""
        first: dict[str, int] = {}
        for item, key in enumerate(keys):
            self.merge(first.setdefault(key, item), item)


def similar_pairs(texts: Sequence[str]) -> Iterable[tuple[int, int]]:
    """Yield every pair of normalised texts whose token sets have Jaccard >= 0.8.

    Exact, by prefix filtering: with tokens sorted from rare to common, two such sets share one
    of their first ``n - ceil(0.8 n) + 1`` tokens, so only those are looked up.
    """
    sets = [frozenset(text.split()) for text in texts]
    counts = Counter(token for tokens in sets for token in tokens)
    seen: dict[str, list[int]] = {}
    for item, tokens in enumerate(sets):
        ordered = sorted(tokens, key=lambda token: (counts[token], token))
        prefix = ordered[: len(ordered) - math.ceil(4 * len(ordered) / 5) + 1]
        for other in sorted({other for token in prefix for other in seen.get(token, [])}):
            # Whole numbers: 0.8 has no exact binary form.
            if 5 * len(tokens & sets[other]) >= 4 * len(tokens | sets[other]):
                yield other, item
        for token in prefix:
            seen.setdefault(token, []).append(item)


def amazon_groups(rows: Sequence[Row]) -> list[str]:
    """Return each row's group: its review number; reviews that share a normalised text are one.

    Merging whole reviews keeps every row and leaves no equal text on two sides of a split. It
    applies to short sentences too ("great player."), of which there are few.
    """
    clusters = Clusters(len(rows))
    reviews = [row.id.split("_")[0] for row in rows]
    clusters.merge_equal(reviews)
    clusters.merge_equal(normalise(row.text) for row in rows)
    return [reviews[clusters.find(item)] for item in range(len(rows))]


def tweet_groups(rows: Sequence[Row]) -> list[str]:
    """Return each row's group: its near-duplicate cluster; contrived tweets are one group."""
    clusters = Clusters(len(rows))
    texts = [normalise(row.text) for row in rows]
    clusters.merge_equal(texts)
    for one, other in similar_pairs(texts):
        clusters.merge(one, other)
    contrived = [item for item, row in enumerate(rows) if row.id in CONTRIVED]
    for item in contrived:
        clusters.merge(contrived[0], item)
    home = clusters.find(contrived[0])
    roots = [clusters.find(item) for item in range(len(rows))]
    return [CONTRIVED_GROUP if root == home else rows[root].id for root in roots]


def split_of(group: str, salt: str) -> str:
    """Return the split of a group: its salted sha256 as a number in 0..1, cut at 0.7 and 0.8."""
    if group == CONTRIVED_GROUP:
        return "train"  # built to show single effects: no fair sample of what a test should hold
    digest = hashlib.sha256(f"{salt}:{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < TRAIN_BELOW:
        return "train"
    return "validation" if place < VALIDATION_BELOW else "test"


# --- writing -------------------------------------------------------------------------------

SOURCES: dict[str, tuple[str, Callable[[Sequence[Row]], list[str]]]] = {
    "amazon_snippets": ("amazonReviewSnippets", amazon_groups),
    "tweets": ("tweets", tweet_groups),
}


def build_table(ratings: bytes, name: str) -> pa.Table:
    """Return the finished table of one data set (columns: SCHEMA), in the source's row order."""
    stem, grouper = SOURCES[name]
    truth = member(ratings, f"hutto_ICWSM_2014/{stem}_GroundTruth.txt")
    raw = member(ratings, f"hutto_ICWSM_2014/{stem}_anonDataRatings.txt")
    rows = parse(truth, raw, name)
    groups = grouper(rows)
    columns = {
        "id": [row.id for row in rows],
        "group": groups,
        "split": [split_of(group, SALTS[name]) for group in groups],
        "text": [row.text for row in rows],
        "rating": [sum(row.raters) / len(row.raters) for row in rows],
        "raters": [row.raters for row in rows],
    }
    return pa.table(columns, schema=SCHEMA)


def parquet_bytes(data: pa.Table) -> bytes:
    """Serialise with fixed settings: the same bytes for the same table and pyarrow version."""
    sink = io.BytesIO()
    pq.write_table(data, sink, compression="zstd", compression_level=9, row_group_size=len(data))
    return sink.getvalue()


def describe(data: pa.Table, content: bytes) -> dict[str, Any]:
    """Return the manifest entry of one file."""
    splits = Counter(data.column("split").to_pylist())
    return {
        "rows": data.num_rows,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "columns": {field.name: str(field.type) for field in data.schema},
        "splits": {split: splits[split] for split in SPLITS},
        "groups": len(set(data.column("group").to_pylist())),
    }


def build(sdist: Path, out: Path) -> dict[str, Any]:
    """Write both parquet files, MANIFEST.json and the licence into ``out``; return the manifest."""
    archive = read_sdist(sdist)
    ratings = member(archive, RATINGS_MEMBER)
    out.mkdir(parents=True, exist_ok=True)
    files = {}
    for name in SOURCES:
        data = build_table(ratings, name)
        content = parquet_bytes(data)
        (out / f"{name}.parquet").write_bytes(content)
        files[f"{name}.parquet"] = describe(data, content)
    licence = member(archive, LICENSE_MEMBER).replace(b"\r\n", b"\n")
    (out / LICENSE_FILE).write_bytes(licence)
    manifest = {
        "source": {"package": "vaderSentiment", "version": "3.3.2", "file": SDIST_NAME}
        | {"sha256": SDIST_SHA256, "member": RATINGS_MEMBER, "citation": CITATION},
        "licence": {"name": "MIT", "file": LICENSE_FILE},
        "pyarrow": pa.__version__,
        "files": files,
    }
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    (out / "MANIFEST.json").write_text(text, encoding="utf-8")
    return manifest


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every expected failure ends in SystemExit with one line."""
    parser = argparse.ArgumentParser(description="Rebuild the embedded text data.")
    parser.add_argument("--sdist", type=Path, help=f"a local {SDIST_NAME} (default: pip download)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="output folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        sdist = options.sdist or fetch_sdist(Path(folder))
        manifest = build(sdist, options.out)
    for name, entry in manifest["files"].items():
        print(f"{name}: {entry['rows']} rows, {entry['bytes']} bytes, {entry['splits']}")


if __name__ == "__main__":
    main()
