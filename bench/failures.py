"""How a cell can end without a result: the status, the cause and a way out."""

from __future__ import annotations

import errno
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError, Diverged, NotApplicable
from bench.privacy import scrub

# Of the statuses of a record, those that are no result and no decision.
BROKEN = ("failed", "oom", "diverged", "timeout")
MISSING = "MissingPackage"  # the class of the error of a cell that lacks one
OWN = ("bench", "methods", "baselines")
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the largest file size allowed here is reached",
    errno.EROFS: "the file system is read-only",
}
# What libraries say when they have no exception class for it.
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_HINTS = {
    "oom": "free memory or lower batch_size; --retry oom runs it again",
    "diverged": "lower the rate; --retry diverged runs it again",
    "timeout": "raise --cell-timeout; --retry timeout goes on from the last checkpoint",
}


def failure(error: BaseException) -> dict[str, Any]:
    """Return the fields of a record that say how ``error`` ended a cell, fit to be published."""
    status = status_of(error)
    missing, kind = missing_package(error), type(error).__name__
    message = error.message if isinstance(error, BenchError) else str(error)
    hint = error.hint if isinstance(error, BenchError) else ""
    if missing:
        kind = MISSING
        message = f"needs the package '{missing}', which is not installed"
        hint = f"install '{missing}'; the next run tries again"
    quiet = status == "skipped"
    trace = "" if quiet else "".join(traceback.format_exception(error))
    return ended(status, kind, message, hint=hint, trace=trace)


def ended(
    status: str, kind: str, message: str, *, hint: str = "", trace: str = ""
) -> dict[str, Any]:
    """Return the fields of a record that say how a cell ended.

    Args:
        status: one of the record's statuses.
        kind: the error's class.
        message: the cause.
        hint: what to do; the status's own when empty.
        trace: the traceback, of which the end is kept.
    """
    error = {
        "class": kind,
        "message": scrub(message),
        "hint": scrub(hint or _HINTS.get(status, "")),
        "traceback": scrub(trace)[-4000:],
    }
    return {"status": status, "error": error}


def status_of(error: BaseException) -> str:
    """Return the status of a cell that ``error`` ended."""
    if isinstance(error, NotApplicable) or missing_package(error):
        return "skipped"
    if isinstance(error, Diverged):
        return "diverged"
    return "oom" if out_of_memory(error) else "failed"


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory, of the machine or of an accelerator, ran out."""
    torch = sys.modules.get("torch")
    for each in _chain(error):
        if isinstance(each, MemoryError) or (torch and isinstance(each, torch.OutOfMemoryError)):
            return True
        if isinstance(each, OSError) and each.errno == errno.ENOMEM:
            return True
        if isinstance(each, RuntimeError) and any(words in str(each) for words in _NO_MEMORY):
            return True
    return False


def storage_problem(error: BaseException) -> str | None:
    """Return in words why nothing more can be written; ``None`` for any other error."""
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in FULL:
            name = f": cannot write {Path(str(each.filename)).name}" if each.filename else ""
            return FULL[each.errno] + name
    return None


def _chain(error: BaseException, *, handled: bool = True) -> Iterator[BaseException]:
    """Yield ``error`` and its causes, with those that were being handled when it was raised."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (each.__context__ if handled else None)


def lacked_package(outcome: Mapping[str, Any]) -> bool:
    """Return whether a record, or what is known of one, tells of a package that was missing."""
    error = outcome.get("error") or {}
    return outcome["status"] == "skipped" and error.get("class") == MISSING


def missing_package(error: BaseException) -> str | None:
    """Return the package that ``error`` says is not installed, other than the suite's own."""
    for each in _chain(error, handled=False):
        if isinstance(each, ModuleNotFoundError) and each.name:
            package = each.name.partition(".")[0]
            if package not in OWN and package not in sys.modules and not _installed(package):
                return package
    return None


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def killed(signal_name: str, *, by_kernel: bool) -> dict[str, Any]:
    """Return the fields of a record whose cell's process was killed."""
    message = f"the process was ended by {signal_name}"
    if by_kernel:
        message += ": the kernel's out-of-memory killer was at work"
        return ended("oom", "ProcessDied", message)
    hint = "the kernel does this when memory runs out" if signal_name == "SIGKILL" else ""
    return ended("failed", "ProcessDied", message, hint=hint)


def oom_kills() -> int | None:
    """Return how many processes the kernel killed for lack of memory; ``None`` if not known.

    Counted in this process's own control group, else on the whole machine.
    """
    return next((count for count in map(_counter, _counter_files()) if count is not None), None)


def _counter_files() -> Iterator[Path]:
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield root / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            yield root / "memory" / path.lstrip("/") / "memory.oom_control"
    yield Path("/proc/vmstat")


def _counter(path: Path) -> int | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None
