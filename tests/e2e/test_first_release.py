"""What release 0.1.0 left in a workspace is read by this one: records, a sweep, a lock, a store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llmops import api, cli

GOLDEN = Path(__file__).parents[1] / "golden" / "first_release"
RUNS = 6


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    shutil.copytree(GOLDEN / "runs", tmp_path / "runs")
    shutil.copytree(GOLDEN / "store", tmp_path / ".llmops" / "store")
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(capsys, *words):
    assert cli.main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_its_records_are_whole(workspace):
    files = list(GOLDEN.glob("runs/*/*/run.json"))
    assert len(files) == RUNS
    assert {json.loads(file.read_text())["llmops"] for file in files} == {"0.1.0"}


def test_its_runs_are_listed_shown_and_queried(workspace, capsys):
    rows = asked(capsys, "runs", "list")
    assert sorted(row["status"] for row in rows) == ["failed"] + ["succeeded"] * 5
    for row in rows:
        assert asked(capsys, "runs", "show", row["run_id"])["run_id"] == row["run_id"]
    found = asked(capsys, "runs", "query", "SELECT count(*) AS n FROM steps")
    assert found[0]["n"] == 2 * RUNS


def test_its_runs_are_compared_and_its_lineage_is_walked(workspace, capsys):
    first, second = sorted(path.name for path in (workspace / "runs" / "words").iterdir())[:2]
    made = asked(capsys, "runs", "compare", first, second)
    assert [leaf["path"] for leaf in made["leaves"]] == ["version"]
    graph = asked(capsys, "lineage", first)
    assert {"packages", "config", "file"} <= {node["kind"] for node in graph["nodes"]}


def test_its_sweep_is_listed_with_its_members_and_resuming_says_what_to_do(workspace, capsys):
    (listed,) = asked(capsys, "sweeps", "list")
    shown = asked(capsys, "sweeps", "show", listed["id"])
    assert [member["status"] for member in shown["members"]] == ["succeeded", "succeeded"]
    assert cli.main(["sweeps", "resume", listed["id"]]) == 2
    assert "run -m +experiment=words" in capsys.readouterr().err


def test_the_site_shows_them(workspace):
    made = api.site(workspace / "site")
    assert made.runs == RUNS
    index = (workspace / "site" / "index.html").read_text()
    assert index.count("words") > 4


def test_gc_keeps_what_its_runs_and_its_lock_name(workspace):
    before = sorted(path.name for path in workspace.glob(".llmops/store/objects/??/*"))
    said = api.gc(keep=1, grace_hours=0, dry_run=True)
    done = api.gc(keep=1, grace_hours=0)
    assert done.garbage == said.garbage
    (lock,) = workspace.glob("runs/*.lock.yaml")
    accepted = next(line for line in lock.read_text().splitlines() if "run_id" in line)
    kept = [path.name for path in (workspace / "runs" / "words").iterdir()]
    assert any(name in accepted for name in kept)
    assert 0 < len(list(workspace.glob(".llmops/store/objects/??/*"))) < len(before)
