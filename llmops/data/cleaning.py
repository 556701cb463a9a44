"""Good rows, quarantined rows and a profile out of a query's result, in bounded memory.

in = good + quarantined + duplicates. Knows no step and no prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmops.data.buckets import Buckets, merged, prefix_bits, spill
from llmops.data.cells import whole
from llmops.data.columns import ANSWER, QUESTION, ROW_KEY
from llmops.data.expectations import check_expectations
from llmops.data.keys import exact_digests
from llmops.data.mapping import Mapped, map_batch, row_schema
from llmops.data.memory import Memory, share_out
from llmops.data.parquet import RowWriter, count_bytes, count_rows, read_batches
from llmops.data.profile import Counts, Profile
from llmops.data.rules import RULES, Breach, Verdict, judge
from llmops.data.settings import (
    Columns,
    Expectation,
    Personal,
    Rules,
    Texts,
    Tokens,
    check_columns,
    check_roles,
    check_rules,
)
from llmops.data.tokens import Counter as TokenCounter
from llmops.data.treatment import Treatment
from llmops.errors import DataError
from llmops.files import disk_errors
from llmops.ports.progress import Progress

EXCERPT_CHARACTERS = 200
ROLE_COLUMNS = {"question": QUESTION, "answer": ANSWER}
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
class Asked:
    """What the config asks of the rows."""

    columns: Columns
    rules: Rules
    texts: Texts = field(default_factory=Texts)
    personal: Personal = field(default_factory=Personal)
    tokens: Tokens = field(default_factory=Tokens)
    expectations: tuple[Expectation, ...] = ()
    memory_limit: str = "1GB"


@dataclass(frozen=True)
class Cleaned:
    """What became of the rows; ``rules`` counts the quarantined rows of each rule."""

    counts: Counts
    rules: Mapping[str, int]
    profile: dict[str, Any]


@dataclass
class Quarantine:
    """Writes refused rows and remembers the first, for the error message."""

    writer: RowWriter
    columns: Columns
    treatment: Treatment
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
            "excerpt": self._excerpt(batch.raw[breach.column], row),
            "position": start + row,
        }

    def add_repeated(self, rows: pa.Table, role: str) -> None:
        """Set aside good rows whose value of ``role`` an earlier row has; they have no position."""
        column = self.columns.by_row_column()[role]
        records = [
            {
                ROW_KEY: row[ROW_KEY],
                "rule": "unique",
                "column": column,
                "excerpt": self._excerpt(whole(rows[role]), number),
                "position": None,
            }
            for number, row in enumerate(rows.select([ROW_KEY]).to_pylist())
        ]
        self.counts["unique"] += len(records)
        self.writer.write(pa.Table.from_pylist(records, schema=QUARANTINED_SCHEMA))

    def _excerpt(self, cells: pa.Array, row: int) -> str | None:
        shown = _start(cells, row)
        if shown is None:
            return None
        # Personal data is hidden first: cut in the middle, it would not be found.
        return "".join(map(_printable, self.treatment.excerpt(shown)))[:EXCERPT_CHARACTERS]


def clean(places: Places, asked: Asked, progress: Progress) -> Cleaned:
    """Write the good rows by key, each key once, and the quarantined rows by position.

    Raises:
        ConfigError: If the query lacks a mapped column, or one does not hold text.
        DataError: If there are no rows, too few good ones, or too large a share of bad ones.
        BackendError: If the disk is full.
    """
    columns, rules = asked.columns, asked.rules
    memory = share_out(asked.memory_limit)
    check_rules(rules)
    check_columns(columns, pq.read_schema(places.source).names)
    check_roles(rules, columns)
    total = count_rows(places.source)
    if total == 0:
        raise DataError(
            "the query returned no rows",
            hint="loosen dataset.query; `python -m llmops warehouse tables` shows what there is",
        )
    schema, treatment = row_schema(columns), Treatment(asked.texts, asked.personal, rules)
    bits = prefix_bits(count_bytes(places.source), memory.bucket_bytes)
    with (
        disk_errors(places.spill.parent, setting="store.path"),
        Buckets(places.spill, schema, bits) as buckets,
        RowWriter(places.quarantined, QUARANTINED_SCHEMA) as writer,
    ):
        quarantine = Quarantine(writer, columns, treatment)
        repeated = 0
        for sorted_out in _sort_out(places.source, asked, memory, buckets, quarantine):
            repeated += sorted_out.duplicates
            progress(sorted_out.done, total, "checking rows")
        check_bad_fraction(quarantine.counts, total, rules, quarantine.example)
        kept = _merge(places, schema, buckets, rules, quarantine)
        profile = _profile(places.rows, asked, treatment)
    broken = {rule: quarantine.counts[rule] for rule in RULES}
    counts = Counts(total, kept.good, sum(broken.values()), repeated + kept.duplicates)
    made = cleaned(counts, broken, profile, asked.expectations)
    check_min_rows(made, rules)
    return made


def cleaned(
    counts: Counts,
    broken: Mapping[str, int],
    profile: Profile,
    expectations: Sequence[Expectation],
) -> Cleaned:
    """Put together what became of the rows, and check that it is as expected."""
    counts.check()
    figures = profile.to_json(counts, broken)
    check_expectations(expectations, figures)
    return Cleaned(counts, broken, figures)


@dataclass(frozen=True)
class _SortedOut:
    done: int  # rows so far
    duplicates: int  # of the batch


def _sort_out(
    source: Path, asked: Asked, memory: Memory, buckets: Buckets, quarantine: Quarantine
) -> Iterator[_SortedOut]:
    """Send each row to its bucket or to the quarantine."""
    done, counter = 0, TokenCounter(asked.tokens)
    needed = sorted(set(asked.columns.by_row_column().values()))
    for batch in read_batches(source, needed, memory.batch_bytes):
        mapped = map_batch(batch, asked.columns, quarantine.treatment)
        verdict = judge(mapped, asked.rules, counter)
        quarantine.add(mapped, verdict, done)
        duplicates = spill(buckets, mapped.rows.filter(pa.array(verdict.good)))
        done += batch.num_rows
        yield _SortedOut(done, duplicates)


@dataclass(frozen=True)
class _Merged:
    good: int
    duplicates: int


def _merge(
    places: Places, schema: pa.Schema, buckets: Buckets, rules: Rules, quarantine: Quarantine
) -> _Merged:
    """Write the rows in key order, without those that repeat a value that must be unique."""
    duplicates = 0
    seen: dict[str, set[bytes]] = {role: set() for role in rules.unique}
    with RowWriter(places.rows, schema) as writer:
        for bucket in merged(buckets):
            rows = bucket.rows
            for role in rules.unique:
                name = ROLE_COLUMNS.get(role, role)
                fresh = pa.array(_fresh(rows[name], seen[role]))
                quarantine.add_repeated(rows.filter(pc.invert(fresh)), name)
                rows = rows.filter(fresh)
            writer.write(rows)
            duplicates += bucket.duplicates
    return _Merged(writer.rows, duplicates)


def _fresh(values: pa.ChunkedArray, seen: set[bytes]) -> list[bool]:
    """Say of each value whether it stands here for the first time; nulls repeat nothing."""
    array = whole(values)
    fresh = []
    for valid, digest in zip(array.is_valid().to_pylist(), exact_digests(array), strict=True):
        half = digest[:16].tobytes()
        fresh.append(not valid or half not in seen)
        if valid:
            seen.add(half)
    return fresh


def _profile(rows: Path, asked: Asked, treatment: Treatment) -> Profile:
    profile = Profile(TokenCounter(asked.tokens), asked.tokens.sample, treatment.tally)
    for batch in read_batches(rows):
        profile.add_table(pa.Table.from_batches([batch]))
    return profile


def check_bad_fraction(broken: Counter[str], total: int, rules: Rules, example: str = "") -> None:
    """Check that not too large a share of the rows breaks a rule.

    Raises:
        DataError: If it does.
    """
    bad = broken.total()
    if bad <= rules.max_bad_fraction * total:
        return
    raise DataError(
        f"{bad} of {total} rows ({bad / total:.0%}) break a rule, more than "
        f"dataset.rules.max_bad_fraction {rules.max_bad_fraction} allows: "
        f"{_by_rule(broken)}{f'; for example {example}' if example else ''}",
        hint=_loosen(broken) + "or raise dataset.rules.max_bad_fraction",
    )


def check_min_rows(cleaned: Cleaned, rules: Rules) -> None:
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


def _start(cells: pa.Array, row: int) -> str | None:
    """Return the start of a cell; null for a null."""
    value = cells[row]
    if not value.is_valid:
        return None
    start = value.as_buffer() if hasattr(value, "as_buffer") else str(value).encode()
    return bytes(start[: 4 * EXCERPT_CHARACTERS]).decode(errors="backslashreplace")


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
