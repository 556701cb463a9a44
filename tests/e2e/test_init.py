"""A project made by ``init`` works as its README says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from llmops import cli


@pytest.fixture
def project(tmp_path: Path) -> Path:
    assert cli.main(["init", str(tmp_path / "my-demo")]) == 0
    _install(tmp_path / "my-demo", tmp_path / "site")
    return tmp_path / "my-demo"


def _install(project: Path, site: Path) -> None:
    """Do what ``pip install -e .`` does: make the entry points known."""
    package = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    info = site / f"{package['name']}-{package['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package['name']}\nVersion: {package['version']}\n"
    )
    points = [f"{n} = {m}" for n, m in package["entry-points"]["llmops.steps"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[llmops.steps]", *points, ""]))


def llmops(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LLMOPS_")}
    return subprocess.run(
        [sys.executable, "-m", "llmops", *arguments],
        cwd=project,
        env=kept | {"PYTHONPATH": f"{project}:{project.parent / 'site'}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_new_project_runs_at_once_with_its_own_step(project: Path) -> None:
    done = llmops(project, "run", "+experiment=greeting", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["steps"][1]["facts"]["text"].startswith("HELLO, ADA!")
    assert (project / "runs" / "greeting").is_dir()


@pytest.mark.parametrize("env", ["dev", "prod"])
def test_its_tuning_experiment_is_valid_in_each_environment(project: Path, env: str) -> None:
    done = llmops(project, "validate", "+experiment=first", f"env={env}")
    assert done.returncode == 0, done.stderr


def test_its_files_shadow_the_shipped_ones(project: Path) -> None:
    done = llmops(project, "explain", "env", "+experiment=first", "env=prod", "--json")
    told = {entry["key"]: entry for entry in json.loads(done.stdout)}
    assert told["env.project"]["value"] == "my-demo-prod"
    assert told["env.bucket"]["value"] == "gs://my-demo-prod-llmops"
    assert told["env.budget"]["set_by"] == "conf/env/prod.yaml:7:9"


def test_its_schemas_and_lines_are_there(project: Path) -> None:
    assert llmops(project, "schema", "--check").returncode == 0


def test_its_workflow_reviews_pull_requests(project: Path) -> None:
    workflow = yaml.safe_load((project / ".github/workflows/review.yml").read_text())
    steps = workflow["jobs"]["review"]["steps"]
    assert "llmops review" in steps[-1]["run"]


def test_it_refuses_to_replace_files_and_lists_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "README.md").write_text("mine")
    capsys.readouterr()
    assert cli.main(["init", str(project)]) == 3
    said = capsys.readouterr().err
    assert "README.md" in said
    assert "conf/experiment/greeting.yaml" in said
    assert (project / "README.md").read_text() == "mine"


def test_force_replaces_and_json_says_what(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "README.md").write_text("mine")
    (project / "pyproject.toml").unlink()
    capsys.readouterr()
    assert cli.main(["init", str(project), "--force", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "README.md" in told["replaced"]
    assert "pyproject.toml" in set(told["files"]) - set(told["replaced"])
    assert (project / "README.md").read_text() != "mine"


def test_a_name_that_python_cannot_use_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init", str(tmp_path / "My Project")]) == 2
    assert not (tmp_path / "My Project").exists()
