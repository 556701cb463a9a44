"""Where a run's rows are from, as its record says it."""

from __future__ import annotations

import pytest

from llmops.lineage.record import source_of

CONFIG = {
    "warehouse": {"source": {"title": "tickets", "licence": "ours"}},
    "dataset": {"licence": "mine", "source_terms": "my terms"},
}


@pytest.mark.parametrize("kind", ["ingest", "prepare"])
def test_rows_of_a_query_are_from_the_warehouse(kind):
    steps = [{"kind": "hello"}, {"kind": kind, "facts": {"source": "duckdb://tickets.db"}}]
    assert source_of(CONFIG, steps) == {
        "title": "tickets",
        "licence": "ours",
        "name": "duckdb://tickets.db",
    }


def test_rows_of_own_files_are_not_the_warehouses_and_have_their_own_licence():
    steps = [{"kind": "read_files", "facts": {"source": "files://rows.jsonl"}}]
    assert source_of(CONFIG, steps) == {
        "title": "own files",
        "licence": "mine",
        "terms": "my terms",
        "terms_url": None,
        "name": "files://rows.jsonl",
    }


def test_a_source_that_was_not_read_yet_has_no_name():
    assert source_of(CONFIG, [{"kind": "ingest", "facts": None}])["name"] is None


def test_a_run_that_reads_no_rows_has_no_source():
    assert source_of(CONFIG, [{"kind": "hello"}]) is None
    assert source_of({}, []) is None
