"""Good rows, quarantined rows and a profile out of a query's result, in bounded memory.

in = good + quarantined + duplicates. Knows no step and no prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmops.data.buckets import Buckets, prefix_digits
from llmops.data.columns import ROW_KEY
from llmops.data.mapping import Mapped, map_batch, row_schema
from llmops.data.parquet import RowWriter, count_bytes, count_rows, read_batches
from llmops.data.profile import Counts, Profile
from llmops.data.rules import RULES, Breach, Verdict, judge
from llmops.data.settings import Columns, Rules, check_columns, check_rules
from llmops.errors import DataError
from llmops.ports import Progress

EXCERPT_CHARACTERS = 200
QUARANTINED_SCHEMA = pa.schema(
    [
        (ROW_KEY, pa.string()),
        ("rule", pa.string()),
        ("column", pa.string()),
        ("excerpt", pa.string()),
        ("position", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Places:
    """Where ``clean`` reads and writes; ``spill`` is a folder of its own."""

    source: Path
    rows: Path
    quarantined: Path
    spill: Path


@dataclass(frozen=True)
class Cleaned:
    """What became of the rows; ``rules`` counts the quarantined rows of each rule."""

    counts: Counts
    rules: Mapping[str, int]
    profile: dict[str, Any]


@dataclass
class _Quarantine:
    """Writes refused rows and remembers the first, for the error message."""

    writer: RowWriter
    columns: Columns
    counts: Counter[str] = field(default_factory=Counter)
    example: str = ""

    def add(self, batch: Mapped, verdict: Verdict, start: int) -> None:
        records = [
            self._record(batch, verdict.breaches[verdict.first[row]], int(row), start)
            for row in np.flatnonzero(~verdict.good)
        ]
        self.counts.update(record["rule"] for record in records)
        if records and not self.example:
            self.example = _in_words(records[0])
        self.writer.write(pa.Table.from_pylist(records, schema=QUARANTINED_SCHEMA))

    def _record(self, batch: Mapped, breach: Breach, row: int, start: int) -> dict[str, Any]:
        return {
            ROW_KEY: batch.rows[ROW_KEY][row].as_py(),
            "rule": breach.rule,
            "column": self.columns.by_row_column()[breach.column],
            "excerpt": _excerpt(batch.raw[breach.column], row),
            "position": start + row,
        }


def clean(places: Places, columns: Columns, rules: Rules, progress: Progress) -> Cleaned:
    """Write the good rows by key, each key once, and the quarantined rows by position.

    Raises:
        ConfigError: If the query lacks a mapped column, or one does not hold text.
        DataError: If there are no rows, too few good ones, or too large a share of bad ones.
    """
    check_rules(rules)
    check_columns(columns, pq.read_schema(places.source).names)
    total = count_rows(places.source)
    if total == 0:
        raise DataError(
            "the query returned no rows",
            hint="loosen dataset.query; `python -m llmops warehouse tables` shows what there is",
        )
    schema = row_schema(columns)
    with Buckets(places.spill, schema, prefix_digits(count_bytes(places.source))) as buckets:
        with RowWriter(places.quarantined, QUARANTINED_SCHEMA) as writer:
            quarantine = _Quarantine(writer, columns)
            for done in _sort_out(places.source, columns, rules, buckets, quarantine):
                progress(done, total, "checking rows")
        broken = {rule: quarantine.counts[rule] for rule in RULES}
        _check_bad_fraction(quarantine, total, rules)
        cleaned = _merge(places.rows, schema, buckets, total, broken)
    _check_min_rows(cleaned, rules)
    return cleaned


def _sort_out(
    source: Path, columns: Columns, rules: Rules, buckets: Buckets, quarantine: _Quarantine
) -> Iterator[int]:
    """Send each row to its bucket or to the quarantine; yield how many rows are done."""
    done = 0
    for batch in read_batches(source, sorted(set(columns.by_row_column().values()))):
        mapped = map_batch(batch, columns)
        verdict = judge(mapped, rules)
        quarantine.add(mapped, verdict, done)
        buckets.add(mapped.rows.filter(pa.array(verdict.good)))
        done += batch.num_rows
        yield done


def _merge(
    path: Path, schema: pa.Schema, buckets: Buckets, total: int, broken: Mapping[str, int]
) -> Cleaned:
    profile, duplicates = Profile(), 0
    with RowWriter(path, schema) as writer:
        for bucket in buckets.merged():
            writer.write(bucket.rows)
            profile.add(bucket.rows)
            duplicates += bucket.duplicates
    counts = Counts(total, writer.rows, sum(broken.values()), duplicates)
    counts.check()
    return Cleaned(counts, broken, profile.to_json(counts, broken))


def _check_bad_fraction(quarantine: _Quarantine, total: int, rules: Rules) -> None:
    bad = quarantine.counts.total()
    if bad <= rules.max_bad_fraction * total:
        return
    raise DataError(
        f"{bad} of {total} rows ({bad / total:.0%}) break a rule, more than "
        f"dataset.rules.max_bad_fraction {rules.max_bad_fraction} allows: "
        f"{_by_rule(quarantine.counts)}; for example {quarantine.example}",
        hint=_loosen(quarantine.counts) + "or raise dataset.rules.max_bad_fraction",
    )


def _check_min_rows(cleaned: Cleaned, rules: Rules) -> None:
    counts = cleaned.counts
    if counts.good >= rules.min_rows:
        return
    broken = _by_rule(Counter(cleaned.rules)) or "no row broke a rule"
    raise DataError(
        f"{counts.good} good rows are fewer than dataset.rules.min_rows {rules.min_rows}: "
        f"the query gave {counts.given}, {counts.duplicates} were duplicates, "
        f"{counts.quarantined} were quarantined ({broken})",
        hint="let dataset.query give more rows, or lower dataset.rules.min_rows",
    )


def _in_words(record: Mapping[str, Any]) -> str:
    cell = "null" if record["excerpt"] is None else f"'{record['excerpt']}'"
    return f"row {record['position']}, column {record['column']}, {record['rule']}: {cell}"


def _by_rule(counts: Counter[str]) -> str:
    return ", ".join(f"{rule} {n}" for rule, n in counts.most_common() if n)


def _loosen(counts: Counter[str]) -> str:
    commonest = counts.most_common(1)[0][0]
    if commonest.startswith(("min_", "max_")):
        return f"loosen dataset.rules.{commonest}, "
    return "leave such rows out in dataset.query, "


def _excerpt(cells: pa.Array, row: int) -> str | None:
    """Return the start of a cell as printable text; null for a null."""
    value = cells[row]
    if not value.is_valid:
        return None
    start = value.as_buffer() if hasattr(value, "as_buffer") else str(value).encode()
    text = bytes(start[: 4 * EXCERPT_CHARACTERS]).decode(errors="backslashreplace")
    return "".join(map(_printable, text))[:EXCERPT_CHARACTERS]


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
