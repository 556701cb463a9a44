"""The ingest step: Parquet whose bytes depend on the rows alone, and clear refusals."""

from __future__ import annotations

import hashlib
import json
import random

import pyarrow as pa
import pytest
from pyarrow import parquet

from llmops.data.attribution import missing_for
from llmops.errors import ConfigError, DataError, Refused
from llmops.plan.kinds import Adapters, Work
from llmops.steps import ingest

NAME = "p.d.t"
COLUMNS = {"question": "q", "answer": "a", "id": None, "author": None}


def unused(*_):
    raise AssertionError("ingest uses the warehouse alone")


def work(own, folder, query=f"SELECT q, a FROM `{NAME}`", columns=COLUMNS, **limits):
    settings = ingest.Settings(query, {}, columns, limits.get("max_rows"), limits.get("max_bytes"))
    folder.mkdir(exist_ok=True)
    return Work(
        step="ingest",
        key="k",
        run_id="r",
        settings=settings,
        inputs={},
        digests={},
        outputs={"rows": folder / "rows", "statistics": folder / "statistics"},
        adapters=Adapters(lambda: own, unused, unused, unused, unused, unused),
        progress=lambda done, total, note="": None,
        scratch=folder,
    )


@pytest.fixture
def filled(own, tmp_path):
    table = pa.table({"q": [f"q{n}" for n in range(600)], "a": [f"a{n}" for n in range(600)]})
    parquet.write_table(table, tmp_path / "t.parquet")
    own.load(NAME, tmp_path / "t.parquet")
    return own


def test_every_row_is_written_once(filled, tmp_path):
    outcome = ingest.run(work(filled, tmp_path / "out"))
    written = parquet.read_table(tmp_path / "out" / "rows")
    assert outcome.rows == {"rows": 600}
    assert sorted(written["q"].to_pylist()) == sorted(f"q{n}" for n in range(600))


def test_two_runs_write_the_same_bytes(filled, tmp_path):
    digests = set()
    for name in ("one", "two"):
        ingest.run(work(filled, tmp_path / name))
        digests.add(hashlib.sha256((tmp_path / name / "rows").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_the_bytes_do_not_depend_on_how_the_warehouse_batched_the_rows(tmp_path):
    table = pa.table({"q": [f"q{n}" for n in range(3000)]})
    digests = set()
    for seed in range(3):
        rows, batches = random.Random(seed), []
        at = 0
        while at < table.num_rows:
            size = rows.randint(1, 700)
            batches += table.slice(at, size).combine_chunks().to_batches()
            at += size
        path = tmp_path / str(seed)
        ingest._write(iter(batches), path, lambda *_: None, None)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_statistics_name_source_tables_columns_and_order(filled, tmp_path):
    ingest.run(work(filled, tmp_path / "out"))
    statistics = json.loads((tmp_path / "out" / "statistics").read_text())
    assert statistics["source"] == "duckdb://own"
    assert statistics["tables"] == {NAME: filled.tables()[0].version}
    assert statistics["columns"][0] == {"name": "q", "type": "STRING"}
    assert "sha256" in statistics["order"]


def test_the_facts_say_what_a_query_without_authors_cannot_do(filled, tmp_path):
    notes = ingest.run(work(filled, tmp_path / "out")).facts["notes"]
    assert any("grouped by author" in note for note in notes)
    assert any("so_python_attributed.sql" in note for note in notes)


def test_the_key_knows_the_versions_of_the_tables(filled, tmp_path):
    made = work(filled, tmp_path / "out")
    assert ingest.source(made.settings, made.adapters).facts == {
        "tables": {NAME: filled.tables()[0].version}
    }


def test_max_rows_keeps_so_many_rows(filled, tmp_path):
    assert ingest.run(work(filled, tmp_path / "out", max_rows=7)).rows == {"rows": 7}


def test_a_query_without_rows_is_refused(filled, tmp_path):
    with pytest.raises(DataError, match="no rows"):
        ingest.run(work(filled, tmp_path / "out", f"SELECT q, a FROM `{NAME}` WHERE FALSE"))


def test_a_mapped_column_that_the_query_lacks_is_named_with_the_nearest(filled, tmp_path):
    made = work(
        filled,
        tmp_path / "out",
        f"SELECT q AS input_text, a FROM `{NAME}`",
        {"question": "input_txt"},
    )
    with pytest.raises(ConfigError, match="returns no column 'input_txt'") as caught:
        ingest.source(made.settings, made.adapters)
    assert "did you mean 'input_text'?" in caught.value.hint


def test_a_query_over_the_byte_limit_is_refused(filled, tmp_path):
    with pytest.raises(Refused):
        ingest.run(work(filled, tmp_path / "out", max_bytes=10))


def test_nothing_is_missing_when_every_role_has_a_column():
    assert missing_for({"id": "i", "author": "a", "licence": "l", "url": "u"}) == ()
