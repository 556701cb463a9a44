"""Runs as rows: filters, SQL, tags, and records that cannot be read."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from llmops.errors import ConfigError
from llmops.lineage.catalogue import Wanted, chosen, query, run_rows, tag
from llmops.lineage.run_folder import RunFolder
from llmops.processes import this_process
from tests.fakes.many_runs import record, write_run, write_runs


@pytest.fixture
def workspace(tmp_path):
    write_runs(tmp_path, 8)
    return tmp_path


def ids(rows):
    return [row.run_id[-4:] for row in rows]


def test_runs_come_newest_first(workspace):
    assert ids(run_rows(workspace)) == [f"{number:04x}" for number in range(7, -1, -1)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"experiment": "so_small"}, ["0004", "0000"]),
        ({"status": "failed"}, []),
        ({"since": "2026-11-10T00:00:06"}, ["0007", "0006"]),
        ({"until": "2026-11-10T00:00:02"}, ["0001", "0000"]),
        ({"commit": "0" * 39 + "3"}, ["0007", "0003"]),
        ({"figure": "tuned.loss<2.65"}, ["0001", "0000"]),
        ({"figure": "tuned.loss>=3.1", "experiment": "so_python"}, ["0007", "0006"]),
    ],
)
def test_a_filter_keeps_what_is_wanted(workspace, wanted, found):
    assert ids(chosen(run_rows(workspace), Wanted(**wanted))) == found


@pytest.mark.parametrize("wanted", [{"figure": "loss<2"}, {"since": "yesterday"}])
def test_a_filter_that_cannot_be_read_is_refused(workspace, wanted):
    with pytest.raises(ConfigError):
        chosen(run_rows(workspace), Wanted(**wanted))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"run_id": "x"}', '{"run_id": 1e999}'])
def test_a_corrupt_record_is_one_row_and_breaks_nothing(workspace, text):
    folder = workspace / "runs" / "so_python" / "20261124-000000-dead"
    folder.mkdir()
    (folder / "run.json").write_text(text)
    rows = run_rows(workspace)
    assert len(rows) == 9
    assert (rows[0].run_id, rows[0].status) == ("20261124-000000-dead", "corrupt")
    assert rows[0].why


def test_a_changed_record_is_read_again_and_an_unchanged_one_is_not(workspace, monkeypatch):
    rows = run_rows(workspace)
    read = []
    monkeypatch.setattr(RunFolder, "record", lambda self: read.append(self) or record(1))
    assert run_rows(workspace) == rows
    assert read == []
    (workspace / "runs" / "so_python" / rows[0].run_id / "run.json").write_text("{}")
    run_rows(workspace)
    assert len(read) == 1


def test_a_removed_run_leaves_the_list(workspace):
    gone = workspace / "runs" / "so_python" / run_rows(workspace)[0].run_id
    (gone / "run.json").unlink()
    assert len(run_rows(workspace)) == 7


def test_a_run_whose_process_was_killed_has_died(workspace):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    process = {**this_process(), "pid": child.pid}
    write_run(workspace, record(100, status="running", process=process))
    write_run(workspace, record(101, status="running", process=this_process()))
    assert [row.status for row in run_rows(workspace)[:2]] == ["running", "died"]


def test_tags_come_and_go_and_can_be_asked_for(workspace):
    run = RunFolder(workspace / "runs" / "so_python" / run_rows(workspace)[0].run_id)
    assert tag(run, ["paper", "keep"], []) == ("keep", "paper")
    assert tag(run, [], ["keep"]) == ("paper",)
    assert ids(chosen(run_rows(workspace), Wanted(tag="paper"))) == ["0007"]
    with pytest.raises(ConfigError, match="cannot be a tag"):
        tag(run, ["../up"], [])


def test_sql_sees_runs_figures_and_steps(workspace):
    sql = (
        "SELECT r.experiment, count(*) AS n, min(f.value) AS best FROM runs r "
        "JOIN figures f USING (run_id) WHERE f.metric = 'loss' GROUP BY 1 ORDER BY 1"
    )
    answer = query(run_rows(workspace), sql)
    assert answer.columns == ("experiment", "n", "best")
    assert answer.rows == (("so_python", 6, 2.6), ("so_small", 2, 2.5))
    assert query(run_rows(workspace), "SELECT count(*) FROM steps").rows == ((56,),)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM nothing",
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY runs TO '/tmp/past-leak.csv'",
        "SET enable_external_access=true",
        "not sql",
    ],
)
def test_sql_reads_and_writes_nothing_else(workspace, sql):
    with pytest.raises(ConfigError, match="the query fails"):
        query(run_rows(workspace), sql)


def test_a_record_of_the_previous_release_is_a_row(workspace):
    old = record(200)
    for later in ("process", "scored_on", "estimates"):
        old.pop(later, None)
    write_run(workspace, old)
    assert run_rows(workspace)[0].status == "succeeded"


def test_a_workspace_copied_elsewhere_lists_its_runs(workspace, tmp_path_factory):
    import shutil

    run_rows(workspace)
    copy = tmp_path_factory.mktemp("copy") / "workspace"
    shutil.copytree(workspace, copy)
    rows = run_rows(copy)
    assert len(rows) == 8
    assert all(row.folder.startswith(str(copy)) for row in rows)


def test_a_torn_list_of_rows_is_made_anew(workspace):
    rows = run_rows(workspace)
    (workspace / ".llmops" / "runs.json").write_text(json.dumps({"revision": 1, "runs": 3}))
    assert run_rows(workspace) == rows
