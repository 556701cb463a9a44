"""What optional columns hold, read: moments in time, lists of tags. Knows no file."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llmops.data.moments import microseconds
from llmops.errors import ConfigError, DataError

_TAG_SEPARATORS = re.compile(r"[|<>,;\s]+")  # python|pandas, <python><pandas>, python, pandas


def tags_of(value: str) -> list[str]:
    """Return the tags of a cell, in its order, each once."""
    return list(dict.fromkeys(tag for tag in _TAG_SEPARATORS.split(value) if tag))


def first_tag(value: str | None) -> str:
    """Return a cell's first tag; an empty text where it has none."""
    return next(iter(tags_of(value or "")), "")


def moments(values: Sequence[str | None]) -> npt.NDArray[np.int64]:
    """Return microseconds since 1970 for ISO 8601 texts; without a zone they are in UTC.

    Raises:
        DataError: If a value is missing or no moment.
    """
    read = [microseconds(value) for value in values]
    bad = [number for number, moment in enumerate(read) if moment is None]
    if bad:
        shown = values[bad[0]]
        raise DataError(
            f"created_at of {len(bad)} of {len(values)} rows is no moment in time; row {bad[0]} in "
            f"key order has {'null' if shown is None else repr(shown[:60])}",
            hint="let the query return a TIMESTAMP, or leave rows without one out: "
            "dataset.rules.required=[created_at]",
        )
    return np.array(read, dtype=np.int64)


def no_column(column: str, asked: str) -> ConfigError:
    """Return the error for a column that the split asks for and the query does not give."""
    return ConfigError(
        f"{asked} needs the column {column}, but dataset.columns.{column} is null",
        hint=f"let the query return it, and name it in dataset.columns.{column}",
    )
