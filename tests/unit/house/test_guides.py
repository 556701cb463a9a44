"""The project that ``docs/guides/own_steps.md`` prints works as it is printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "own_steps.md"
FILE = re.compile(r"^`(?P<name>[\w./]+)`:\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for file in FILE.finditer(GUIDE.read_text("utf-8")):
        path = tmp_path / file["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["text"], "utf-8")
    _install(tmp_path)
    return tmp_path


def _install(project: Path) -> None:
    """Do what installing the package in place does: make its entry points known."""
    package = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    info = project / f"{package['name']}-{package['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package['name']}\nVersion: {package['version']}\n"
    )
    points = [f"{n} = {m}" for n, m in package["entry-points"]["llmops.steps"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[llmops.steps]", *points, ""]))


def test_the_guides_project_runs_and_is_then_cached(project: Path) -> None:
    first, second = _run(project), _run(project)
    assert first["steps"][1]["facts"] == {"text": "HELLO, ADA! HELLO, ADA!"}
    assert [step["status"] for step in second["steps"]] == ["cached", "cached"]


def test_another_setting_runs_the_own_step_alone(project: Path) -> None:
    _run(project)
    record = _run(project, "pipeline.steps.shout.with.times=3")
    assert [step["status"] for step in record["steps"]] == ["cached", "done"]


def _run(project: Path, *overrides: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "llmops", "run", "+experiment=mine", "--json", *overrides],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
