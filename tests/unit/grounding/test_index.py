"""The index of passages: BM25 in SQLite, vectors beside it, one file a version."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.adapters.retrieval.index import fused, match_of, open_retriever
from llmops.errors import BackendError, ConfigError, DataError
from llmops.ports.warehouse import Column, QueryCheck

ROWS = [
    ("1", "Sorting", "Use sorted() to sort a list of rows."),
    ("2", "Files", "Open a file with open() and read its lines."),
    ("3", "Processes", "Kill a child process with os.kill."),
    ("4", None, "Sorting and files: sort the lines of a file."),
    ("5", "Empty", None),
]
GROUNDING = {
    "kind": "warehouse",
    "query": "SELECT id, title, body FROM t",
    "columns": {"id": "id", "text": "body", "title": "title", "uri": None},
    "ranking": "words",
    "passages": 2,
    "max_characters": 100,
    "instruction": "Cite.",
}


class Warehouse:
    """A warehouse by shape: one table, whose version can be changed."""

    def __init__(self, rows=ROWS, version="v1"):
        self.rows, self.version, self.queries = rows, version, 0

    def check(self, sql):
        columns = tuple(Column(name, "STRING") for name in ("id", "title", "body"))
        return QueryCheck(columns, {"t": self.version}, None)

    def query(self, sql):
        self.queries += 1
        rows = [dict(zip(("id", "title", "body"), row, strict=True)) for row in self.rows]
        schema = pa.schema([(name, pa.string()) for name in ("id", "title", "body")])
        batches = pa.Table.from_pylist(rows, schema=schema).to_batches()
        return SimpleNamespace(batches=lambda: iter(batches))


class Letters:
    """An encoder by shape: counts of letters, of length 1."""

    description = "letters"
    dimensions = 26

    def encode(self, texts, progress):
        counts = np.zeros((len(texts), 26), np.float32)
        for place, text in enumerate(texts):
            for letter in text.casefold():
                if "a" <= letter <= "z":
                    counts[place, ord(letter) - 97] += 1
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def no_encoder():
    raise ConfigError("no encoder is chosen")


def retriever(tmp_path, warehouse=None, encoder=no_encoder, **changes):
    warehouse = warehouse or Warehouse()
    return open_retriever(GROUNDING | changes, lambda: warehouse, encoder, tmp_path)


def ids(found):
    return [passage.id for passage in found]


def test_the_best_passage_comes_first_and_no_more_than_asked(tmp_path):
    found = retriever(tmp_path).find("How do I sort a list?", 2)
    assert ids(found) == ["1", "4"]
    assert (found[0].title, found[0].text) == ("Sorting", "Use sorted() to sort a list of rows.")


def test_words_are_matched_by_their_stem(tmp_path):
    assert ids(retriever(tmp_path).find("killing processes", 1)) == ["3"]


def test_a_row_without_text_is_no_passage(tmp_path):
    assert ids(retriever(tmp_path).find("empty", 5)) == []


@pytest.mark.parametrize("question", ["", "???", '" OR *', "NEAR(", "title:x", "\x00", "zzz"])
def test_no_question_is_read_as_an_operator_or_fails(tmp_path, question):
    assert retriever(tmp_path).find(question, 3) == ()


@given(st.text(max_size=60))
def test_every_question_makes_a_query_that_sqlite_reads(question):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
    match = match_of(question)
    if match:
        connection.execute("SELECT * FROM words WHERE words MATCH ?", (match,)).fetchall()
    connection.close()


def test_the_index_is_built_once_for_a_version_of_the_table(tmp_path):
    warehouse = Warehouse()
    retriever(tmp_path, warehouse)
    retriever(tmp_path, warehouse)
    assert warehouse.queries == 1
    warehouse.rows, warehouse.version = [("9", "New", "sort differently")], "v2"
    assert ids(retriever(tmp_path, warehouse).find("sort", 1)) == ["9"]
    assert warehouse.queries == 2


def test_an_index_appears_whole_or_not_at_all(tmp_path):
    class Breaking(Warehouse):
        def query(self, sql):
            def batches():
                yield from super(Breaking, self).query(sql).batches()
                raise BackendError("the warehouse went away")

            return SimpleNamespace(batches=batches)

    with pytest.raises(BackendError, match="went away"):
        retriever(tmp_path, Breaking())
    assert list((tmp_path / ".llmops" / "grounding").glob("*.sqlite")) == []
    assert ids(retriever(tmp_path).find("sort list", 1)) == ["1"]


def test_by_meaning_the_likest_vector_comes_first(tmp_path):
    found = retriever(tmp_path, encoder=Letters, ranking="meaning")
    assert ids(found.find("Files\nOpen a file with open() and read its lines.", 1)) == ["2"]


def test_both_rankings_are_joined(tmp_path):
    found = retriever(tmp_path, encoder=Letters, ranking="both")
    assert len(found.find("sort the lines of a file", 3)) == 3
    assert fused([[1, 2, 3], [3, 1]]) == [1, 3, 2]


def test_meaning_without_an_encoder_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="no encoder"):
        retriever(tmp_path, ranking="meaning")


def test_a_column_that_the_query_does_not_give_is_a_config_error(tmp_path):
    columns = GROUNDING["columns"] | {"uri": "link"}
    with pytest.raises(ConfigError, match=r"grounding\.columns\.uri"):
        retriever(tmp_path, columns=columns)


def test_a_table_without_passages_is_refused(tmp_path):
    with pytest.raises(DataError, match="no passage"):
        retriever(tmp_path, Warehouse(rows=[]))
