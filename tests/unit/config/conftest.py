from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

WriteConf = Callable[[str, str], Path]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one, with no settings from outside."""
    monkeypatch.delenv("LLMOPS_CONF", raising=False)
    monkeypatch.delenv("LLMOPS_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write_conf(workspace: Path) -> WriteConf:
    """Write a file of the project's own config, by its path below ``conf/``."""

    (workspace / "conf" / "experiment").mkdir(parents=True)  # what makes a folder a project's

    def write(relative: str, text: str) -> Path:
        path = workspace / "conf" / relative
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write
