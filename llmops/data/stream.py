"""From a query's batches straight to JSONL files: what four steps do, in one pass over the rows.

First, as batches arrive, rows are judged, keyed, encoded as they will be written, and spilt to
buckets by key. Then, bucket by bucket, they are put in order and duplicates are left out; what the
split goes by is small enough to be known of all rows at once, so that it can decide. Last, each
bucket is written, and hashed while it is. The files are byte for byte those of the separate steps.
Knows no warehouse: batches come from outside.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmops.data.buckets import Buckets, prefix_bits
from llmops.data.cleaning import (
    QUARANTINED_SCHEMA,
    Asked,
    Quarantine,
    check_bad_fraction,
    check_min_rows,
    cleaned,
)
from llmops.data.columns import ANSWER, ROW_KEY, SIDES
from llmops.data.dataset import GROUP_CHARACTERS, Version, version_of
from llmops.data.examples import RenderedRows
from llmops.data.formats import JsonlWriter, Shape, WrittenFile, shape
from llmops.data.groups import TEXTS, Groups, group_rows, index_examples
from llmops.data.leakage import Leakage, measure
from llmops.data.limits import Fitted, Limits, fit
from llmops.data.mapping import Mapped, map_batch
from llmops.data.memory import share_out
from llmops.data.near_duplicates import number_texts
from llmops.data.parquet import RowWriter
from llmops.data.profile import Counts, Measured, Profile
from llmops.data.rules import RULES, Verdict, judge
from llmops.data.settings import (
    NearDuplicates,
    SplitSettings,
    check_columns,
    check_roles,
    check_rules,
)
from llmops.data.spilt import (
    DIGEST,
    DRAW,
    Layout,
    Packed,
    SpiltBucket,
    SpiltRows,
    code_and_characters,
    gathered,
    pack,
)
from llmops.data.splits import Facts, Sides, assign, check_sides, hashed_sides, rows_per_side
from llmops.data.texts import Around
from llmops.data.tokens import Counter
from llmops.data.treatment import Treatment
from llmops.data.values import first_tag, moments
from llmops.errors import ConfigError, DataError
from llmops.files import disk_errors
from llmops.ports.progress import Progress

PART_BYTES = 12 << 20
GROUP_BYTES = 8 << 20  # judged at once; some four of them are in work, each with its results
AHEAD = 2  # threads that work ahead of what is asked for
UNKNOWN_BYTES = 1 << 40  # where nobody knows how much will come: as many buckets as there may be

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Output:
    """Where the stream writes; ``spill`` is a folder of its own."""

    files: Path
    quarantined: Path
    spill: Path


@dataclass(frozen=True)
class Wanted:
    """What the files are to be: how rows are rendered and divided, and in which formats.

    Near-duplicates are looked for where ``split.by`` names them. ``expected_bytes``, of the rows
    to come, decides nothing but the number of buckets.
    """

    render: Callable[[str], str]
    around: Around | None  # all that ``render`` does to a question, but for its role tags
    system: str | None
    split: SplitSettings
    formats: tuple[str, ...]
    tag: str
    near_duplicates: NearDuplicates
    limits: Limits = field(default_factory=Limits)
    expected_bytes: int | None = None


@dataclass(frozen=True)
class Streamed:
    """What was written. ``groups`` is null for a split that joins no rows."""

    version: Version
    rows: dict[str, int]
    files: tuple[WrittenFile, ...]
    counts: Counts
    rules: dict[str, int]
    profile: dict[str, Any]
    groups: Groups | None
    leakage: Leakage
    limits: dict[str, Any] | None  # what the tuner's limits cut, as the card says it


def stream(
    batches: Iterator[pa.RecordBatch], asked: Asked, wanted: Wanted, to: Output, progress: Progress
) -> Streamed:
    """Write the files of a dataset.

    Raises:
        ConfigError: If a rule needs all rows at once, or the rows lack a column.
        DataError: If there are no rows, too few good ones, or too large a share of bad ones.
        BackendError: If the warehouse stops in mid-stream, or the disk is full.
    """
    _check(asked)
    expected = UNKNOWN_BYTES if wanted.expected_bytes is None else wanted.expected_bytes
    bits = prefix_bits(expected, share_out(asked.memory_limit).bucket_bytes)
    treatment = Treatment(asked.texts, asked.personal, asked.rules)
    how = Layout(asked.columns, wanted.render, wanted.around, wanted.system, wanted.split)
    to.files.mkdir(parents=True, exist_ok=True)
    with (
        disk_errors(to.spill.parent, setting="store.path"),
        Buckets(to.spill, how.schema(), bits) as buckets,
        RowWriter(to.quarantined, QUARANTINED_SCHEMA) as writer,
    ):
        quarantine = Quarantine(writer, asked.columns, treatment)
        given = _spill(batches, asked, how, buckets, quarantine, progress)
        if given == 0:
            raise DataError("the query returned no rows", hint="loosen dataset.query")
        check_bad_fraction(quarantine.counts, given, asked.rules, quarantine.example)
        buckets.close()
        settled = _settle(buckets.paths, asked, how, treatment)
        broken = {rule: quarantine.counts[rule] for rule in RULES}
        counts = Counts(given, settled.rows, sum(broken.values()), settled.duplicates)
        made = cleaned(counts, broken, settled.profile, asked.expectations)
        check_min_rows(made, asked.rules)
        decided = _decide(settled, how, wanted, Counter(asked.tokens), to.spill)
        sides = settled.by_bucket(decided.fitted.sides)
        version = version_of(settled.digests, sides, wanted.tag)
        rows = list(zip(settled.buckets, sides, strict=True))
        del settled  # the memory that it takes is for the lines
        files = _write(rows, version, how, wanted, to.files, progress)
    return Streamed(
        version=version,
        rows=rows_per_side(decided.fitted.sides),
        files=files,
        counts=counts,
        rules=broken,
        profile=made.profile,
        groups=decided.groups,
        leakage=decided.leakage,
        limits=decided.fitted.to_json(),
    )


def _check(asked: Asked) -> None:
    check_rules(asked.rules)
    check_roles(asked.rules, asked.columns)
    share_out(asked.memory_limit)
    if asked.rules.unique:
        raise ConfigError(
            "dataset.rules.unique needs all rows at once",
            hint="leave it empty, or choose the pipeline with the steps one by one",
        )


def _ahead(work: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Do the work on threads, a little ahead, and yield the results in the order of the items."""
    waiting = iter(items)
    with ThreadPoolExecutor(AHEAD) as threads:
        running: deque[Future[U]] = deque(
            threads.submit(work, item) for item in islice(waiting, AHEAD + 1)
        )
        while running:
            yield running.popleft().result()
            for item in islice(waiting, 1):
                running.append(threads.submit(work, item))


