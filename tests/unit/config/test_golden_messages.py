"""What a user reads when a config is wrong. Each case is one file of ``tests/golden/config``.

``UPDATE_GOLDEN=1 pytest tests/unit/config/test_golden_messages.py`` writes the messages anew.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmops import cli

FOLDER = Path(__file__).parents[2] / "golden" / "config"
CASES = sorted(FOLDER.glob("*.txt"))
MESSAGE = "--- message"


@dataclass(frozen=True)
class Case:
    command: list[str]
    files: dict[str, str]
    message: str


def read_case(path: Path) -> Case:
    head, _, message = path.read_text("utf-8").partition(f"{MESSAGE}\n")
    command, *sections = head.split("--- ")
    files = dict(section.split("\n", 1) for section in sections)
    return Case(shlex.split(command.removeprefix("$ llmops ")), files, message)


def test_there_are_cases_to_check() -> None:
    assert len(CASES) >= 25


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_wrong_config_ends_in_exactly_this_message(
    path: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = read_case(path)
    for name, text in case.files.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(text, encoding="utf-8")
    code = cli.main(case.command)
    message = capsys.readouterr().err + f"exit code {code}\n"
    if os.environ.get("UPDATE_GOLDEN"):
        head = path.read_text("utf-8").partition(MESSAGE)[0]
        path.write_text(f"{head}{MESSAGE}\n{message}", encoding="utf-8")
    else:
        assert message == case.message
