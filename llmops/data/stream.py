"""From a query's batches straight to JSONL files: what four steps do, in one pass over the rows.

For splits that a row's own hash decides, no row has to wait for another: batches are judged, keyed
and spilt to buckets as they arrive; then each bucket is sorted, deduplicated, rendered, divided,
encoded and hashed while it is written. The files are byte for byte those of the separate steps.
Knows no warehouse: batches come from outside.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmops.data.buckets import Bucket, Buckets, prefix_digits
from llmops.data.cleaning import (
    QUARANTINED_SCHEMA,
    Asked,
    Quarantine,
    check_bad_fraction,
    check_min_rows,
    cleaned,
)
from llmops.data.columns import ANSWER, QUESTION, RENDERED, ROW_KEY, SIDES, SYSTEM
from llmops.data.dataset import Version, lines_by_format
from llmops.data.formats import JsonlWriter, WrittenFile, chosen_lines
from llmops.data.keys import content_keys, exact_digests
from llmops.data.mapping import CODES, map_batch, row_schema
from llmops.data.memory import share_out
from llmops.data.parquet import RowWriter
from llmops.data.profile import Counts, Profile
from llmops.data.rules import RULES, judge
from llmops.data.settings import SplitSettings, check_columns, check_roles, check_rules
from llmops.data.splits import TEST, TRAIN, check_sides, hashed_sides, row_draw
from llmops.data.tokens import Counter
from llmops.data.treatment import Treatment
from llmops.errors import ConfigError, DataError
from llmops.files import disk_errors
from llmops.ports import Progress

AHEAD = 2  # batches read, and buckets prepared, before they are asked for
UNKNOWN_BYTES = 1 << 40  # where nobody knows how much will come: as many buckets as there may be
_MARK = "\ue000llmops question\ue000"
_JOINS = {None: ROW_KEY, "question": QUESTION, "answer": ANSWER}


@dataclass(frozen=True)
class Output:
    """Where the stream writes; ``spill`` is a folder of its own."""

    files: Path
    quarantined: Path
    spill: Path


@dataclass(frozen=True)
class Wanted:
    """What the files are to be: how rows are rendered and divided, and in which formats."""

    render: Callable[[str], str]
    system: str | None
    split: SplitSettings
    formats: tuple[str, ...]
    tag: str
    expected_bytes: int | None = (
        None  # of the rows to come; decides nothing but the number of buckets
    )


@dataclass(frozen=True)
class Streamed:
    """What was written. ``leaked`` are the test rows whose question or answer is in train too."""

    version: Version
    rows: dict[str, int]
    files: tuple[WrittenFile, ...]
    counts: Counts
    rules: dict[str, int]
    profile: dict[str, Any]
    leaked: int


def stream(
    batches: Iterator[pa.RecordBatch], asked: Asked, wanted: Wanted, to: Output, progress: Progress
) -> Streamed:
    """Write the files of a dataset.

    Raises:
        ConfigError: If the split needs all rows at once, or the rows lack a column.
        DataError: If there are no rows, too few good ones, or too large a share of bad ones.
        BackendError: If the warehouse stops in mid-stream, or the disk is full.
    """
    _check(asked, wanted)
    expected = UNKNOWN_BYTES if wanted.expected_bytes is None else wanted.expected_bytes
    digits = prefix_digits(expected, share_out(asked.memory_limit).bucket_bytes)
    treatment = Treatment(asked.texts, asked.personal, asked.rules)
    to.files.mkdir(parents=True, exist_ok=True)
    with (
        disk_errors(to.spill.parent, setting="store.path"),
        Buckets(to.spill, _spilt(asked), digits) as buckets,
        RowWriter(to.quarantined, QUARANTINED_SCHEMA) as writer,
    ):
        quarantine = Quarantine(writer, asked.columns, treatment)
        given = 0
        for done in _spill(batches, asked, buckets, quarantine):
            given = done
            progress(done, None, "checking rows")
        if given == 0:
            raise DataError("the query returned no rows", hint="loosen dataset.query")
        check_bad_fraction(quarantine, given, asked.rules)
        gathered = _Gathered(asked, wanted, treatment, to.files)
        duplicates = gathered.write(buckets, given, progress)
    broken = {rule: quarantine.counts[rule] for rule in RULES}
    counts = Counts(given, gathered.total, sum(broken.values()), duplicates)
    counts.check()
    made = cleaned(counts, broken, gathered.profile, asked.expectations)
    check_min_rows(made, asked.rules)
    return gathered.finished(made.counts, broken, made.profile)


def _check(asked: Asked, wanted: Wanted) -> None:
    check_rules(asked.rules)
    check_roles(asked.rules, asked.columns)
    share_out(asked.memory_limit)
    split = wanted.split
    if split.method != "hash":
        raise ConfigError(
            f"split.method {split.method} needs all rows at once; one pass divides by hash",
            hint="choose split=hash, or the pipeline with the steps one by one",
        )
    if asked.rules.unique:
        raise ConfigError(
            "dataset.rules.unique needs all rows at once",
            hint="leave it empty, or choose the pipeline with the steps one by one",
        )


# ------------------------------------------------------------------- first: to buckets


def _spill(
    batches: Iterator[pa.RecordBatch], asked: Asked, buckets: Buckets, quarantine: Quarantine
) -> Iterator[int]:
    """Judge each batch and send its rows on; yield how many rows are done."""
    done, counter, checked = 0, Counter(asked.tokens), False
    for batch in _read_ahead(batches):
        if not checked:
            check_columns(asked.columns, batch.schema.names)
            checked = True
        mapped = map_batch(batch, asked.columns, quarantine.treatment)
        verdict = judge(mapped, asked.rules, counter)
        quarantine.add(mapped, verdict, done)
        rows = mapped.rows
        for name, codes in mapped.codes.items():
            rows = rows.append_column(name, pa.array(codes))
        buckets.add(rows if verdict.good.all() else rows.filter(pa.array(verdict.good)))
        done += batch.num_rows
        yield done


def _read_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Let the warehouse work on while rows are judged; its errors are raised here."""
    ready: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def read() -> None:
        try:
            for batch in batches:
                ready.put(batch)
                if stopped.is_set():
                    return
            ready.put(None)
        except BaseException as exc:  # noqa: BLE001 - handed to the thread that asked
            ready.put(exc)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        while reader.is_alive():
            _drain(ready)
            reader.join(0.05)


