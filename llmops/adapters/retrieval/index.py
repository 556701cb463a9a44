"""An index of passages in SQLite: BM25 by FTS5, and vectors beside it where an encoder is chosen.

One file for one version of what is indexed: query, columns, table versions, encoder. It appears by
rename, whole or not at all, and is never changed. Knows no prompt and no model that answers.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops.artifacts import digest
from llmops.errors import BackendError, ConfigError, DataError
from llmops.ports.model import Encoder, Passage
from llmops.ports.warehouse import Warehouse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Ranking = Literal["words", "meaning", "both"]
FORMAT = 1  # of the file; part of its name
WORDS = re.compile(r"\w+")
MOST_WORDS = 64  # of a question; the rest hardly changes the ranking
CANDIDATES = 4  # times as many passages a ranking gives before two are joined
RANK_CONSTANT = 60  # of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009)
ENCODED_AT_ONCE = 256
_TABLES = """
CREATE TABLE passages (number INTEGER PRIMARY KEY, id TEXT, title TEXT, text TEXT, uri TEXT);
CREATE VIRTUAL TABLE words USING fts5(
  title, text, content='passages', content_rowid='number', tokenize='porter unicode61'
);
"""


@dataclass(frozen=True)
class Source:
    """What is indexed: one SELECT, and which of its columns holds what; null: it has none."""

    query: str
    id: str
    text: str
    title: str | None
    uri: str | None


def open_retriever(
    grounding: Mapping[str, Any],
    warehouse: Callable[[], Warehouse],
    encoder: Callable[[], Encoder],
    workspace: Path,
) -> Retriever:
    """Open the index of the ``grounding`` group, building it first where it is not there.

    Raises:
        ConfigError: If the query or a column is wrong, or no encoder is chosen where one is needed.
        DataError: If the query gives no passage.
        BackendError: If the warehouse or the disk fails.
    """
    source = Source(query=grounding["query"], **grounding["columns"])
    ranking: Ranking = grounding["ranking"]
    chosen = None if ranking == "words" else encoder()
    name = digest(
        {
            "format": FORMAT,
            "source": vars(source),
            "tables": dict(warehouse().check(source.query).tables),
            "encoder": chosen.description if chosen else None,
        }
    )
    path = workspace / ".llmops" / "grounding" / f"{name[:32]}.sqlite"
    _build(path, source, warehouse, chosen)
    return Retriever(path, ranking, chosen)


class Retriever:
    """Finds passages; safe to be asked by several threads."""

    def __init__(self, path: Path, ranking: Ranking, encoder: Encoder | None) -> None:
        self.path, self.ranking, self.encoder = path, ranking, encoder
        self.vectors = _vectors(path, encoder.dimensions) if encoder else None

    def find(self, question: str, most: int) -> tuple[Passage, ...]:
        """Return up to ``most`` passages, the best first; equals in the order of the table."""
        with closing(_reading(self.path)) as connection:
            if self.ranking == "words":
                numbers = _by_words(connection, question, most)
            elif self.ranking == "meaning":
                numbers = self._by_meaning(question, most)
            else:
                wide = most * CANDIDATES
                by_words = _by_words(connection, question, wide)
                numbers = fused([by_words, self._by_meaning(question, wide)])[:most]
            return tuple(_passage(connection, number) for number in numbers)

    def _by_meaning(self, question: str, most: int) -> list[int]:
        import numpy as np

        assert self.encoder is not None
        assert self.vectors is not None
        likeness = self.vectors @ self.encoder.encode([question], _quiet)[0]
        best = np.argsort(-likeness, kind="stable")[:most]
        return [int(number) + 1 for number in best]


def fused(rankings: Sequence[Sequence[int]]) -> list[int]:
    """Join rankings: each gives 1 / (60 + rank) to what it names; the highest sum comes first."""
    sums: dict[int, float] = {}
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            sums[number] = sums.get(number, 0.0) + 1 / (RANK_CONSTANT + rank)
    return sorted(sums, key=lambda number: (-sums[number], number))


def match_of(question: str) -> str:
    """Return an FTS5 query for any of the question's words; empty if it has none.

    Each word is quoted, so nothing in a question is read as an operator.
    """
    words = dict.fromkeys(word.casefold() for word in WORDS.findall(question))
    return " OR ".join(f'"{word}"' for word in list(words)[:MOST_WORDS])


# ------------------------------------------------------------------ reading


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)


def _by_words(connection: sqlite3.Connection, question: str, most: int) -> list[int]:
    match = match_of(question)
    if not match:
        return []
    found = connection.execute(
        "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, 2.0, 1.0), rowid LIMIT ?",
        (match, most),
    )
    return [int(row[0]) for row in found]


def _passage(connection: sqlite3.Connection, number: int) -> Passage:
    row = connection.execute(
        "SELECT id, text, title, uri FROM passages WHERE number = ?", (number,)
    ).fetchone()
    return Passage(*row)


def _vectors(path: Path, dimensions: int) -> NDArray[np.float32]:
    """Return the passages' vectors, a row each: raw numbers, so that no file can hold code."""
    import numpy as np

    return np.memmap(path.with_suffix(".f32"), np.float32, "r").reshape(-1, dimensions)


