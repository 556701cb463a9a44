"""Sweeps from outside: shared steps are done once, and one bad member stops nothing else."""

from __future__ import annotations

import json

import pytest

from tests.fakes.toy_project import ToyProject

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
    assert [member["status"] for member in json.loads(done.stdout)] == ["succeeded"] * 2


def test_each_member_has_a_run_folder_and_the_sweep_lists_them(project):
    project.llmops("run", "-m", "+experiment=words", f"{TEXT}=a,b")
    runs = {path.parent.name for path in project.root.glob("runs/words/*/run.json")}
    sweep = json.loads(next(project.root.glob("runs/sweeps/*/sweep.json")).read_text())
    assert {member["run_id"] for member in sweep["members"]} == runs
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
    members = json.loads(done.stdout)
    assert [member["exit_code"] for member in members] == [4, 0, 1]


def test_hydra_leaves_no_folders_of_its_own(project):
    project.llmops("run", "-m", "+experiment=words", f"{TEXT}=a,b")
    assert not list(project.root.rglob(".hydra"))
    assert not (project.root / "multirun").exists()
    assert not (project.root / "outputs").exists()
