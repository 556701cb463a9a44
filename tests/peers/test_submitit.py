"""A sweep through Hydra's launcher for SLURM, here in its mode for local processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fakes.toy_project import ToyProject

FOLDER = Path(__file__).parents[2] / ".venv-peers" / "submitit"
PACKAGES = next(FOLDER.glob("lib/python*/site-packages"), None)

pytestmark = pytest.mark.skipif(
    PACKAGES is None,
    reason="hydra-submitit-launcher is not installed: `make peers` does so, where it can be had",
)


class Project(ToyProject):
    """A project whose commands see the launcher as an installed package."""

    @property
    def environment(self) -> dict[str, str]:
        kept = super().environment
        return kept | {"PYTHONPATH": os.pathsep.join((kept["PYTHONPATH"], str(PACKAGES)))}


def test_members_are_launched_prepare_once_and_are_found_again(tmp_path):
    project = Project(tmp_path / "project")
    project.chain("words", "say", "pass_on")
    words = ("+experiment=words", "pipeline.steps.s1.with.text=a,b")
    command = ("run", "-m", *words, "hydra/launcher=submitit_local", "--json")
    done = project.llmops(*command)
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)["members"]
    assert [one["status"] for one in first] == ["succeeded", "succeeded"]
    assert sorted(project.did()) == ["s0 said", "s1 passed", "s1 passed"]
    again = json.loads(project.llmops(*command).stdout)["members"]
    assert [one["run_id"] for one in again] == [one["run_id"] for one in first]
