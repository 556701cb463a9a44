"""Loading files: every type arrives, a bad file is one clear error and never half a table."""

from __future__ import annotations

import json
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet

from llmops.errors import ConfigError, DataError

NAME = "p.d.t"


def loaded(own, path, **options):
    table = own.load(NAME, path, **options)
    rows = [r for b in own.query(f"SELECT * FROM `{NAME}`").batches() for r in b.to_pylist()]
    return {c.name: c.type for c in table.columns}, rows


def file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_csv_arrives_with_quotes_line_breaks_and_nulls(own, tmp_path):
    path = file(tmp_path, "t.csv", 'id,body\n1,"two\nlines, ""quoted"""\n2,\n')
    types, rows = loaded(own, path)
    assert types == {"id": "INT64", "body": "STRING"}
    assert sorted(rows, key=lambda row: row["id"]) == [
        {"id": 1, "body": 'two\nlines, "quoted"'},
        {"id": 2, "body": None},
    ]


def test_a_csv_with_semicolons_is_understood(own, tmp_path):
    assert loaded(own, file(tmp_path, "t.csv", "a;b\n1;x\n"))[1] == [{"a": 1, "b": "x"}]


def test_numbers_with_leading_zeros_stay_texts(own, tmp_path):
    assert loaded(own, file(tmp_path, "t.csv", "a\n007\n"))[1] == [{"a": "007"}]


def test_a_file_name_with_glob_characters_is_one_file(own, tmp_path):
    file(tmp_path, "qa1.csv", "a\n2\n")
    assert loaded(own, file(tmp_path, "q*[1].csv", "a\n1\n"))[1] == [{"a": 1}]


def test_json_lines_arrive_with_nested_values(own, tmp_path):
    path = file(tmp_path, "t.jsonl", '{"a":"x\\u0000y","b":[1],"c":{"d":"e"}}\n')
    types, rows = loaded(own, path)
    assert types == {"a": "STRING", "b": "ARRAY<INT64>", "c": "STRUCT<d STRING>"}
    assert rows == [{"a": "x\x00y", "b": [1], "c": {"d": "e"}}]


def test_a_cell_of_ten_megabytes_arrives(own, tmp_path):
    text = "x" * 10_000_000
    _, rows = loaded(own, file(tmp_path, "t.jsonl", json.dumps({"a": text})))
    assert rows[0]["a"] == text


def test_parquet_types_become_bigquerys(own, tmp_path):
    columns = {
        "u": pa.array([1], pa.uint64()),
        "t": pa.array([0], pa.timestamp("us")),
        "n": pa.array([Decimal("1.50")], pa.decimal128(5, 2)),
        "b": pa.array([b"\xff"]),
    }
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    types, _ = loaded(own, tmp_path / "t.parquet")
    assert types == {"u": "INT64", "t": "TIMESTAMP", "n": "NUMERIC", "b": "BYTES"}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("t.csv", "a,b\n1,2\n3\n", "have not all the 2 fields"),
        ("t.csv", "a,b\n" + "1,2\n" * 50 + "3,4,5\n", "have not all the 2 fields"),
        ("t.csv", "a,A\n1,2\n", "the column 'A' twice"),
        ("t.csv", "a,\n1,2\n", "a column without a name"),
        ("t.csv", "", "is empty"),
        ("t.csv", b"a,b\n1,caf\xe9\n", "not utf-8"),
        ("t.csv", "a\n9223372036854775808\n1\n", "9223372036854775808"),
        ("t.csv", 'a,b\n1,"open\n', "have not all the 2 fields"),
        ("t.jsonl", '{"a":9223372036854775808}\n', "out of range"),
        ("t.jsonl", '{"a":"x\\ud800"}\n', "surrogate"),
        ("t.jsonl", '{"a":1}\n{"a":\n', "Malformed JSON"),
        ("t.jsonl", '{"a":1,"a":2}\n', "duplicate key"),
        ("t.jsonl", "[1, 2]\n", "records"),
        ("t.jsonl", "", "is empty"),
        ("t.parquet", "nope", "cannot be loaded"),
    ],
)
def test_a_bad_file_is_refused_and_the_table_before_it_stays(own, tmp_path, name, content, problem):
    before = own.load(NAME, file(tmp_path, "good.csv", "a\n1\n"))
    with pytest.raises(DataError) as caught:
        own.load(NAME, file(tmp_path, name, content), replace_table=True)
    assert problem in caught.value.problem
    assert caught.value.hint
    assert list(own.tables()) == [before]
    assert len(list((own.folder / "data").iterdir())) == 1


def test_parquet_with_a_column_twice_is_refused(own, tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="twice"):
        own.load(NAME, tmp_path / "t.parquet")


def test_a_table_is_replaced_only_when_asked(own, tmp_path):
    path = file(tmp_path, "t.csv", "a\n1\n")
    own.load(NAME, path)
    with pytest.raises(ConfigError, match="exists"):
        own.load(NAME, path)
    assert own.load(NAME, path, replace_table=True).rows == 1


def test_the_order_of_rows_in_the_file_does_not_change_the_version(own, tmp_path):
    first = own.load("p.d.one", file(tmp_path, "one.csv", "a,b\n1,x\n2,y\n"))
    second = own.load("p.d.two", file(tmp_path, "two.csv", "a,b\n2,y\n1,x\n"))
    assert first.version == second.version


def test_another_row_changes_the_version(own, tmp_path):
    first = own.load("p.d.one", file(tmp_path, "one.csv", "a\n1\n"))
    second = own.load("p.d.two", file(tmp_path, "two.csv", "a\n1\n1\n"))
    assert first.version != second.version


@pytest.mark.parametrize("name", ["t", "d.t", "a.b.c.d", "a..c", "p.d.t'--", "p.d./etc"])
def test_a_table_has_a_name_of_three_plain_parts(own, tmp_path, name):
    with pytest.raises(ConfigError, match="does not name a table"):
        own.load(name, file(tmp_path, "t.csv", "a\n1\n"))


@pytest.mark.parametrize("name", ["missing.csv", "t.xlsx"])
def test_a_missing_or_foreign_file_is_a_usage_error(own, tmp_path, name):
    if name == "t.xlsx":
        file(tmp_path, name, "x")
    with pytest.raises(ConfigError):
        own.load(NAME, tmp_path / name)
