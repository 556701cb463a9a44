"""The local engine from outside: processes, signals, failures, odd places."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.fakes.toy_project import ToyProject, end_group, gone

ODD_NAMES = ["plain", "python3 und Grüße {{$}} 東京"]


@pytest.fixture
def project(tmp_path):
    return ToyProject(tmp_path / "project")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_chain_of_steps_runs_in_a_workspace_of_any_name(tmp_path, name):
    project = ToyProject(tmp_path / name)
    project.chain("words", "say", "pass_on", "pass_on")
    done = project.llmops("run", "+experiment=words", "--json")
    assert done.returncode == 0, done.stderr
    record = project.record(done)
    assert [step["status"] for step in record["steps"]] == ["done"] * 3
    output = record["steps"][-1]["outputs"]["out"]
    assert json.loads((project.root / output["uri"]).read_text()) == {
        "text": "say0pass_on1pass_on2"
    }


def test_an_unchanged_rerun_starts_no_engine(project):
    project.chain("words", "say", "pass_on")
    project.llmops("run", "+experiment=words")
    record = project.record(project.llmops("run", "+experiment=words", "--json"))
    assert [step["status"] for step in record["steps"]] == ["cached", "cached"]
    assert not record["engine"]["started"]
    assert project.did() == ["s0 said", "s1 passed"]


def test_a_change_reruns_from_the_step_that_reads_it(project):
    project.chain("words", "say", "pass_on", "pass_on")
    project.llmops("run", "+experiment=words")
    done = project.llmops("run", "+experiment=words", "pipeline.steps.s1.with.text=new", "--json")
    record = project.record(done)
    assert [step["status"] for step in record["steps"]] == ["cached", "done", "done"]
    assert record["steps"][1]["reason"] == "with.text pass_on1 -> new"


def test_force_runs_a_cached_step_again_and_finds_the_rest_unchanged(project):
    project.chain("words", "say", "pass_on", "pass_on")
    project.llmops("run", "+experiment=words")
    done = project.llmops("run", "+experiment=words", "--force", "s1", "--json")
    statuses = [step["status"] for step in project.record(done)["steps"]]
    assert statuses == ["cached", "done", "cached"]
    assert project.did().count("s1 passed") == 2
    assert project.did().count("s2 passed") == 1


def test_from_runs_the_step_and_its_dependants_again(project):
    project.chain("words", "say", "pass_on", "pass_on")
    project.llmops("run", "+experiment=words")
    project.llmops("run", "+experiment=words", "--from", "s1")
    assert project.did()[3:] == ["s1 passed", "s2 passed"]


def test_only_runs_one_step(project):
    project.chain("words", "say", "pass_on", "pass_on")
    project.llmops("run", "+experiment=words")
    new = "pipeline.steps.s1.with.text=new"
    record = project.record(
        project.llmops("run", "+experiment=words", new, "--only", "s1", "--json")
    )
    assert [step["status"] for step in record["steps"]] == ["cached", "done", "skipped"]


@pytest.mark.parametrize(
    ("use", "exit_code", "said"),
    [
        ("refuse", 4, ["step s1: no row is good", "look at the rows"]),
        ("crash", 1, ["ZeroDivisionError: a bug", "logs/s1.log"]),
        ("die", 5, ["step s1: its process was killed"]),
    ],
)
def test_a_failing_step_ends_the_run_with_its_cause_on_the_screen(project, use, exit_code, said):
    project.chain("words", "say", use, "pass_on")
    done = project.llmops("run", "+experiment=words")
    assert done.returncode == exit_code
    assert [text for text in said if text not in done.stdout + done.stderr] == []
    record = json.loads(next(project.root.glob("runs/words/*/run.json")).read_text())
    assert [step["status"] for step in record["steps"]] == ["done", "failed", "not_reached"]
    assert record["status"] == "failed"


def test_a_failed_run_goes_on_from_where_it_failed(project):
    project.chain("words", "say", "refuse")
    project.llmops("run", "+experiment=words")
    done = project.llmops("run", "+experiment=words", "pipeline.steps.s1.use=pass_on", "--json")
    assert [step["status"] for step in project.record(done)["steps"]] == ["cached", "done"]
    assert project.did() == ["s0 said", "s1 passed"]


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_stopped_run_leaves_no_process_and_no_torn_file(project, number, exit_code):
    project.chain("words", "say", "slow")
    run = project.start("run", "+experiment=words")
    try:
        step = project.wait_until_did("s1 began")
        os.kill(run.pid, number)
        _, told = run.communicate(timeout=20)
    finally:
        end_group(run)
    assert run.returncode == exit_code, told
    assert gone(step)
    assert "interrupted" in told
    record = json.loads(next(project.root.glob("runs/words/*/run.json")).read_text())
    assert record["status"] == "interrupted"
    assert objects_are_whole(project)


def test_a_killed_run_leaves_no_process_and_the_same_command_goes_on(project):
    project.chain("words", "say", "slow")
    run = project.start("run", "+experiment=words")
    try:
        step = project.wait_until_did("s1 began")
        os.kill(run.pid, signal.SIGKILL)
        assert gone(step)
    finally:
        end_group(run)
    assert objects_are_whole(project)
    done = project.llmops("run", "+experiment=words", "pipeline.steps.s1.use=pass_on", "--json")
    assert [step["status"] for step in project.record(done)["steps"]] == ["cached", "done"]
    assert not list(project.root.glob(".llmops/store/tmp/*"))


def test_two_runs_at_once_do_each_step_once(project):
    project.chain("words", "say", "pass_on", "pass_on")
    runs = [project.start("run", "+experiment=words", "--json") for _ in range(2)]
    try:
        told = [run.communicate(timeout=60) for run in runs]
    finally:
        for run in runs:
            end_group(run)
    assert [run.returncode for run in runs] == [0, 0], told
    assert sorted(project.did()) == ["s0 said", "s1 passed", "s2 passed"]
    assert len(list(project.root.glob("runs/words/*/run.json"))) == 2


def test_a_damaged_object_is_made_again_within_the_run(project):
    project.chain("words", "say", "pass_on")
    record = project.record(project.llmops("run", "+experiment=words", "--json"))
    damaged = project.root / record["steps"][0]["outputs"]["out"]["uri"]
    size = damaged.stat().st_size
    damaged.chmod(0o644)
    damaged.write_bytes(b"x" * size)
    again = project.llmops("run", "+experiment=words", "pipeline.steps.s1.with.text=new", "--json")
    assert again.returncode == 0, again.stderr
    assert project.did() == ["s0 said", "s1 passed", "s0 said", "s1 passed"]
    assert damaged.with_name(damaged.name + ".bad").exists()


def test_an_unknown_entry_point_is_a_config_error(project):
    project.chain("words", "say")
    done = project.llmops("run", "+experiment=words", "project.steps=[tyo]")
    assert done.returncode == 2
    assert "did you mean 'toy'?" in done.stderr


def test_an_unsafe_run_folder_ends_in_a_backend_error(project):
    project.chain("words", "say")
    (project.root / "runs").write_text("a file where the run folders should be")
    done = project.llmops("run", "+experiment=words")
    assert done.returncode == 5
    assert "runs" in done.stderr
    assert project.did() == []


def objects_are_whole(project):
    from llmops.files import file_sha256

    objects = list(project.root.glob(".llmops/store/objects/*/*"))
    return bool(objects) and all(file_sha256(path) == path.name for path in objects)