def _drain(ready: queue.Queue[Any]) -> None:
    while not ready.empty():
        ready.get_nowait()


def _spilt(asked: Asked) -> pa.Schema:
    coded = [pa.field(name, pa.uint64()) for name in CODES]
    return pa.schema([*row_schema(asked.columns), *coded])


# ------------------------------------------------------------------- then: to files


@dataclass(frozen=True)
class _Prepared:
    """One bucket, ready to be written."""

    rows: pa.Table
    duplicates: int
    sides: np.ndarray[tuple[int], np.dtype[np.int8]]
    lines: Sequence[Mapping[str, bytes]]  # per side, by format
    digests: list[bytes]
    codes: dict[str, np.ndarray[tuple[int], np.dtype[np.uint64]]]


class _Gathered:
    """Writes buckets in key order and gathers what the card says of them."""

    def __init__(self, asked: Asked, wanted: Wanted, treatment: Treatment, folder: Path) -> None:
        self.profile = Profile(Counter(asked.tokens), asked.tokens.sample, treatment.tally)
        self._wanted, self._folder = wanted, folder
        self._around = _around(wanted.render)
        self._digests: list[list[bytes]] = [[] for _ in SIDES]
        self._codes: dict[str, list[list[Any]]] = {
            name: [[] for _ in SIDES] for name in (QUESTION, ANSWER)
        }
        self._written: list[list[JsonlWriter]] = []

    @property
    def total(self) -> int:
        """How many rows were written."""
        return sum(map(sum, self._rows()))

    def _rows(self) -> list[list[int]]:
        return [[len(part) // 32 for part in parts] for parts in self._digests]

    def write(self, buckets: Buckets, given: int, progress: Progress) -> int:
        """Write every bucket; return how many rows were duplicates."""
        duplicates = done = 0
        with ExitStack() as stack:
            self._written = [
                [stack.enter_context(JsonlWriter(path, name, side)) for name, path in named]
                for side, named in ((side, self._names(side)) for side in SIDES)
            ]
            for bucket in self._in_order(buckets):
                duplicates += bucket.duplicates
                self._take(bucket)
                done += bucket.rows.num_rows + bucket.duplicates
                progress(done, given, "writing files")
        return duplicates

    def _names(self, side: str) -> list[tuple[str, Path]]:
        return [(name, self._folder / f"{side}.{name}.jsonl") for name in self._wanted.formats]

    def _in_order(self, buckets: Buckets) -> Iterator[_Prepared]:
        """Prepare buckets on threads, a few ahead, and yield them in key order."""
        loaders = buckets.loaders()
        with ThreadPoolExecutor(AHEAD) as threads:
            ahead: deque[Future[_Prepared]] = deque(
                threads.submit(self._prepare, load) for load in islice(loaders, AHEAD)
            )
            while ahead:
                yield ahead.popleft().result()
                for load in islice(loaders, 1):
                    ahead.append(threads.submit(self._prepare, load))

    def _prepare(self, load: Callable[[], Bucket]) -> _Prepared:
        bucket = load()
        rows = self._rendered(bucket.rows)
        drawn = [row_draw(self._wanted.split.seed, value) for value in self._values(rows)]
        digests = exact_digests(
            *(rows[name].combine_chunks() for name in (RENDERED, ANSWER, SYSTEM))
        )
        pair = dict(zip((QUESTION, ANSWER), CODES, strict=True))
        codes = {name: rows[code].to_numpy() for name, code in pair.items()}
        sides = hashed_sides(drawn, self._wanted.split)
        whole = lines_by_format(rows, self._wanted.formats)
        chosen = [np.flatnonzero(sides == number) for number in range(len(SIDES))]
        lines = [
            {name: chosen_lines(column, numbers) for name, column in whole.items()}
            for numbers in chosen
        ]
        return _Prepared(rows, bucket.duplicates, sides, lines, digests, codes)

    def _rendered(self, rows: pa.Table) -> pa.Table:
        questions = rows[QUESTION].combine_chunks()
        if self._around is None:
            texts = pa.array(map(self._wanted.render, questions.to_pylist()), pa.string())
        else:
            around = (self._around.before, questions, self._around.after)
            texts = pc.binary_join_element_wise(*around, "")
        system = pa.array([self._wanted.system] * rows.num_rows, pa.string())
        return rows.append_column(RENDERED, texts).append_column(SYSTEM, system)

    def _values(self, rows: pa.Table) -> list[str]:
        """Return what each row's hash goes by."""
        by = self._wanted.split.by
        join = by[0] if by else None
        if join is None:
            keys: list[str] = rows[ROW_KEY].to_pylist()
            return keys
        column = _JOINS.get(join, join)
        found: list[str] = pc.coalesce(
            content_keys(rows[column].combine_chunks()), rows[ROW_KEY].combine_chunks()
        ).to_pylist()
        return found

    def _take(self, bucket: _Prepared) -> None:
        self.profile.add_coded(bucket.rows, bucket.codes)
        for number in range(len(SIDES)):
            chosen = np.flatnonzero(bucket.sides == number).tolist()
            for writer in self._written[number]:
                writer.write(bucket.lines[number][writer.format], len(chosen))
            self._digests[number].append(b"".join(bucket.digests[row] for row in chosen))
            for name, codes in bucket.codes.items():
                self._codes[name][number].append(codes[chosen])

    def finished(self, counts: Counts, rules: dict[str, int], profile: dict[str, Any]) -> Streamed:
        """Name the files by the version and say what was written."""
        per_side = [sum(rows) for rows in self._rows()]
        check_sides(np.array(per_side), self._wanted.split)
        total = sha256()
        for side, rows, parts in zip(SIDES, per_side, self._digests, strict=True):
            total.update(f"{side}:{rows}:".encode())
            for part in parts:
                total.update(part)
        version = Version(self._wanted.tag, total.hexdigest())
        files = tuple(
            writer.renamed(f"{side}-{version.name}.{name}.jsonl")
            for side, rows, writers in zip(SIDES, per_side, self._written, strict=True)
            for name, writer in zip(self._wanted.formats, writers, strict=True)
            if rows or writer.discard()
        )
        shared = self._leaked()
        named = dict(zip(SIDES, per_side, strict=True))
        return Streamed(version, named, files, counts, rules, profile, shared)

    def _leaked(self) -> int:
        leaked = np.zeros(sum(len(part) for part in self._codes[QUESTION][TEST]), bool)
        for sides in self._codes.values():
            train, test = (
                np.concatenate([*sides[n], np.empty(0, np.uint64)]) for n in (TRAIN, TEST)
            )
            leaked |= np.isin(test, train)
        return int(leaked.sum())


@dataclass(frozen=True)
class _Around:
    before: str
    after: str


def _around(render: Callable[[str], str]) -> _Around | None:
    """Return what a template writes before and after the question, if it does no more than that.

    A template that changes the question shows in one of the probes.
    """
    before, mark, after = render(_MARK).partition(_MARK)
    if not mark or _MARK in after:
        return None
    probes = ("", " a\n", "A" * 300, "<b>{{ 1 }}</b> Word word", "\u00e9\U0001f600")
    if all(render(probe) == before + probe + after for probe in probes):
        return _Around(before, after)
    return None
