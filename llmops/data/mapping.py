"""Turns a batch of a query's result into a table of row columns, all of them strings.

Bytes that are not UTF-8 never get past this module: the cell becomes null and is named broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmops.data.cells import Signs
from llmops.data.columns import ANSWER, QUESTION, ROW_KEY
from llmops.data.keys import keyed_pairs, signed
from llmops.data.settings import Columns
from llmops.data.treatment import Treatment
from llmops.errors import ConfigError

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Mapped:
    """Rows by row column, their texts treated.

    ``codes`` are equal for equal texts, in this process; ``characters`` are the texts' lengths, 0
    for a null; ``digests`` are the bytes of the keys. ``broken`` marks cells that were not UTF-8;
    ``raw`` keeps the cells as they came.
    """

    rows: pa.Table
    broken: Mapping[str, Mask]
    personal: Mapping[tuple[str, str], Mask]  # (row column, kind) -> rows to be dropped for it
    raw: Mapping[str, pa.Array]
    digests: npt.NDArray[np.uint8]
    signs: Mapping[str, Signs]
    codes: Mapping[str, npt.NDArray[np.uint64]]
    characters: Mapping[str, npt.NDArray[np.int32]]


@dataclass(frozen=True)
class _Text:
    texts: pa.Array
    broken: Mask


def row_schema(columns: Columns) -> pa.Schema:
    """Return the schema of good rows for what ``columns`` maps."""
    return pa.schema([(name, pa.string()) for name in (ROW_KEY, *columns.by_row_column())])


def map_batch(batch: pa.RecordBatch, columns: Columns, treatment: Treatment) -> Mapped:
    """Map, treat and key the rows of ``batch``.

    Raises:
        ConfigError: If a mapped column does not hold text, or what can be written as text.
    """
    raw = {name: batch.column(column) for name, column in columns.by_row_column().items()}
    texts = {name: _text(_as_string(array, name, columns)) for name, array in raw.items()}
    arrays = {name: text.texts for name, text in texts.items()}
    treated = {name: treatment.apply(arrays[name]) for name in (QUESTION, ANSWER)}
    arrays |= {name: made.texts for name, made in treated.items()}
    seen = {name: signed(texts) for name, texts in arrays.items()}
    keyed = keyed_pairs(seen[QUESTION], seen[ANSWER])
    return Mapped(
        rows=pa.table({ROW_KEY: keyed.keys, **arrays}, schema=row_schema(columns)),
        codes=dict(zip((QUESTION, ANSWER), keyed.codes, strict=True)),
        digests=keyed.digests,
        signs={name: found.signs for name, found in seen.items()},
        characters=_characters({name: arrays[name] for name in (QUESTION, ANSWER)}),
        broken={name: text.broken for name, text in texts.items()},
        personal={
            (name, kind): rows for name, made in treated.items() for kind, rows in made.drop.items()
        },
        raw=raw,
    )


def _characters(texts: Mapping[str, pa.Array]) -> dict[str, npt.NDArray[np.int32]]:
    import polars as pl

    frame = pl.DataFrame({name: pl.from_arrow(array) for name, array in texts.items()})
    lengths = frame.select(pl.all().str.len_chars().fill_null(0).cast(pl.Int32))
    return {name: lengths[name].to_numpy() for name in texts}


def _as_string(array: pa.Array, name: str, columns: Columns) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if _is_text(array.type):
        return array.cast(pa.binary()).view(pa.string())
    if name not in (QUESTION, ANSWER) and not pa.types.is_nested(array.type):
        return array.cast(pa.string())
    if pa.types.is_null(array.type):
        return array.cast(pa.string())
    raise ConfigError(
        f"dataset.columns: '{columns.by_row_column()[name]}' holds {array.type}, not text",
        hint="name a text column, or turn it into text in the query: CAST(x AS STRING) or "
        "ARRAY_TO_STRING(x, '|')",
    )


def _is_text(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _text(array: pa.Array) -> _Text:
    import polars as pl

    try:  # polars looks whether it is UTF-8; faster than Arrow
        pl.Series(pl.from_arrow(array.view(pa.binary()))).cast(pl.String)
    except pl.exceptions.PolarsError:
        return _without_broken(array)
    return _Text(array, np.zeros(len(array), dtype=bool))


def _without_broken(array: pa.Array) -> _Text:
    cells = array.view(pa.binary()).to_pylist()
    broken = np.array([cell is not None and not _is_utf8(cell) for cell in cells], dtype=bool)
    kept = [None if bad else cell for cell, bad in zip(cells, broken, strict=True)]
    return _Text(pa.array(kept, pa.binary()).cast(pa.string()), broken)


def _is_utf8(cell: bytes) -> bool:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True
