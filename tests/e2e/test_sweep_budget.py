"""A budget holds for a sweep as a whole, whether its members are known before or searched for."""

from __future__ import annotations

import json

import pytest

from tests.fakes.toy_project import ToyProject

PRICES = """\
# What things cost, for tests.
#   python -m llmops plan +experiment=scores
dated: 2026-11-23
currency: USD
prices:
  - {port: engine, kind: local, unit: run, price: 1.0, dated: 2026-11-23, source: a test}
"""
QUALITY = "pipeline.steps.answer.with.text"
SEARCH = ("hydra/sweeper=optuna", f"{QUALITY}=interval(2.0,3.0)")


@pytest.fixture
def project(tmp_path):
    made = ToyProject(tmp_path / "project")
    made.measured("scores")
    (made.root / "conf" / "knowledge").mkdir()
    (made.root / "conf" / "knowledge" / "prices.yaml").write_text(PRICES)
    return made


def swept(project, *words):
    done = project.llmops("run", "-m", "+experiment=scores", *words, "--json")
    return done, json.loads(done.stdout) if done.stdout.startswith("{") else None


def test_a_search_starts_no_member_that_its_budget_does_not_allow(project):
    done, said = swept(project, *SEARCH, "hydra.sweeper.trials=5", "--budget", "2.5")
    assert done.returncode == 3, done.stderr
    ran = [member for member in said["members"] if member["run_id"]]
    assert len(ran) == 2
    assert said["stopped"] == "the budget of the sweep is used up"
    assert said["final"] is None
    (refused,) = [member for member in said["members"] if not member["run_id"]]
    assert "may cost 2.00 of 2.5" in refused["problem"].replace("2.50", "2.5")


def test_with_more_money_the_search_goes_on_and_keeps_what_ran(project):
    _, first = swept(project, *SEARCH, "hydra.sweeper.trials=3", "--budget", "2.5")
    done, second = swept(project, *SEARCH, "hydra.sweeper.trials=3")
    assert done.returncode == 0, done.stderr
    before = {one["run_id"] for one in first["members"] if one["run_id"]}
    assert len(before) == 2
    assert all(one["status"] == "succeeded" for one in second["members"])
    assert before < {one["run_id"] for one in second["members"]}


def test_listed_members_over_the_budget_are_refused_before_any_starts(project):
    done, _ = swept(project, f"{QUALITY}=2.9,2.4", "--budget", "1.5")
    assert done.returncode == 3
    assert project.did() == []
