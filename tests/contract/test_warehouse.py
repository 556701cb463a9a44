"""What every warehouse must do. An adapter joins by adding itself to ADAPTERS."""

from __future__ import annotations

import contextlib
import re

import pytest

from llmops.errors import BackendError, ConfigError, Refused
from llmops.ports.warehouse import Column, Origin
from tests.fakes.bigquery import bigquery, bigquery_client, duckdb_with
from tests.fakes.faults import serve

TICKETS = "shop.support.tickets"
ROWS = [
    {"id": 1, "topic": "mail", "text": "no mail", "opened": "2020-01-01 10:00:00+00"},
    {"id": 2, "topic": "mail", "text": None, "opened": "2021-01-01 10:00:00+00"},
    {"id": 3, "topic": "disk", "text": "disk \u0000 füll", "opened": "2022-01-01 10:00:00+00"},
]


PARAMETERS = {"topic": "mail", "least": 1, "ids": [1, 2, 9], "share": 0.5, "all": True}


@contextlib.contextmanager
def by_duckdb(folder):
    yield duckdb_with(folder, TICKETS, ROWS)


@contextlib.contextmanager
def by_bigquery(folder):
    """Google's client against the fake, which answers from such a DuckDB warehouse."""
    with serve(bigquery(duckdb_with(folder, TICKETS, ROWS))) as server:
        yield bigquery_client(server, folder)


ADAPTERS = [pytest.param(by_duckdb, id="duckdb"), pytest.param(by_bigquery, id="bigquery")]


@pytest.fixture(params=ADAPTERS, scope="module")
def warehouse(request, tmp_path_factory):
    with request.param(tmp_path_factory.mktemp("warehouse")) as opened:
        yield opened


def rows(warehouse, sql, **limits):
    return [row for b in warehouse.query(sql, **limits).batches() for row in b.to_pylist()]


def test_a_table_is_listed_with_its_columns_rows_and_origin(warehouse):
    (table,) = warehouse.tables()
    assert (table.name, table.rows) == (TICKETS, 3)
    assert table.columns == (
        Column("id", "INT64"),
        Column("topic", "STRING"),
        Column("text", "STRING"),
        Column("opened", "TIMESTAMP"),
    )
    assert table.source.startswith("tickets of a shop")


def test_a_check_names_columns_tables_and_bytes_without_running(warehouse):
    check = warehouse.check(f"SELECT id, topic FROM `{TICKETS}`")
    assert check.columns == (Column("id", "INT64"), Column("topic", "STRING"))
    assert dict(check.tables) == {TICKETS: warehouse.tables()[0].version}
    assert check.bytes == 3 * 8 + 3 * (2 + 4)


def test_a_query_returns_what_its_check_announced(warehouse):
    sql = f"SELECT id, UPPER(topic) AS topic, opened FROM `{TICKETS}` ORDER BY id"
    announced = [column.name for column in warehouse.check(sql).columns]
    batches = list(warehouse.query(sql).batches())
    assert [batch.schema.names for batch in batches] == [announced]


def test_the_order_of_the_query_is_kept(warehouse):
    found = rows(warehouse, f"SELECT id FROM `{TICKETS}` ORDER BY opened DESC")
    assert [row["id"] for row in found] == [3, 2, 1]


def test_texts_come_as_they_are(warehouse):
    found = rows(warehouse, f"SELECT text FROM `{TICKETS}` ORDER BY id")
    assert [row["text"] for row in found] == ["no mail", None, "disk \x00 füll"]


def test_a_bare_limit_gives_the_same_rows_every_time_and_says_so(warehouse):
    sql = f"SELECT id FROM `{TICKETS}` LIMIT 2"
    assert rows(warehouse, sql) == rows(warehouse, sql)
    assert any("LIMIT without ORDER BY" in note for note in warehouse.check(sql).notes)


def test_max_rows_keeps_the_rows_that_a_bare_limit_keeps(warehouse):
    sql = f"SELECT id, topic FROM `{TICKETS}`"
    assert rows(warehouse, sql, max_rows=2) == rows(warehouse, f"{sql} LIMIT 2")


def test_a_result_without_rows_still_has_statistics(warehouse):
    result = warehouse.query(f"SELECT id FROM `{TICKETS}` WHERE id > 99")
    assert sum(batch.num_rows for batch in result.batches()) == 0
    assert result.statistics().rows == 0


