"""Sweeps from outside: shared steps are done once, and one bad member stops nothing else."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.fakes.toy_project import ToyProject, end_group, gone

TEXT = "pipeline.steps.s1.with.text"


@pytest.fixture
def project(tmp_path):
    made = ToyProject(tmp_path / "project")
    made.chain("words", "say", "pass_on")
    return made


def test_members_share_the_steps_that_they_have_in_common(project):
    done = project.llmops("run", "-m", "+experiment=words", f"{TEXT}=a,b", "--json")
    assert done.returncode == 0, done.stderr
    assert project.did() == ["s0 said", "s1 passed", "s1 passed"]
    assert [member["status"] for member in json.loads(done.stdout)["members"]] == ["succeeded"] * 2


def test_each_member_has_a_run_folder_and_the_sweep_lists_them(project):
    project.llmops("run", "-m", "+experiment=words", f"{TEXT}=a,b")
    runs = {path.parent.name for path in project.root.glob("runs/words/*/run.json")}
    files = project.root.glob("runs/sweeps/*/members/*.json")
    assert {json.loads(file.read_text())["run_id"] for file in files} == runs
    assert len(runs) == 2


def test_a_problem_of_one_member_is_told_before_any_starts(project):
    done = project.llmops("run", "-m", "+experiment=words", f"{TEXT}=a", "version=v1,-")
    assert done.returncode == 2
    assert "in 1 of 2 members" in done.stderr
    assert project.did() == []


def test_a_sweep_ends_with_the_gravest_exit_code_and_runs_all_members(project):
    uses = "pipeline.steps.s1.use=refuse,pass_on,crash"
    done = project.llmops("run", "-m", "+experiment=words", uses, "--json")
    assert done.returncode == 4, done.stderr
    members = json.loads(done.stdout)["members"]
    assert [member["exit_code"] for member in members] == [4, 0, 1]


def test_hydra_leaves_no_folders_of_its_own(project):
    project.llmops("run", "-m", "+experiment=words", f"{TEXT}=a,b")
    assert not list(project.root.rglob(".hydra"))
    assert not (project.root / "multirun").exists()
    assert not (project.root / "outputs").exists()


def test_the_same_command_runs_only_what_is_missing(project):
    uses = "pipeline.steps.s1.use=pass_on,refuse"
    project.llmops("run", "-m", "+experiment=words", uses)
    first = sweep_of(project)
    again = project.llmops("run", "-m", "+experiment=words", uses, "--json")
    assert again.returncode == 4
    second = json.loads(again.stdout)
    assert second["id"] == first["id"]
    assert second["members"][0]["run_id"] == first["members"][0]["run_id"]
    assert second["members"][1]["run_id"] != first["members"][1]["run_id"]
    assert len(list(project.root.glob("runs/words/*"))) == 3


def test_members_beside_each_other_prepare_once_and_have_folders_of_their_own(project):
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = project.llmops("run", "-m", "+experiment=words", f"{TEXT}=a,b,c", *launcher, "--json")
    assert done.returncode == 0, done.stderr
    assert project.did().count("s0 said") == 1
    assert project.did().count("s1 passed") == 3
    assert len({one["run_id"] for one in json.loads(done.stdout)["members"]}) == 3


def test_fail_fast_starts_no_further_member_and_resume_goes_on(project):
    uses = "pipeline.steps.s1.use=refuse,pass_on"
    done = project.llmops("run", "-m", "+experiment=words", uses, "--fail-fast")
    assert done.returncode == 4, done.stderr
    assert "--fail-fast was given" in done.stdout
    assert "s1 passed" not in project.did()
    assert [one["status"] for one in sweep_of(project)["members"]] == ["failed", "waiting"]


def test_every_cause_is_shown_at_the_end(project):
    uses = "pipeline.steps.s1.use=refuse,crash"
    done = project.llmops("run", "-m", "+experiment=words", uses)
    assert "no row is good" in done.stdout
    assert "ZeroDivisionError: a bug" in done.stdout


def test_a_sweep_whose_process_is_killed_leaves_no_child_and_is_resumed(project):
    uses = "pipeline.steps.s1.use=pass_on,slow"
    killed = project.start("run", "-m", "+experiment=words", uses)
    try:
        worker = project.wait_until_did("s1 began")
        os.kill(killed.pid, signal.SIGKILL)
        assert gone(worker)
    finally:
        end_group(killed)
    (found,) = project.root.glob("runs/sweeps/*")
    shown = json.loads(project.llmops("sweeps", "show", found.name, "--json").stdout)
    assert [one["status"] for one in shown["members"]] == ["succeeded", "died"]
    chain = project.root / "site" / "toy_steps.py"
    chain.write_text(chain.read_text().replace("range(200)", "range(1)"))
    done = project.llmops("sweeps", "resume", found.name, "--json")
    assert done.returncode == 0, done.stderr
    resumed = json.loads(done.stdout)["members"]
    assert resumed[0]["run_id"] == shown["members"][0]["run_id"]
    assert [one["status"] for one in resumed] == ["succeeded", "succeeded"]


def test_two_sweeps_at_once_share_no_folder_and_the_same_one_is_refused(project):
    running = project.start("run", "-m", "+experiment=words", "pipeline.steps.s1.use=slow")
    try:
        project.wait_until_did("s1 began")
        same = project.llmops("run", "-m", "+experiment=words", "pipeline.steps.s1.use=slow")
        assert same.returncode == 3
        assert f"is being run by process {running.pid}" in same.stderr
        other = project.llmops("run", "-m", "+experiment=words", f"{TEXT}=x")
        assert other.returncode == 0, other.stderr
        assert len(list(project.root.glob("runs/sweeps/*"))) == 2
    finally:
        end_group(running)


def sweep_of(project):
    listed = json.loads(project.llmops("sweeps", "list", "--json").stdout)
    return json.loads(project.llmops("sweeps", "show", listed[0]["id"], "--json").stdout)
