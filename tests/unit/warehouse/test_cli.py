"""``llmops warehouse``: what is printed, and what is refused."""

from __future__ import annotations

import json

import pytest

from llmops.cli.warehouse import main
from llmops.errors import ConfigError


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    (tmp_path / "t.csv").write_text("id,name\n1,ann\n2,bob\n", "utf-8")
    assert main(["load", "p.d.t", str(tmp_path / "t.csv"), "warehouse=duckdb"]) == 0
    return tmp_path


def printed(capsys, *argv):
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_tables_lists_what_was_loaded(workspace, capsys):
    (table,) = printed(capsys, "tables", "warehouse=duckdb")
    assert (table["name"], table["rows"]) == ("p.d.t", 2)


def test_preview_shows_some_rows(workspace, capsys):
    assert len(printed(capsys, "preview", "p.d.t", "warehouse=duckdb", "--limit", "1")) == 1


def test_query_keeps_the_order_of_the_query(workspace, capsys):
    sql = "SELECT name FROM `p.d.t` ORDER BY id DESC"
    rows = printed(capsys, "query", sql, "warehouse=duckdb", "--limit", "1")
    assert rows == [{"name": "bob"}]


def test_query_reads_a_file(workspace, capsys):
    (workspace / "q.sql").write_text("SELECT COUNT(*) AS n FROM `p.d.t`", "utf-8")
    assert printed(capsys, "query", str(workspace / "q.sql"), "warehouse=duckdb") == [{"n": 2}]


def test_a_table_for_people_names_its_columns(workspace, capsys):
    assert main(["query", "SELECT name, id FROM `p.d.t` ORDER BY id", "warehouse=duckdb"]) == 0
    shown = capsys.readouterr().out
    assert "name" in shown
    assert "ann" in shown


def test_the_sample_takes_no_other_tables(workspace):
    with pytest.raises(ConfigError, match="built-in sample"):
        main(["load", "p.d.u", str(workspace / "t.csv")])


def test_a_misspelt_warehouse_is_a_usage_error(workspace):
    with pytest.raises(ConfigError):
        main(["tables", "warehouse=duckdbb"])
