from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from llmops.config import project
from llmops.plan.diff import Diff, ExperimentDiff

SHIPPED = project.packaged_conf()


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An empty folder as the current one, with no settings from outside."""
    monkeypatch.delenv("LLMOPS_CONF", raising=False)
    monkeypatch.delenv("LLMOPS_WORKSPACE", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def own(workspace):
    """A project with a copy of the shipped config, so that every file can be changed."""
    shutil.copytree(SHIPPED, workspace / "conf")
    return workspace


def of(diff: Diff, name: str) -> ExperimentDiff:
    """Return what a diff says of one experiment, whichever others are shipped."""
    (found,) = (one for one in diff.experiments if one.name == name)
    return found


class Repository:
    """A git repository at ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "test@example.org")
        self.git("config", "user.name", "Test")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.root), *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self) -> str:
        """Commit everything and return the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "a change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(own):
    made = Repository(own)
    made.commit()
    return made