# ------------------------------------------------------------------- first: to buckets


@dataclass(frozen=True)
class _Refused:
    """A part of the rows some of which are bad; ``start`` is the place of its first."""

    mapped: Mapped
    verdict: Verdict
    start: int


@dataclass(frozen=True)
class _Judged:
    rows: int
    refused: list[_Refused]
    packed: Packed


def _spill(
    batches: Iterator[pa.RecordBatch],
    asked: Asked,
    how: Layout,
    buckets: Buckets,
    quarantine: Quarantine,
    progress: Progress,
) -> int:
    """Judge each batch and send its rows on; return how many rows came."""
    done, counter = 0, Counter(asked.tokens)

    def work(group: list[pa.RecordBatch]) -> _Judged:
        refused, packed, start = [], [], 0
        for batch in group:
            for part in _parts(batch):
                mapped = map_batch(part, asked.columns, quarantine.treatment)
                verdict = judge(mapped, asked.rules, counter)
                packed.append(pack(mapped, verdict.good, how))
                if not verdict.good.all():
                    refused.append(_Refused(mapped, verdict, start))
                start += part.num_rows
        return _Judged(start, refused, gathered(packed, how))

    group_bytes = min(GROUP_BYTES, share_out(asked.memory_limit).batch_bytes)
    for judged in _ahead(work, _groups(_checked(_read_ahead(batches), asked), group_bytes)):
        for part in judged.refused:
            quarantine.add(part.mapped, part.verdict, done + part.start)
        buckets.add(judged.packed.rows, judged.packed.first_bytes)
        done += judged.rows
        progress(done, None, "checking rows")
    return done


