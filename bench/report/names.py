"""Names of the report's files."""

from __future__ import annotations

import hashlib
import json

from bench.store import slug

LONGEST_NAME, LONGEST_PART = 150, 100  # characters of a file, without digest and ending


def file_name(*parts: str) -> str:
    """Return ``parts`` as the name of a file, without extension.

    Where they are too long, a digest tells names with the same beginning apart; other equal names
    are told apart by :func:`bench.report.parts.build`.
    """
    kept = [part for part in parts if part]
    name = "-".join(map(slug, kept))
    if len("-".join(kept)) <= LONGEST_NAME and max(map(len, kept)) <= LONGEST_PART:
        return name
    digest = hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:8]
    return f"{name[:LONGEST_NAME].rstrip('-.')}-{digest}"
