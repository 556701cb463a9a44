"""A sweep decides by validation rows; the test side is read once, for the chosen member."""

from __future__ import annotations

import json

import pytest

from tests.fakes.toy_project import ToyProject

QUALITY = "pipeline.steps.answer.with.text"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = ToyProject(tmp_path_factory.mktemp("sweep") / "project")
    made.measured("scores")
    return made


@pytest.fixture(scope="module")
def swept(project):
    done = project.llmops("run", "-m", "+experiment=scores", f"{QUALITY}=2.9,2.4", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_members_answer_validation_rows_and_only_the_chosen_one_test_rows(project, swept):
    assert project.did()[:3] == [
        "answer answered-validation",
        "answer answered-validation",
        "answer answered-test",
    ]


def test_the_best_on_validation_rows_is_chosen(swept):
    board = swept["leaderboard"]
    assert board["rows"][0]["varies"] == {QUALITY: "2.4"}
    assert swept["chosen"] == board["rows"][0]["member"]
    assert swept["final"]["member"] == swept["chosen"]
    assert swept["final"]["status"] == "succeeded"


def test_the_difference_is_larger_than_the_noise_of_rows(swept):
    assert "by more than the noise of rows" in swept["leaderboard"]["sentence"]
    assert swept["leaderboard"]["settings"][1]["told_apart"] is True


def test_the_runs_say_which_side_they_were_scored_on(project, swept):
    records = [json.loads(file.read_text()) for file in project.root.glob("runs/scores/*/run.json")]
    sides = {record["run_id"]: record["scored_on"] for record in records}
    assert sides[swept["final"]["run_id"]] == "test"
    assert sorted(sides.values()) == ["test", "validation", "validation"]


def test_the_page_shows_members_differences_and_figures(swept, project):
    page = (project.root / "runs" / "sweeps" / swept["id"] / "sweep.html").read_text()
    assert swept["leaderboard"]["sentence"] in page
    assert page.count("<svg") == 2  # the members over what varies, and one scatter plot
    assert f"{swept['final']['run_id']}/report.html" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_sweep_over_a_metric_that_is_not_measured_is_refused_before_it_starts(project, swept):
    before = project.did()
    wrong = project.llmops(
        "run", "-m", "+experiment=scores", f"{QUALITY}=1.0,1.1", "--metric", "chrf"
    )
    assert wrong.returncode == 2
    assert "--metric chrf is not measured\nhint: measured are loss" in wrong.stderr
    assert project.did() == before


def test_without_validation_rows_members_are_scored_on_test_rows_and_it_is_told(project, swept):
    done = project.llmops(
        "run", "-m", "+experiment=scores", f"{QUALITY}=2.9,2.4", "split=random_80_20", "--json"
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["score_on"] == "test"
    assert "a little too good" in said["notes"][0]
