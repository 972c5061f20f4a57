"""Columns of a table as arrays and texts; errors are one clear line."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.errors import BenchError, first_line

LONGEST_TEXT = 1_000_000  # bytes; the longest review of the Amazon sets has about 30,000


def integers(table: pa.Table, name: str, where: str) -> np.ndarray:
    """Return a column of whole numbers, ``(N,)`` int64, from integers, whole floats or booleans.

    Args:
        table: the rows.
        name: the column.
        where: which data this is, for the message ("uoft-cs/cifar10, train").

    Raises:
        BenchError: for another type, or naming the first row that is empty or not a whole number.
    """
    column = table.column(name)
    kind = column.type
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    if not any(is_one(kind) for is_one in known):
        raise BenchError(f"{where}: column '{name}' holds {kind}", "whole numbers expected")
    _check_filled(column, name, where)
    values = np.asarray(column.to_numpy())
    if values.dtype.kind == "f":
        wrong = np.flatnonzero(~np.isfinite(values) | (values != np.trunc(values)))
        if len(wrong):
            value = values[wrong[0]]
            raise BenchError(
                f"{where}, row {wrong[0]}: {name} is {value}", "a whole number expected"
            )
    return values.astype(np.int64)


def texts(table: pa.Table, name: str, where: str) -> list[str | None]:
    """Return a column of texts; a missing one is ``None``.

    Raises:
        BenchError: for another type, text that is not UTF-8, or naming the row of a text over
            :data:`LONGEST_TEXT`.
    """
    column = table.column(name)
    if pa.types.is_null(column.type):  # a column of which nothing is there
        return [None] * len(column)
    if pa.types.is_dictionary(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise BenchError(f"{where}: column '{name}' holds {kind}", "texts expected")
    longest = pc.max(pc.binary_length(column)).as_py() or 0
    if longest > LONGEST_TEXT:
        row = pc.index(pc.binary_length(column), longest).as_py()
        raise BenchError(
            f"{where}, row {row}: a text of {longest:,} bytes in '{name}'",
            f"at most {LONGEST_TEXT:,}",
        )
    try:
        column.validate(full=True)
        found: list[str | None] = column.to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise BenchError(f"{where}: column '{name}' is not UTF-8: {first_line(error)}") from error
    return found


def names(table: pa.Table, name: str, where: str) -> list[str]:
    """Return a column of ids, texts or whole numbers, as texts.

    Raises:
        BenchError: for another type, or naming the first row that is empty.
    """
    column = table.column(name)
    if pa.types.is_integer(column.type):
        return [str(value) for value in integers(table, name, where).tolist()]
    _check_filled(column, name, where)
    return [str(value) for value in texts(table, name, where)]


def check_labels(labels: np.ndarray, classes: int, where: str) -> None:
    """Check that there are labels, all of them among ``classes``.

    Raises:
        BenchError: naming an empty split, or the first row whose label is out of range.
    """
    if not len(labels):
        raise BenchError(f"{where}: no rows")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise BenchError(
            f"{where}, row {wrong[0]}: label {labels[wrong[0]]} is out of range",
            f"0 to {classes - 1}",
        )


def _check_filled(column: pa.ChunkedArray, name: str, where: str) -> None:
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise BenchError(f"{where}, row {row}: {name} is empty")