def test_statistics_count_rows_and_name_the_source(warehouse):
    result = warehouse.query(f"SELECT id FROM `{TICKETS}`")
    list(result.batches())
    statistics = result.statistics()
    assert (statistics.rows, statistics.bytes) == (3, 24)
    assert re.fullmatch(r"(duckdb|bigquery)://\w+", statistics.source)


def test_statistics_before_the_last_batch_are_refused(warehouse):
    with pytest.raises(BackendError, match="not read to the end"):
        warehouse.query(f"SELECT id FROM `{TICKETS}`").statistics()


def test_a_query_over_the_byte_limit_is_refused_before_it_runs(warehouse):
    with pytest.raises(Refused, match="24 bytes, max_bytes allows 23"):
        warehouse.query(f"SELECT id FROM `{TICKETS}`", max_bytes=23)


@pytest.mark.parametrize(
    ("sql", "problem", "hint"),
    [
        ("SELECT 1 AS a; SELECT 2 AS a", "2 statements", "one SELECT"),
        (f"DELETE FROM `{TICKETS}` WHERE TRUE", "DELETE, not a SELECT", "one SELECT"),
        ("DROP TABLE `shop.support.tickets`", "DROP, not a SELECT", "one SELECT"),
        ("SELECT id FORM x y", "does not parse at line 1, column", "BigQuery"),
        ("", "is empty", "one SELECT"),
        ("SELECT id FROM `shop.support.ticket`", "no table", f"did you mean '{TICKETS}'"),
        (f"SELECT tpoic FROM `{TICKETS}`", "no column 'tpoic'", "did you mean 'topic'"),
        (f"SELECT t.tpoic\nFROM `{TICKETS}` t", "line 1, column 10", "did you mean 'topic'"),
        ("SELECT nonsense(1) AS a", "NONSENSE", "docs/"),
    ],
)
def test_a_query_that_cannot_be_asked_says_why_and_what_to_do(warehouse, sql, problem, hint):
    with pytest.raises(ConfigError) as caught:
        warehouse.check(sql)
    assert problem in caught.value.problem
    assert hint in caught.value.hint


def test_named_parameters_are_values_of_their_types(warehouse):
    sql = (
        f"SELECT id FROM `{TICKETS}` WHERE topic = @topic AND id >= @least AND id IN UNNEST(@ids) "
        "AND @share < 0.6 AND @all ORDER BY id"
    )
    assert [row["id"] for row in rows(warehouse, sql, parameters=PARAMETERS)] == [1, 2]


def test_a_parameter_s_text_is_never_read_as_sql(warehouse):
    sql = f"SELECT id FROM `{TICKETS}` WHERE topic = @topic"
    assert rows(warehouse, sql, parameters={"topic": "mail' OR TRUE -- "}) == []


@pytest.mark.parametrize(
    ("given", "problem"), [({}, "@topic, which is not given"), ({"topic": "a", "tpic": 1}, "@tpic")]
)
def test_a_parameter_too_few_or_too_many_is_refused(warehouse, given, problem):
    with pytest.raises(ConfigError, match=problem):
        warehouse.check(f"SELECT id FROM `{TICKETS}` WHERE topic = @topic", parameters=given)


def test_a_preview_shows_some_rows(warehouse):
    batches = list(warehouse.preview(TICKETS, 2))
    assert sum(batch.num_rows for batch in batches) == 2
    assert batches[0].schema.names == ["id", "topic", "text", "opened"]


def test_a_preview_of_no_table_names_the_nearest(warehouse):
    with pytest.raises(ConfigError) as caught:
        list(warehouse.preview("shop.support.ticket", 2))
    assert f"did you mean '{TICKETS}'" in caught.value.hint


def test_a_query_asked_twice_for_one_step_gives_the_same_rows(warehouse):
    origin = Origin("mine", "20261125-101502-7b1e", "k" * 64)
    sql = f"SELECT id, topic FROM `{TICKETS}`"
    assert rows(warehouse, sql, origin=origin) == rows(warehouse, sql, origin=origin)


def test_a_refused_query_never_runs(warehouse):
    with pytest.raises(ConfigError):
        warehouse.query("SELECT nonsense(1) AS a")
