"""BigQuery's SQL on DuckDB: for every construct the value that BigQuery gives, or a refusal."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest

from llmops.adapters.warehouse.duckdb import open_warehouse
from llmops.errors import ConfigError

T = "`shop.support.t`"
ROWS = [
    {"id": 1, "tag": "a|b", "score": 5, "text": "one", "at": "2020-01-05 10:00:00+00"},
    {"id": 2, "tag": "b", "score": 5, "text": None, "at": "2020-06-01 00:00:00+00"},
    {"id": 3, "tag": "c", "score": 1, "text": "Three", "at": "2021-01-01 23:59:59+00"},
]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialect")
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    config = {"name": "t", "sample": False, "memory_limit": "300MB", "source": {}}
    made = open_warehouse(config, folder)
    made.load("shop.support.t", folder / "t.jsonl")
    return made


def answer(warehouse, sql):
    return [tuple(row.values()) for b in warehouse.query(sql).batches() for row in b.to_pylist()]


def moment(*parts):
    return datetime(*parts, tzinfo=UTC)


VALUES = {
    # numbers
    "0.1 + 0.2": 0.30000000000000004,
    "2147483647 + 1": 2147483648,
    "3000000000 * 2": 6000000000,
    "7 / 2": 3.5,
    "DIV(7, 2)": 3,
    "DIV(-7, 2)": -3,
    "MOD(-7, 3)": -1,
    "ROUND(2.5)": 3.0,
    "ROUND(-2.5)": -3.0,
    "ROUND(7)": 7.0,
    "TRUNC(2.7)": 2.0,
    "1e3": 1000.0,
    "GREATEST(1, NULL)": None,
    "SAFE_DIVIDE(1, 0)": None,
    "ABS(-3)": 3,
    # casts
    'SAFE_CAST("abc" AS INT64)': None,
    'SAFE_CAST("1.7" AS INT64)': None,
    'SAFE_CAST("0x1F" AS INT64)': None,
    'SAFE_CAST("1.5" AS FLOAT64)': 1.5,
    'SAFE_CAST("yes" AS BOOL)': None,
    'CAST("12" AS INT64)': 12,
    "CAST(1.5 AS INT64)": 2,
    "CAST(2.5 AS INT64)": 3,
    "CAST(-2.5 AS INT64)": -3,
    "CAST(TRUE AS INT64)": 1,
    "CAST(7 AS STRING)": "7",
    "CAST(TRUE AS STRING)": "true",
    'CAST("2020-01-01" AS DATE)': date(2020, 1, 1),
    "CAST([] AS ARRAY<INT64>)": [],
    # texts
    'CONCAT("a", NULL)': None,
    '"a" || NULL': None,
    'LENGTH("héé")': 3,
    'BYTE_LENGTH("héé")': 5,
    'SUBSTR("hello", 2, 3)': "ell",
    'SUBSTR("hello", 0, 2)': "he",
    'SUBSTR("abc", -5, 2)': "ab",
    'SUBSTR("abc", -2)': "bc",
    'STRPOS("abc", "c")': 3,
    'INSTR("abc", "b")': 2,
    'STARTS_WITH("abc", "a")': True,
    'TRIM("\\t a \\n")': "a",
    'LTRIM("xxa", "x")': "a",
    'LPAD("a", 3, "0")': "00a",
    'REPEAT("a", 3)': "aaa",
    'REPLACE("aXa", "X", "-")': "a-a",
    'NORMALIZE("e\u0301")': "\u00e9",
    'FORMAT("%d-%s-%.2f", 42, "x", 1.239)': "42-x-1.24",
    'FORMAT("%05d", 42)': "00042",
    'TO_HEX(MD5("a"))': "0cc175b9c0f1b6a831c399e269772661",
    'TO_HEX(SHA256("a"))': "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
    '"a" = "A"': False,
    r'"10%" LIKE "10\\%"': True,
    r'"10x" LIKE "10\\%"': False,
    'REGEXP_CONTAINS("Python", r"(?i)python")': True,
    r'REGEXP_CONTAINS("a\nb", r"a.b")': False,
    r'REGEXP_EXTRACT("foo-123", r"(\d+)")': "123",
    r'REGEXP_EXTRACT("foo-123", r"\d+")': "123",
    'REGEXP_EXTRACT("abc", r"x")': None,
    'REGEXP_EXTRACT("abc", r"x*")': "",
    r'REGEXP_EXTRACT_ALL("a1b22", r"\d+")': ["1", "22"],
    'REGEXP_REPLACE("<p>x</p><b>", r"<[^>]+>", "")': "x",
    r'REGEXP_REPLACE("abc", r"(b)", r"[\1]")': "a[b]c",
    # arrays and structs
    'SPLIT("a|b|c", "|")[OFFSET(0)]': "a",
    'SPLIT("a,b")[SAFE_OFFSET(5)]': None,
    "[1, 2][SAFE_OFFSET(-2)]": None,
    'SPLIT("a,b")[ORDINAL(1)]': "a",
    'SPLIT("a-b", "-")[0]': "a",
    'ARRAY_LENGTH(SPLIT("a|b", "|"))': 2,
    'ARRAY_TO_STRING(["a", NULL, "b"], ",")': "a,b",
    "GENERATE_ARRAY(1, 3)": [1, 2, 3],
    "ARRAY(SELECT x * 2 FROM UNNEST([1, 2]) x ORDER BY x)": [2, 4],
    "STRUCT(STRUCT(5 AS y) AS x).x.y": 5,
    "2 IN UNNEST([1, 2])": True,
    # dates
    'DATE_SUB(DATE "2020-03-31", INTERVAL 1 MONTH)': date(2020, 2, 29),
    'DATE_ADD(DATE "2020-01-31", INTERVAL 1 MONTH)': date(2020, 2, 29),
    'DATE_DIFF(DATE "2020-03-01", DATE "2020-02-01", DAY)': 29,
    'DATE_TRUNC(DATE "2020-03-15", MONTH)': date(2020, 3, 1),
    'TIMESTAMP_DIFF(TIMESTAMP "2020-01-02 00:30:00", TIMESTAMP "2020-01-01 23:45:00", HOUR)': 0,
    'TIMESTAMP_DIFF(TIMESTAMP "2020-01-02", TIMESTAMP "2020-01-01 12:00:00", HOUR)': 12,
    'TIMESTAMP_TRUNC(TIMESTAMP "2020-01-02 10:30:00", DAY)': moment(2020, 1, 2),
    'TIMESTAMP_SUB(TIMESTAMP "2021-01-01", INTERVAL 365 DAY)': moment(2020, 1, 2),
    'EXTRACT(DAYOFWEEK FROM DATE "2020-01-05")': 1,
    'EXTRACT(ISOWEEK FROM DATE "2020-01-05")': 1,
    'EXTRACT(YEAR FROM TIMESTAMP "2020-12-31 23:59:59")': 2020,
    'FORMAT_DATE("%Y-%m", DATE "2020-03-04")': "2020-03",
    'FORMAT_DATE("%b-%d-%Y", DATE "2020-03-04")': "Mar-04-2020",
    'FORMAT_TIMESTAMP("%F %T", TIMESTAMP "2020-03-04 05:06:07 UTC")': "2020-03-04 05:06:07",
    'PARSE_DATE("%Y%m%d", "20200102")': date(2020, 1, 2),
    'PARSE_TIMESTAMP("%Y-%m-%d %H:%M:%S", "2020-01-02 03:04:05")': moment(2020, 1, 2, 3, 4, 5),
    'UNIX_SECONDS(TIMESTAMP "1969-12-31 23:59:59")': -1,
    'DATE(TIMESTAMP "2020-01-02 23:00:00")': date(2020, 1, 2),
    'TIMESTAMP("2020-01-01 00:00:00")': moment(2020, 1, 1),
    "IFNULL(NULL, 2)": 2,
    "IF(TRUE, 1, 2)": 1,
}


@pytest.fixture(scope="module")
def values(warehouse):
    """All the expressions in one query, for the sake of time."""
    select = ", ".join(f"{expression} AS v{n}" for n, expression in enumerate(VALUES))
    (row,) = answer(warehouse, f"SELECT {select}")
    return dict(zip(VALUES, row, strict=True))


@pytest.mark.parametrize("expression", VALUES)
def test_an_expression_has_the_value_that_bigquery_gives(values, expression):
    assert values[expression] == VALUES[expression]
    assert type(values[expression]) is type(VALUES[expression])


QUERIES = {
    f"SELECT COUNT(*) FROM {T}": [(3,)],
    f"SELECT COUNT(DISTINCT score) AS n FROM {T}": [(2,)],
    f"SELECT APPROX_COUNT_DISTINCT(score) AS n FROM {T}": [(2,)],
    f"SELECT SUM(score) AS s, AVG(score) AS a FROM {T}": [(11, 11 / 3)],
    f"SELECT COUNTIF(text IS NULL) AS n, LOGICAL_OR(score > 4) AS o FROM {T}": [(1, True)],
    f"SELECT ANY_VALUE(text) AS v FROM {T}": [("Three",)],
    f'SELECT STRING_AGG(DISTINCT tag, ";" ORDER BY tag) AS s FROM {T}': [("a|b;b;c",)],
    f"SELECT STRING_AGG(text) AS s FROM {T}": [("Three,one",)],
    f"SELECT ARRAY_AGG(text IGNORE NULLS) AS v FROM {T}": [(["Three", "one"],)],
    f"SELECT ARRAY_AGG(id ORDER BY score, id LIMIT 2) AS v FROM {T}": [([3, 1],)],
    f"SELECT ARRAY_AGG(STRUCT(id, tag) ORDER BY id LIMIT 1) AS v FROM {T}": [
        ([{"id": 1, "tag": "a|b"}],)
    ],
    f"SELECT id FROM {T} WHERE TRUE QUALIFY "
    "ROW_NUMBER() OVER (PARTITION BY score ORDER BY id DESC) = 1 ORDER BY id": [(2,), (3,)],
    f"SELECT id, LAG(score) OVER (ORDER BY id) AS l FROM {T} ORDER BY id": [
        (1, None),
        (2, 5),
        (3, 5),
    ],
    f"SELECT DISTINCT PERCENTILE_CONT(score, 0.5) OVER () AS p FROM {T}": [(5.0,)],
    f'SELECT one, COUNT(*) AS c FROM {T}, UNNEST(SPLIT(tag, "|")) AS one GROUP BY 1 ORDER BY 2 '
    "DESC, 1 LIMIT 1": [("b", 2)],
    'SELECT x, o FROM UNNEST(["a", "b"]) AS x WITH OFFSET AS o ORDER BY o': [("a", 0), ("b", 1)],
    "SELECT a, b FROM UNNEST([STRUCT(1 AS a, 'x' AS b), STRUCT(2, 'y')]) ORDER BY a": [
        (1, "x"),
        (2, "y"),
    ],
    "SELECT t.id, u FROM (SELECT 1 AS id, CAST([] AS ARRAY<INT64>) arr) t "
    "LEFT JOIN UNNEST(t.arr) u": [(1, None)],
    "SELECT x FROM UNNEST([3, NULL, 1]) x ORDER BY x": [(None,), (1,), (3,)],
    "SELECT x FROM UNNEST([3, NULL, 1]) x ORDER BY x DESC": [(3,), (1,), (None,)],
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) "
    "SELECT SUM(n) AS s FROM t": [(15,)],
    f"SELECT id FROM {T} WHERE at >= '2020-06-01' ORDER BY id": [(2,), (3,)],
    f"SELECT COUNT(*) FROM {T} WHERE at BETWEEN '2020-01-01' AND '2020-12-31'": [(2,)],
    f"SELECT * EXCEPT (text, at) FROM {T} WHERE id = 2": [(2, "b", 5)],
    f"SELECT * REPLACE (UPPER(tag) AS tag) FROM {T} WHERE id = 3": [
        (3, "C", 1, "Three", moment(2021, 1, 1, 23, 59, 59))
    ],
    f"SELECT score AS s, COUNT(*) AS c FROM {T} GROUP BY s HAVING c > 1": [(5, 2)],
    f"SELECT score, COUNT(*) AS n FROM {T} GROUP BY ALL ORDER BY score": [(1, 1), (5, 2)],
    f"FROM {T} |> WHERE score > 4 |> AGGREGATE COUNT(*) AS n": [(2,)],
    f"SELECT DISTINCT q.score FROM {T} q ORDER BY q.score": [(1,), (5,)],
    "SELECT 1 AS a UNION ALL SELECT 2 ORDER BY a DESC LIMIT 1": [(2,)],
    f"SELECT -score AS id FROM {T} ORDER BY id LIMIT 1": [(-5,)],
    f"SELECT COUNT(*) AS n FROM (SELECT * FROM {T} LIMIT 2)": [(2,)],
    "SELECT table_name FROM `shop.support.INFORMATION_SCHEMA.TABLES`": [("t",)],
    "SELECT data_type FROM `shop`.support.INFORMATION_SCHEMA.COLUMNS "
    'WHERE column_name IN ("id", "at") ORDER BY ordinal_position': [("INT64",), ("TIMESTAMP",)],
    f"SELECT t.id FROM {T} ORDER BY score DESC, t.id DESC LIMIT 2": [(2,), (1,)],
}


@pytest.mark.parametrize("sql", QUERIES)
def test_a_query_has_the_rows_that_bigquery_gives(warehouse, sql):
    assert answer(warehouse, sql) == QUERIES[sql]


REFUSED = {
    f"SELECT FARM_FINGERPRINT(tag) AS f FROM {T}": "FARM_FINGERPRINT",
    f"SELECT id FROM {T} TABLESAMPLE SYSTEM (10 PERCENT)": "TABLESAMPLE",
    f"SELECT id FROM {T} FOR SYSTEM_TIME AS OF TIMESTAMP '2020-01-01'": "FOR SYSTEM_TIME",
    f"SELECT id FROM {T} ORDER BY RAND() LIMIT 2": "RAND",
    "SELECT GENERATE_UUID() AS u": "GENERATE_UUID",
    "SELECT CURRENT_DATE() AS d": "CURRENT_DATE",
    "SELECT CURRENT_TIMESTAMP() AS t": "CURRENT_TIMESTAMP",
    f"SELECT APPROX_QUANTILES(score, 4) AS q FROM {T}": "APPROX_QUANTILES",
    f"SELECT APPROX_TOP_COUNT(tag, 2) AS q FROM {T}": "APPROX_TOP_COUNT",
    f"SELECT MAX_BY(tag, score) AS q FROM {T}": "MAX_BY",
    "SELECT MD5('a') AS m": "MD5",
    "SELECT b'abc' AS b": "BYTES",
    "SELECT TO_BASE64(CAST('a' AS BYTES)) AS b": "BYTES",
    "SELECT CAST('1.23456789' AS NUMERIC) AS n": "NUMERIC",
    "SELECT BIGNUMERIC '1.5' AS n": "BIGNUMERIC",
    "SELECT CONTAINS_SUBSTR('Hello', 'hell') AS c": "CONTAINS_SUBSTR",
    "SELECT INITCAP('ab') AS c": "INITCAP",
    "SELECT SOUNDEX('ab') AS c": "SOUNDEX",
    "SELECT REVERSE('ab') AS c": "REVERSE",
    "SELECT EDIT_DISTANCE('abc', 'abd') AS e": "EDIT_DISTANCE",
    "SELECT SAFE.PARSE_DATE('%Y', 'abc') AS s": "SAFE.",
    "SELECT JSON_VALUE('{}', '$.a') AS v": "JSON_VALUE",
    "SELECT JSON_QUERY('{}', '$.a') AS v": "JSON_",
    "SELECT JSON_VALUE_ARRAY('{}', '$.a') AS v": "JSON_VALUE_ARRAY",
    "SELECT TO_JSON_STRING(STRUCT(1 AS a)) AS v": "TO_JSON_STRING",
    f"SELECT * FROM (SELECT tag, score FROM {T}) PIVOT(SUM(score) FOR tag IN ('b'))": "PIVOT",
    "SELECT * FROM (SELECT 1 AS a, 2 AS b) UNPIVOT(v FOR k IN (a, b))": "UNPIVOT",
    f"SELECT id FROM {T} WHERE id = @id": "parameter",
    "CREATE TEMP FUNCTION f(x INT64) AS (x * 2); SELECT f(3)": "2 statements",
    "DECLARE n INT64 DEFAULT 5; SELECT n": "2 statements",
    "CREATE OR REPLACE TABLE `shop.support.u` AS SELECT 1 AS a": "CREATE",
    "EXPORT DATA OPTIONS(uri='gs://b/x*.json') AS SELECT 1 AS a": "EXPORT",
    "SELECT COUNT(*) FROM `shop.support.*`": "wildcard",
    "SELECT DATE_DIFF(DATE '2020-01-06', DATE '2020-01-04', WEEK) AS w": "WEEK",
    "SELECT EXTRACT(WEEK FROM DATE '2020-01-06') AS w": "EXTRACT(WEEK)",
    "SELECT FORMAT('%T', 1) AS f": "FORMAT",
    "SELECT FORMAT_DATE('%Q', DATE '2020-01-01') AS f": "%Q",
    "SELECT SELECT_AS.a FROM (SELECT AS STRUCT 1 AS a) SELECT_AS": "SELECT AS STRUCT",
    "SELECT 1 AS a, 2 AS A": "two columns named 'A'",
    f"SELECT DISTINCT tag FROM {T} ORDER BY score": "ORDER BY score",
    "SELECT IEEE_DIVIDE(1, 0) AS x": "IEEE_DIVIDE",
    "SELECT table_name FROM `shop.support.INFORMATION_SCHEMA.VIEWS`": "INFORMATION_SCHEMA.VIEWS",
}


@pytest.mark.parametrize("sql", REFUSED)
def test_a_construct_that_would_differ_is_refused_by_name(warehouse, sql):
    with pytest.raises(ConfigError) as caught:
        warehouse.check(sql)
    assert REFUSED[sql] in caught.value.problem


FAILS = {
    "SELECT 1 / 0 AS x": "division by zero",
    "SELECT MOD(5, 0) AS x": "Division by zero",
    "SELECT [1, 2][OFFSET(5)] AS x": "array index 5 is out of bounds",
    "SELECT CAST('1.7' AS INT64) AS x": "Bad int64 value: 1.7",
    "SELECT CAST('yes' AS BOOL) AS x": "Bad bool value: yes",
    "SELECT 9223372036854775807 + 1 AS x": "Overflow",
    "SELECT CAST(1.5 AS STRING) AS x": "CAST of a FLOAT64",
    "SELECT SUBSTR('abc', 1, -1) AS x": "negative length",
}


@pytest.mark.parametrize("sql", FAILS)
def test_a_value_that_bigquery_cannot_give_is_an_error_here_too(warehouse, sql):
    with pytest.raises(ConfigError) as caught:
        answer(warehouse, sql)
    assert FAILS[sql] in caught.value.problem


def test_unnamed_columns_are_named_as_bigquery_names_them(warehouse):
    check = warehouse.check(f"SELECT COUNT(*), score, MAX(id) FROM {T} GROUP BY score")
    assert [column.name for column in check.columns] == ["f0_", "score", "f1_"]


def test_types_have_bigquerys_names(warehouse):
    check = warehouse.check("SELECT 1 AS i, 1.5 AS f, [STRUCT('x' AS s)] AS a, TRUE AS b")
    assert [column.type for column in check.columns] == [
        "INT64",
        "FLOAT64",
        "ARRAY<STRUCT<s STRING>>",
        "BOOL",
    ]


def test_the_docs_name_every_construct_that_is_refused():
    from pathlib import Path

    from llmops.adapters.warehouse.constructs import REFUSED as TABLE

    page = (Path(__file__).parents[3] / "docs" / "warehouse.md").read_text("utf-8")
    assert [f"| {w} | {why} |" for w, why in TABLE.values() if f"| {w} | {why} |" not in page] == []
