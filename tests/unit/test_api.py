from __future__ import annotations

import subprocess
import sys

import pytest

from llmops import api
from llmops.errors import ConfigError, ConfigProblems


def test_importing_the_package_offers_the_interface_and_costs_no_hydra():
    program = (
        "import sys, llmops; cheap = 'hydra' not in sys.modules; "
        "print(cheap, callable(llmops.api.run))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"], done.stderr


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    return tmp_path


def test_a_run_gives_its_folder_and_its_record(workspace):
    events = []
    run = api.run(["+experiment=hello"], on_event=events.append)
    assert run.exit_code == 0, run.record["error"]
    assert run.folder.parent == workspace / "runs" / "hello"
    assert [step["status"] for step in run.record["steps"]] == ["done", "done"]
    ended = [event["step"] for event in events if event["event"] == "end"]
    assert ended == ["say_hello", "how_are_you"]


def test_the_plan_is_told_before_anything_runs(workspace):
    told = []
    api.run(["+experiment=hello"], on_plan=lambda plan: told.append([s.status for s in plan.steps]))
    assert told == [["run", "waits"]]


def test_runs_are_listed_newest_first_and_found_by_the_beginning_of_their_id(workspace):
    made = [api.run(["+experiment=hello"]) for _ in range(2)]
    newest = sorted((run.record["run_id"] for run in made), reverse=True)
    assert [run.record["run_id"] for run in api.runs("hello")] == newest
    assert api.show(newest[0]).record["run_id"] == newest[0]


def test_an_unknown_run_is_a_config_error(workspace):
    with pytest.raises(ConfigError, match="there is no run"):
        api.show("20260101")


def test_a_compiled_pipeline_is_the_same_every_time(workspace):
    targets = [workspace / name for name in ("a.yaml", "b.yaml")]
    for target in targets:
        api.compile_pipeline(["+experiment=so_python"], target)
    assert targets[0].read_bytes() == targets[1].read_bytes()
    assert b"config_uri" in targets[0].read_bytes()


def test_a_wrong_config_makes_no_run_folder(workspace):
    with pytest.raises(ConfigProblems):
        api.run(["+experiment=hello", "version=-"])
    assert not (workspace / "runs").exists()


def test_an_accepted_run_becomes_the_lock(workspace):
    run = api.run(["+experiment=hello"])
    assert run.exit_code == 0, run.record["error"]
    lock = api.accept(run.record["run_id"])
    assert lock == workspace / "runs" / "hello.lock.yaml"
    assert run.record["config_digest"] in lock.read_text()
