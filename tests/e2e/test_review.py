"""The Action on pull requests: a real repository, a real diff, GitHub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from llmops.cli.github import MARKER
from tests.fakes.github import GitHub, github

ROOT = Path(__file__).parents[2]
EXPERIMENT = """\
# @package _global_
# Greet, politely.
#   python -m llmops run +experiment=mine
defaults:
  - hello

name: mine
version: v1
pipeline:
  steps:
    say_hello:
      with: {name: Ada}
"""


@dataclass
class Project:
    """A clone on a pull request's merge commit, and the environment of the workflow's job."""

    root: Path
    server: GitHub
    token: str | None = "writer"
    fork: bool = False

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(self.root), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "a change")

    def write(self, text: str) -> None:
        (self.root / "conf" / "experiment" / "mine.yaml").write_text(text)

    def llmops(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        outside = ("LLMOPS_", "GITHUB_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(outside)}
        return subprocess.run(
            [sys.executable, "-m", "llmops", *arguments],
            cwd=self.root,
            env=kept | more,
            capture_output=True,
            text=True,
            check=False,
        )

    def review(self, fail_on: str = "loosened-safety") -> subprocess.CompletedProcess[str]:
        """Do what ``action.yml`` does."""
        head = {"repo": {"full_name": "stranger/name" if self.fork else "owner/name"}}
        base = {"sha": self.git("rev-parse", "base"), "repo": {"full_name": "owner/name"}}
        event = {"pull_request": {"number": 7, "head": head, "base": base}}
        (self.root.parent / "event.json").write_text(json.dumps(event))
        action = yaml.safe_load((ROOT / "action.yml").read_text())
        (step,) = action["runs"]["steps"]
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("LLMOPS_", "GITHUB_"))},
            "GITHUB_EVENT_PATH": str(self.root.parent / "event.json"),
            "GITHUB_REPOSITORY": "owner/name",
            "GITHUB_API_URL": self.server.url,
            "GITHUB_STEP_SUMMARY": str(self.root.parent / "summary.md"),
            "LLMOPS_PYTHON": sys.executable,
            "LLMOPS_FAIL_ON": fail_on,
        }
        if self.token is not None:
            environment["GITHUB_TOKEN"] = self.token
        return subprocess.run(
            [step["shell"], "-c", step["run"]],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def summary(self) -> str:
        return (self.root.parent / "summary.md").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with github() as server:
        made = Project(tmp_path / "project", server)
        (made.root / "conf" / "experiment").mkdir(parents=True)
        (made.root / ".gitignore").write_text(".llmops/\nruns/*\n!runs/*.lock.yaml\n")
        made.write(EXPERIMENT)
        made.git("init", "-q", "-b", "base")
        made.commit()
        made.git("checkout", "-qb", "change")
        yield made


def test_a_change_is_reviewed_in_one_comment(project: Project) -> None:
    project.write(EXPERIMENT.replace("Ada", "Grace"))
    project.commit()
    done = project.review()
    assert done.returncode == 0, done.stderr
    (body,) = project.server.bodies()
    assert body.startswith(MARKER)
    assert "`pipeline.steps.say_hello.with.name` | `Ada` | `Grace`" in body
    assert "| how_are_you | waits | `after say_hello` |" in body
    project.write(EXPERIMENT.replace("Ada", "Barbara"))
    project.commit()
    assert project.review().returncode == 0
    (body,) = project.server.bodies()
    assert "`Barbara`" in body
    assert "Grace" not in body
    assert project.summary.count("## Review of the config") == 2


def test_an_invalid_experiment_is_told_with_its_place(project: Project) -> None:
    project.write(EXPERIMENT.replace("version: v1", "version: v 1"))
    project.commit()
    assert project.review().returncode == 2
    (body,) = project.server.bodies()
    assert "conf/experiment/mine.yaml:8:10: version" in body
    assert "**not valid**" in body


def test_a_loosened_policy_is_refused_if_asked_for(project: Project) -> None:
    project.write(EXPERIMENT + "env:\n  budget: 5\n")
    project.commit()
    project.git("branch", "-f", "base")
    project.write(EXPERIMENT + "env:\n  budget: 500\n")
    project.commit()
    assert project.review("").returncode == 0
    assert project.review("loosened-budget").returncode == 3
    (body,) = project.server.bodies()
    assert "**refused**" in body
    assert "env.budget" in body


def test_the_pull_request_of_a_fork_is_reviewed_in_the_summary(project: Project) -> None:
    project.write(EXPERIMENT.replace("Ada", "Grace"))
    project.commit()
    project.fork, project.token = True, "reader"
    done = project.review()
    assert done.returncode == 0
    assert "this is a fork's" in done.stderr
    assert project.server.comments == []
    assert "`Grace`" in project.summary


def test_without_a_token_the_review_is_in_the_summary(project: Project) -> None:
    project.write(EXPERIMENT.replace("Ada", "Grace"))
    project.commit()
    project.token = None
    done = project.review()
    assert done.returncode == 0
    assert "no GITHUB_TOKEN" in done.stderr
    assert project.server.calls == []
    assert "`Grace`" in project.summary


def test_a_bad_day_of_github_loses_no_review(project: Project) -> None:
    project.write(EXPERIMENT.replace("Ada", "Grace"))
    project.commit()
    project.server.failures += [500] * 3
    assert project.review().returncode == 5
    assert "`Grace`" in project.summary


def test_a_config_cannot_break_out_of_the_comment(project: Project) -> None:
    evil = "'````\\n# Approved by the maintainers'"
    project.write(EXPERIMENT.replace("version: v1", f'version: "{evil}"'))
    project.commit()
    project.review()
    (body,) = project.server.bodies()
    assert "\n# Approved" not in body


@pytest.mark.slow
def test_an_accepted_run_must_be_of_the_config_that_is_merged(project: Project) -> None:
    record = json.loads(project.llmops("run", "+experiment=mine", "--json").stdout)
    assert project.llmops("accept", record["run_id"]).returncode == 0
    project.commit()
    assert project.review().returncode == 0
    assert "is of this config" in project.server.bodies()[0]
    project.write(EXPERIMENT.replace("Ada", "Grace"))
    project.commit()
    done = project.review()
    assert done.returncode == 3
    assert "accept RUN" in project.server.bodies()[0]
    assert "1 of 2 steps run" not in project.server.bodies()[0]


def test_the_example_workflow_may_write_the_comment_and_no_more() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/review.yml").read_text())
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert "pull_request_target" not in workflow[True]  # YAML reads `on` as true
    assert workflow["jobs"]["review"]["steps"][0]["with"]["fetch-depth"] == 0