def _groups(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[list[pa.RecordBatch]]:
    """Yield batches together that have about ``size`` bytes; those without rows are passed over."""
    group: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        if not batch.num_rows:
            continue
        group.append(batch)
        held += batch.nbytes
        if held >= size:
            yield group
            group, held = [], 0
    if group:
        yield group


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into equal parts that are not too large for the processor's caches."""
    parts = min(batch.num_rows, max(1, round(batch.nbytes / PART_BYTES)))
    for start, end in pairwise(batch.num_rows * part // parts for part in range(parts + 1)):
        yield batch.slice(start, end - start)


def _checked(batches: Iterator[pa.RecordBatch], asked: Asked) -> Iterator[pa.RecordBatch]:
    for number, batch in enumerate(batches):
        if number == 0:
            check_columns(asked.columns, batch.schema.names)
        yield batch


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


# ------------------------------------------------------------------- then: in order


@dataclass
class _AllRows:
    """What is known of all rows at once, in key order: some 70 bytes a row."""

    profile: Profile
    buckets: list[SpiltBucket] = field(default_factory=list)
    duplicates: int = 0
    digests: list[npt.NDArray[np.void]] = field(default_factory=list)
    draws: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    codes: dict[str, list[npt.NDArray[np.uint64]]] = field(
        default_factory=lambda: {name: [np.empty(0, np.uint64)] for name in TEXTS}
    )

    @property
    def rows(self) -> int:
        """How many rows are left."""
        return sum(map(len, self.buckets))

    def by_bucket(self, sides: Sides) -> list[Sides]:
        """Return the sides of each bucket's rows."""
        ends = np.cumsum([len(bucket) for bucket in self.buckets])
        return np.split(sides, ends[:-1])


def _settle(paths: list[Path], asked: Asked, how: Layout, treatment: Treatment) -> _AllRows:
    profile = Profile(Counter(asked.tokens), asked.tokens.sample, treatment.tally)
    known = _AllRows(profile)
    of_texts = {name: code_and_characters(column) for name, column in TEXTS.items()}
    names = [DIGEST, *(name for pair in of_texts.values() for name in pair)]
    names += [DRAW] if how.split.method == "hash" else []

    def read(path: Path) -> tuple[SpiltBucket, dict[str, npt.NDArray[Any]], pa.Table]:
        bucket = SpiltBucket(path, how)
        return bucket, bucket.numbers(*names), bucket.optional()

    for bucket, numbers, optional in _ahead(read, paths):
        known.buckets.append(bucket)
        known.duplicates += bucket.duplicates
        known.digests.append(numbers[DIGEST])
        known.draws += [numbers[DRAW]] if DRAW in numbers else []
        measured = {}
        for name, (codes, characters) in of_texts.items():
            known.codes[name].append(numbers[codes])
            texts = partial(bucket.texts, TEXTS[name])
            measured[name] = Measured(numbers[codes], numbers[characters], texts)
        profile.add(len(bucket), measured, optional)
    return known


@dataclass(frozen=True)
class _Decided:
    fitted: Fitted
    groups: Groups | None
    leakage: Leakage


def _decide(
    known: _AllRows, how: Layout, wanted: Wanted, counter: Counter, spill: Path
) -> _Decided:
    """Give each row its side, and measure what of test is in train too."""
    split, near = wanted.split, wanted.near_duplicates
    rows = SpiltRows(known.buckets, how)
    if looked_for := "near_duplicate" in split.by:
        texts = index_examples(rows, near, spill)
    else:
        texts = {name: number_texts(np.concatenate(codes)) for name, codes in known.codes.items()}
    groups = None
    if split.method == "hash":
        sides = hashed_sides(np.concatenate([np.empty(0, np.uint64), *known.draws]), split)
        check_sides(np.bincount(sides, minlength=len(SIDES)), split)
    else:
        groups = group_rows(rows, split.by, texts)
        sides = assign(groups, _facts(known, rows, groups, split), split)
    fitted = fit(sides, wanted.limits, RenderedRows(rows, wanted.system, split.seed, counter))
    leaked = measure(fitted.sides, texts, near.threshold if looked_for else None)
    return _Decided(fitted, groups, leaked)


def _facts(known: _AllRows, rows: SpiltRows, groups: Groups, split: SplitSettings) -> Facts:
    if split.method == "random":
        return Facts()
    if split.method == "time":
        return Facts(moments=moments(rows.whole("created_at", "split.method time")))
    strata: list[str] = []
    if split.method == "stratified":
        values = rows.whole(str(split.stratify), f"split.stratify {split.stratify}")
        strata = [first_tag(value) if split.stratify == "tags" else value or "" for value in values]
    return Facts(names=_names(known.buckets, groups), strata=strata)


def _names(buckets: list[SpiltBucket], groups: Groups) -> list[str]:
    keys = [
        key.tobytes()[: GROUP_CHARACTERS // 2].hex()
        for bucket in buckets
        for key in bucket.numbers(ROW_KEY)[ROW_KEY]
    ]
    return [keys[first] for first in groups.first.tolist()]


# ------------------------------------------------------------------- last: to files


@dataclass(frozen=True)
class _Ready:
    """One bucket's lines: per side how many rows, and the blocks of each format."""

    rows: tuple[int, ...]
    blocks: tuple[tuple[list[memoryview], ...], ...]  # side, format


def _write(
    buckets: Sequence[tuple[SpiltBucket, Sides]],
    version: Version,
    how: Layout,
    wanted: Wanted,
    folder: Path,
    progress: Progress,
) -> tuple[WrittenFile, ...]:
    shapes = [shape(name, wanted.system, how.around or Around()) for name in wanted.formats]
    every, done = np.concatenate([sides for _, sides in buckets]), 0

    def work(given: tuple[SpiltBucket, Sides]) -> _Ready:
        bucket, sides = given
        ready = _ready(bucket, sides, how, shapes)
        bucket.remove()  # its place on the disk is for what is written now
        return ready

    with ExitStack() as stack:
        writers = [
            [
                stack.enter_context(writer)
                for writer in _writers(side, rows, version, wanted, folder)
            ]
            for side, rows in rows_per_side(every).items()
        ]
        for ready, (_, sides) in zip(_ahead(work, buckets), buckets, strict=True):
            for side, formats, rows in zip(writers, ready.blocks, ready.rows, strict=True):
                for writer, blocks in zip(side, formats, strict=False):
                    writer.write(blocks, rows)
            done += len(sides)
            progress(done, len(every), "writing files")
    return tuple(writer.written() for side in writers for writer in side)


def _writers(
    side: str, rows: int, version: Version, wanted: Wanted, folder: Path
) -> Iterator[JsonlWriter]:
    if rows:
        for name in wanted.formats:
            yield JsonlWriter(folder / f"{side}-{version.name}.{name}.jsonl", name, side)


def _ready(bucket: SpiltBucket, sides: Sides, how: Layout, shapes: list[Shape]) -> _Ready:
    users, answers = bucket.encoded(how.user), bucket.encoded(ANSWER)
    chosen = [np.flatnonzero(sides == number) for number in range(len(SIDES))]
    pairs = [(users.gather(rows), answers.gather(rows)) for rows in chosen]
    blocks = (tuple(list(one.blocks(*pair)) for one in shapes) for pair in pairs)
    return _Ready(tuple(map(len, chosen)), tuple(blocks))
