"""What must not leave this machine, and what must not reach a terminal or a page.

Records are published: no secret and no path of a user's machine belongs in one.  Names come from
plug-ins, suite files and strangers' records: control characters in them do nothing to a terminal.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
HIDDEN = "***"

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|AUTH", re.I)
# Forms of well-known tokens: Hugging Face, GitHub, OpenAI and the like, AWS, JSON web tokens.
_SECRETS = re.compile(
    r"\b(?:hf_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|sk-[\w-]{16,}|AKIA[0-9A-Z]{16}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
_URL_USER = re.compile(r"(?<=://)[^/\s@:]+(?::[^/\s@]*)?@")
_PATH = re.compile(
    r"(?<![\w./~])(?:~(?:[A-Za-z_]\w*)?(?:/[\w.@+=,%#-]+)*|(?:/[\w.@+=,%#-]+)+)/([\w.@+=,%#-]+)/?"
    r"|\b[A-Za-z]:\\(?:[^\s'\"\\]+\\)*([^\s'\"\\]+)"
)
_WHOLE_PATH = re.compile(r"(?P<hub>hub:)?(?P<path>(?:~\w*)?/[^\n:]*/(?P<last>[^/\n:]+)/?)")
_PACKAGES = re.compile(r"(?:/[^\s'\"/]+)+/(?:site|dist)-packages/")
# C0 and C1 controls but tab and newline, bidirectional overrides, lone surrogates, BOM.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def scrub(text: str) -> str:
    """Return ``text`` without secrets and without the folders of absolute paths.

    Paths inside the project or an installed package become relative to it; of any other absolute
    path only the last component is left.
    """
    for secret in _secrets_of_environment():
        text = text.replace(secret, HIDDEN)
    text = _SECRETS.sub(HIDDEN, text)
    text = _URL_USER.sub("", text)
    text = text.replace("file:///", "/").replace(f"{PROJECT}/", "")
    return without_paths(_PACKAGES.sub("", text))


def without_paths(text: str) -> str:
    """Return ``text`` with every absolute path cut to its last component, on any machine alike."""
    text = text.replace("file:///", "/")
    return _PATH.sub(lambda match: "…/" + next(group for group in match.groups() if group), text)


def public(value: Any) -> Any:
    """Return the JSON-like ``value`` with every string in it scrubbed, keys aside."""
    if isinstance(value, str):
        return scrub(_last_component(value))
    if isinstance(value, Mapping):
        return {name: public(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [public(inner) for inner in value]
    return value


def _last_component(value: str) -> str:
    """Cut a value that is a path and nothing else, whatever characters its folders have."""
    path = _WHOLE_PATH.fullmatch(value)
    if path is None or path["path"].startswith(f"{PROJECT}/"):
        return value
    return f"{path['hub'] or ''}…/{path['last']}"


def harmless(text: str) -> str:
    """Return ``text`` with control characters made visible; tabs and newlines stay."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


def one_line(text: object, limit: int = 500) -> str:
    """Return ``text`` as one harmless line of at most ``limit`` characters."""
    line = harmless(" ".join(str(text).split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


@functools.cache
def _secrets_of_environment() -> tuple[str, ...]:
    found = {
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= 8 and not value.startswith("/")
    }
    return tuple(sorted(found, key=len, reverse=True))
