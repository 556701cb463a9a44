"""The sample: plausible rows, the same for one Python version, whole or absent."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmops.adapters.warehouse import docstrings, posts
from llmops.adapters.warehouse.duckdb import open_warehouse
from llmops.adapters.warehouse.shelf import Shelf
from llmops.config.project import packaged_conf

SQL = packaged_conf() / "sql"
FILL = """
import sys
from pathlib import Path
from llmops.adapters.warehouse import sample
from llmops.adapters.warehouse.shelf import Shelf
sample.fill(Shelf(Path(sys.argv[1])), "300MB")
"""


def rows(warehouse, sql):
    return [row for b in warehouse.query(sql).batches() for row in b.to_pylist()]


def filling(folder):
    return subprocess.Popen([sys.executable, "-c", FILL, str(folder)])


def test_both_tables_have_the_twenty_columns_of_stack_overflow(sample):
    tables = {table.name: table for table in sample.tables()}
    assert set(tables) == {posts.QUESTIONS, posts.ANSWERS}
    assert {table.columns for table in tables.values()} == {posts.COLUMNS}
    assert len(posts.COLUMNS) == 20


def test_the_origin_is_named(sample):
    assert {table.source.split(" Python ")[0] for table in sample.tables()} == {"docstrings of the"}


def test_the_courses_query_finds_at_least_three_thousand_rows(sample):
    result = sample.query((SQL / "so_python.sql").read_text("utf-8"))
    assert {name for b in result.batches() for name in b.schema.names} == {
        "input_text",
        "output_text",
    }
    assert result.statistics().rows >= 3000


def test_the_attributed_query_finds_the_same_pairs(sample):
    plain = rows(sample, (SQL / "so_python.sql").read_text("utf-8"))
    attributed = rows(sample, (SQL / "so_python_attributed.sql").read_text("utf-8"))
    pairs = [
        {(row["input_text"], row["output_text"]) for row in each} for each in (plain, attributed)
    ]
    assert pairs[0] == pairs[1]


def test_a_licence_written_by_the_query_is_called_untrue_of_the_sample(sample):
    notes = sample.check((SQL / "so_python_attributed.sql").read_text("utf-8")).notes
    assert any("is not the rows'" in note for note in notes)


def test_every_question_has_its_accepted_answer(sample):
    (row,) = rows(
        sample,
        f"SELECT COUNT(*) AS n, COUNTIF(a.parent_id = q.id) AS k FROM `{posts.QUESTIONS}` q "
        f"LEFT JOIN `{posts.ANSWERS}` a ON q.accepted_answer_id = a.id",
    )
    assert row["n"] == row["k"] > 3000


def test_two_processes_with_other_hash_seeds_write_the_same_bytes(tmp_path):
    digests = set()
    for seed in "12":
        folder = tmp_path / seed
        folder.mkdir()
        command = [sys.executable, "-I", str(Path(docstrings.__file__)), str(folder)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        digests.add(hashlib.sha256((folder / "answers.jsonl").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_no_text_holds_an_address_of_this_process(sample):
    (row,) = rows(
        sample,
        f"SELECT COUNTIF(REGEXP_CONTAINS(body, r'at 0x[0-9a-f]')) AS n FROM `{posts.QUESTIONS}`",
    )
    assert row["n"] == 0


def test_two_processes_that_fill_at_once_make_one_sample(tmp_path):
    fillers = [filling(tmp_path / "w") for _ in range(2)]
    assert [filler.wait(60) for filler in fillers] == [0, 0]
    assert len(Shelf(tmp_path / "w").tables()) == 2
    assert len(list((tmp_path / "w" / "data").iterdir())) == 2


@pytest.mark.parametrize("delay_s", [0.3, 0.8])
def test_a_filler_that_is_killed_leaves_nothing_or_everything(tmp_path, delay_s):
    filler = filling(tmp_path / "w")
    time.sleep(delay_s)
    filler.send_signal(signal.SIGKILL)
    filler.wait(10)
    assert len(Shelf(tmp_path / "w").tables()) in (0, 2)
    assert filling(tmp_path / "w").wait(60) == 0
    assert len(list((tmp_path / "w" / "data").glob("*"))) == 2


def test_a_repeated_check_needs_neither_duckdb_nor_sqlglot(sample):
    sql = (SQL / "so_python.sql").read_text("utf-8")
    sample.check(sql)
    code = (
        "import sys; from pathlib import Path\n"
        "from llmops.adapters.warehouse.duckdb import open_warehouse\n"
        "config = {'name': 'sample', 'sample': True, 'memory_limit': '300MB', 'source': {}}\n"
        "open_warehouse(config, Path(sys.argv[1])).check(sys.argv[2])\n"
        "sys.exit('duckdb' in sys.modules or 'sqlglot' in sys.modules)"
    )
    workspace = str(sample.folder.parent.parent.parent)
    assert subprocess.run([sys.executable, "-c", code, workspace, sql], check=False).returncode == 0


def test_a_damaged_remembered_check_is_made_again(sample):
    before = sample.check("SELECT 1 AS a")
    for path in Shelf(sample.folder).checks.glob("*.json"):
        path.write_text("{", "utf-8")
    assert sample.check("SELECT 1 AS a") == before


def test_the_sample_of_another_workspace_has_the_same_versions(sample, tmp_path):
    config = {"name": "sample", "sample": True, "memory_limit": "300MB", "source": {}}
    other = open_warehouse(config, tmp_path)
    assert [t.version for t in other.tables()] == [t.version for t in sample.tables()]
