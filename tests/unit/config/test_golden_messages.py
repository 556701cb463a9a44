"""What a user reads when a config is wrong. Each case is one file of ``tests/golden/config``.

``<<N x TEXT>>`` in a case stands for N times TEXT: so a bomb fits into a few lines.
``UPDATE_GOLDEN=1 pytest tests/unit/config/test_golden_messages.py`` writes the messages anew.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmops import cli
from tests.fakes.measured import measured

FOLDER = Path(__file__).parents[2] / "golden" / "config"
CASES = sorted(FOLDER.glob("*.txt"))
MESSAGE = "--- message"
REPEATED = re.compile(r"<<(?P<times>\d+) x (?P<text>.*?)>>")
MOST_MEGABYTES = 300
MOST_CPU_SECONDS = 5


@dataclass(frozen=True)
class Case:
    command: list[str]
    files: dict[str, str]
    message: str


def read_case(path: Path) -> Case:
    head, _, message = path.read_text("utf-8").partition(f"{MESSAGE}\n")
    command, *sections = head.split("--- ")
    files = dict(_spelt_out(section).split("\n", 1) for section in sections)
    return Case(shlex.split(_spelt_out(command).removeprefix("$ llmops ")), files, message)


def _spelt_out(text: str) -> str:
    return REPEATED.sub(lambda found: found["text"] * int(found["times"]), text)


def write_files(case: Case, folder: Path) -> None:
    for name, text in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def test_there_are_cases_to_check() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_wrong_config_ends_in_exactly_this_message(
    path: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = read_case(path)
    write_files(case, workspace)
    code = cli.main(case.command)
    message = capsys.readouterr().err + f"exit code {code}\n"
    if os.environ.get("UPDATE_GOLDEN"):
        head = path.read_text("utf-8").partition(MESSAGE)[0]
        path.write_text(f"{head}{MESSAGE}\n{message}", encoding="utf-8")
    else:
        assert message == case.message


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_wrong_config_costs_little_to_refuse(path: Path, workspace: Path) -> None:
    case = read_case(path)
    write_files(case, workspace)
    used = measured([sys.executable, "-m", "llmops", *case.command])
    assert used.exit_code == 2
    assert used.cpu_seconds < MOST_CPU_SECONDS
    assert used.peak_megabytes < MOST_MEGABYTES