# ------------------------------------------------------------------ building


def _build(
    path: Path, source: Source, warehouse: Callable[[], Warehouse], encoder: Encoder | None
) -> None:
    from filelock import FileLock

    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                return  # another process built it while this one waited
            temporary = path.with_suffix(".tmp")
            temporary.unlink(missing_ok=True)
            rows = _write(temporary, _passages(source, warehouse()))
            if encoder:
                _encode(temporary, path.with_suffix(".f32"), rows, encoder)
            os.replace(temporary, path)
    except (OSError, sqlite3.Error) as exc:
        raise BackendError(
            f"the index of passages cannot be written: {exc}", hint=f"look at {path.parent}"
        ) from exc


def _passages(source: Source, warehouse: Warehouse) -> Iterator[tuple[str | None, ...]]:
    columns = {role: name for role, name in vars(source).items() if role != "query" and name}
    returned = [column.name for column in warehouse.check(source.query).columns]
    for role, name in columns.items():
        if name not in returned:
            raise ConfigError(
                f"grounding.columns.{role}: the query gives no column '{name}'",
                hint=f"it gives {', '.join(returned)}",
            )
    for batch in warehouse.query(source.query).batches():
        for row in batch.to_pylist():
            told = {role: row[name] for role, name in columns.items()}
            if told["text"]:
                yield tuple(
                    None if told.get(role) is None else str(told[role])
                    for role in ("id", "title", "text", "uri")
                )


def _write(path: Path, passages: Iterable[tuple[str | None, ...]]) -> int:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_TABLES)
        connection.executemany(
            "INSERT INTO passages (id, title, text, uri) VALUES (?, ?, ?, ?)", passages
        )
        connection.execute("INSERT INTO words (words) VALUES ('rebuild')")
        connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        rows = int(connection.execute("SELECT count(*) FROM passages").fetchone()[0])
        connection.commit()
    if not rows:
        raise DataError("grounding.query gives no passage", hint="llmops warehouse query SQL")
    return rows


def _encode(database: Path, target: Path, rows: int, encoder: Encoder) -> None:
    import numpy as np

    temporary = target.with_suffix(".f32.tmp")
    made = np.memmap(temporary, np.float32, "w+", shape=(rows, encoder.dimensions))
    with closing(_reading(database)) as connection:
        found = connection.execute("SELECT number, title, text FROM passages ORDER BY number")
        while batch := found.fetchmany(ENCODED_AT_ONCE):
            texts = [f"{title}\n{text}" if title else text for _, title, text in batch]
            first = batch[0][0] - 1
            made[first : first + len(batch)] = encoder.encode(texts, _quiet)
    made.flush()
    os.replace(temporary, target)


def _quiet(done: float, total: float | None, note: str = "") -> None:
    """Report progress to nobody."""
