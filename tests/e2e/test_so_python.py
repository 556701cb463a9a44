"""The example experiment with the real model, made small: every step, and what a change reruns."""

from __future__ import annotations

import json

import pytest

from tests.fakes.toy_project import ToyProject

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # half a minute of tuning, much more on a machine that others use
]
SMALL = (
    "tuning.max_steps=2",
    "evaluation.max_rows=8",
    "predict.max_new_tokens=8",
    "safety.max_violation_rate=1",
    "safety.max_blocked_rate=1",
    "model.tuner.validation_rows=8",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return ToyProject(tmp_path_factory.mktemp("so_python"))


@pytest.fixture(scope="module")
def record(project):
    done = run(project)
    assert done.returncode in (0, 3), done.stderr  # two steps need not beat the untuned model
    return json.loads(done.stdout)


def run(project, *overrides):
    return project.llmops("run", "+experiment=so_python", *SMALL, *overrides, "--json")


def statuses(record):
    return {step["name"]: step["status"] for step in record["steps"]}


def test_every_step_is_done_and_the_record_says_what_came_of_it(record):
    assert set(statuses(record).values()) == {"done"}
    assert record["source"]["name"] == "duckdb://sample"
    assert record["dataset_version"].startswith("v1-")
    assert list(record["metrics"]["contestants"]) == ["untuned", "untuned_with_examples", "tuned"]
    assert record["model"]["prompt_sha256"] == record["prompt"]["sha256"]


def test_the_run_folder_holds_what_the_design_says(project, record):
    folder = project.root / "runs" / "so_python" / record["run_id"]
    files = {path.name for path in folder.iterdir()}
    assert files >= {
        "config.yaml",
        "provenance.json",
        "plan.json",
        "pipeline.yaml",
        "run.json",
        "metrics.json",
        "report.html",
        "logs",
    }


def test_an_unchanged_rerun_is_cached_throughout_and_makes_no_version(project, record):
    again = json.loads(run(project).stdout)
    assert set(statuses(again).values()) == {"cached"}
    assert not again["engine"]["started"]
    listed = json.loads(project.llmops("models", "list", "--json").stdout)
    assert len(listed) == 1


def test_a_changed_threshold_reruns_safety_and_gate_alone(project, record):
    changed = json.loads(run(project, "safety.thresholds.profanity=0.6").stdout)
    done = [name for name, status in statuses(changed).items() if status == "done"]
    assert done == ["safety", "gate"]


def test_tuning_longer_reruns_from_tuning_on(project, record):
    plan = project.llmops("plan", "+experiment=so_python", *SMALL, "tuning.max_steps=3", "--json")
    steps = {step["name"]: step for step in json.loads(plan.stdout)["steps"]}
    assert [name for name, step in steps.items() if step["status"] != "cached"] == [
        "tune",
        "deploy",
        "predict",
        "evaluate",
        "safety",
        "gate",
    ]
    assert steps["tune"]["reason"] == "tuning.max_steps 2 -> 3"


def test_a_random_split_leaks_and_its_gate_refuses(project, record):
    done = run(project, "split=random_80_20")
    assert done.returncode == 3
    reasons = json.loads(done.stdout)["gate"]["reasons"]
    assert [r["passed"] for r in reasons if r["rule"] == "leakage exact"] == [False]


def test_a_refused_run_is_not_accepted(project, record):
    refused = json.loads(run(project, "split=random_80_20").stdout)
    done = project.llmops("accept", refused["run_id"])
    assert done.returncode == 3
    assert "'refused'" in done.stderr
