"""Even SQL that had slipped past the guard reaches nothing outside the warehouse."""

from __future__ import annotations

import contextlib

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmops.adapters.warehouse.posts import QUESTIONS
from llmops.errors import ConfigError, LlmopsError


@pytest.fixture(scope="module")
def connection(sample):
    sample.tables()
    with sample.connect([QUESTIONS]) as opened:
        yield opened


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '/etc/passwd.csv'",
        "ATTACH '/tmp/elsewhere.duckdb'",
        "COPY (SELECT 1) TO '/tmp/elsewhere.csv'",
        "INSTALL httpfs",
        "LOAD '/tmp/elsewhere.so'",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "DELETE FROM _held_0.main.held",
        "CREATE TABLE _held_0.main.more (a INT)",
        "SELECT getenv('HOME')",
    ],
)
def test_the_connection_itself_refuses(connection, sql):
    with pytest.raises(duckdb.Error):
        connection.execute(sql).fetchall()


def test_a_python_variable_is_no_table(connection):
    hidden = connection.sql("SELECT 1")
    with pytest.raises(duckdb.Error):
        connection.sql("SELECT * FROM hidden").fetchall()
    del hidden


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM READ_PARQUET('x')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM `/etc/passwd`",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM `system.information_schema.tables`",
        "SELECT * FROM _held_0.main.held",
        "SELECT current_setting('temp_directory') AS x",
        "SELECT getenv('HOME') AS x",
        "SELECT llmops_int64(1) AS x",
        "SELECT (SELECT COUNT(*) FROM read_csv('/etc/passwd')) AS n",
        "WITH t AS (SELECT * FROM read_csv('/etc/passwd')) SELECT * FROM t",
        "SELECT 1 AS a UNION ALL SELECT COUNT(*) FROM read_csv('/etc/passwd')",
        "ATTACH 'x.duckdb' AS y",
        "COPY t TO 'x.csv'",
        "PRAGMA version",
        "INSTALL httpfs",
        "SET memory_limit = '100GB'",
        "CALL pragma_version()",
        "INSERT INTO t VALUES (1)",
        "MERGE INTO t USING u ON TRUE WHEN MATCHED THEN DELETE",
        "TRUNCATE TABLE t",
        "BEGIN TRANSACTION",
        "EXECUTE IMMEDIATE 'SELECT 1'",
        "EXPLAIN SELECT 1",
    ],
)
def test_the_guard_refuses(sample, sql):
    with pytest.raises(ConfigError):
        sample.check(sql)


_WORDS = (
    "SELECT FROM WHERE WITH AS LIMIT ORDER BY UNION ALL ( ) , ; * 1 'x' `t` . t COPY ATTACH PRAGMA "
    "DELETE INTO read_csv @p -- /* \n"
)
WORDS = st.sampled_from(_WORDS.split(" "))


@given(st.lists(WORDS, max_size=12).map(" ".join))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_no_text_ends_in_anything_but_an_answer_or_an_error_of_ours(sample, sql):
    with contextlib.suppress(LlmopsError):
        assert sample.check(sql).columns


@given(st.text(max_size=40))
@settings(max_examples=60)
def test_a_text_literal_stays_a_literal(sample, text):
    from llmops.adapters.warehouse.types import text_literal

    with duckdb.connect() as plain:
        assert plain.execute(f"SELECT {text_literal(text)}").fetchone() == (text,)
