"""Datasets from the Hugging Face hub at a pinned revision."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.data.base import ELSEWHERE, DatasetRef, check_columns
from bench.data.fingerprint import digest, files_fingerprint
from bench.errors import BenchError, first_line, nearest

COMMIT = re.compile(r"[0-9a-f]{40}")


class Hub:
    """Datasets of the Hugging Face hub at a pinned revision; no code of theirs is ever run.

    A name that is an absolute path reads that local folder the same way; its revision is ignored.
    """

    kind = "hub"

    def __init__(self) -> None:
        self._revisions: dict[tuple[str, str], str] = {}

    def read(self, ref: DatasetRef, split: str) -> pa.Table:
        """Download (or find in the hub's cache) and read one split; images stay encoded."""
        options: dict[str, Any]
        if ref.files is not None:
            if split not in ref.files:
                raise BenchError(f"{ref.name}: no split '{split}'", nearest(split, ref.files))
            # The files are loaded by format and not by repository: a repository that carries a
            # loading script is refused by `datasets`, even when its plain files are named.
            files = sorted(str(path) for path in self._snapshot(ref, split).glob(ref.files[split]))
            if not files:
                raise BenchError(f"{ref.name}: no file {ref.files[split]} here", ELSEWHERE)
            form = "parquet" if ref.files[split].endswith(".parquet") else "json"
            options = {"path": form, "data_files": {split: files}}
        else:
            options = {"path": ref.name, "name": ref.config}
            if not _is_local(ref):
                options["revision"] = self.revision(ref)
        # Whatever fails in here is the network, the repository or a full disk, in exceptions of
        # four libraries without a common base.
        try:
            import datasets

            data = datasets.load_dataset(split=split, **options)
            if "revision" in options:
                _check_commit(ref, options["revision"], data.cache_files)
            check_columns(ref, data.column_names, ref.name)
            data = data.select_columns(list(ref.columns))
            for column, feature in data.features.items():
                if isinstance(feature, datasets.Image):
                    data = data.cast_column(column, datasets.Image(decode=False))
            table: pa.Table = data.with_format("arrow")[:]
        except BenchError:
            raise
        except Exception as error:
            raise _unreadable(ref, error) from error
        return table.select(ref.columns).replace_schema_metadata(None)

    def fingerprint(self, ref: DatasetRef, splits: Sequence[str]) -> str:
        """Return a hash of name, configuration, splits, files and commit, or of a local folder."""
        if _is_local(ref):
            root = Path(ref.name)
            return files_fingerprint(root, (path for path in root.rglob("*") if path.is_file()))
        files = {split: (ref.files or {}).get(split) for split in splits}
        return digest([ref.name, ref.config, self.revision(ref), files])

    def revision(self, ref: DatasetRef) -> str:
        """Return the commit that ``ref.revision`` names now; asked for once per ``Hub``.

        Raises:
            BenchError: when a branch is pinned and neither the hub nor its cache knows the commit.
        """
        if COMMIT.fullmatch(ref.revision) or _is_local(ref):
            return ref.revision
        key = (ref.name, ref.revision)
        if key not in self._revisions:
            self._revisions[key] = self._download(ref, ref.revision, []).name
        return self._revisions[key]

    def problem(self, ref: DatasetRef, splits: Sequence[str]) -> str | None:
        """Return why ``splits`` cannot be read, from one short question to the hub.

        Where HF_HUB_OFFLINE is set its cache is asked.
        """
        try:
            self._check_reachable(ref)
            for split in splits:
                if not self.has(ref, split):
                    return f"{ref.name} has no split '{split}' on the hub"
        except BenchError as error:
            return str(error)
        return None

    def has(self, ref: DatasetRef, split: str) -> bool:
        """Return whether ``ref`` has ``split``; :class:`BenchError` if the hub cannot tell."""
        if ref.files is not None:
            return split in ref.files
        revision = None if _is_local(ref) else self.revision(ref)
        try:
            import datasets

            names = datasets.get_dataset_split_names(ref.name, ref.config, revision=revision)
        except Exception as error:  # as in `read`
            raise _unreadable(ref, error) from error
        return split in names

    def _check_reachable(self, ref: DatasetRef) -> None:
        if _is_local(ref):
            return
        try:
            from huggingface_hub import HfApi, constants

            # Without this one short question `datasets` retries for half a minute.
            if not constants.HF_HUB_OFFLINE:
                HfApi().dataset_info(ref.name, revision=ref.revision, timeout=10)
        except Exception as error:  # as in `read`
            raise _unreadable(ref, error) from error

    def _snapshot(self, ref: DatasetRef, split: str) -> Path:
        """Return the local folder that holds the files of ``split``."""
        if _is_local(ref):
            return Path(ref.name)
        patterns = [(ref.files or {})[split]]
        return self._download(ref, self.revision(ref), patterns)

    def _download(self, ref: DatasetRef, revision: str, patterns: list[str]) -> Path:
        try:
            from huggingface_hub import snapshot_download

            folder = snapshot_download(
                ref.name, repo_type="dataset", revision=revision, allow_patterns=patterns
            )
        except Exception as error:  # as in `read`
            raise _unreadable(ref, error) from error
        return Path(folder)


def _is_local(ref: DatasetRef) -> bool:
    """Return whether ``ref`` names a local folder, refusing one that only shadows the hub."""
    path = Path(ref.name)
    if not path.is_absolute() and path.exists():
        raise BenchError(
            f"the working directory has its own '{ref.name}', which would be read in its place",
            "run from another directory, or read it as a mirror",
        )
    return path.is_absolute()


def _check_commit(ref: DatasetRef, commit: str, cached: Sequence[Mapping[str, str]]) -> None:
    """Refuse data of another commit than ``commit``.

    When the hub cannot be reached `datasets` gives the newest version in its cache, whatever
    revision was asked for; the commit is a folder in the path of the cached files.
    """
    for entry in cached:
        if commit not in Path(entry["filename"]).parts:
            raise BenchError(
                f"the hub's cache holds another version of '{ref.name}' than {commit[:12]}",
                "read it once while the hub can be reached",
            )


def _unreadable(ref: DatasetRef, error: Exception) -> BenchError:
    """Return the error that says in one line why the hub did not give ``ref``."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"ConnectionError", "LocalEntryNotFoundError", "TransportError", "TimeoutError"}:
        hint = f"{ELSEWHERE}; HF_HUB_OFFLINE=1 reads what was downloaded before"
        return BenchError(f"cannot reach the hub for '{ref.name}'", hint)
    return BenchError(f"cannot read '{ref.name}' from the hub: {first_line(error)}", ELSEWHERE)
