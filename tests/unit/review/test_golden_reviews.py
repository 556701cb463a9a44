"""What a reviewer reads. Each case is one file of ``tests/golden/review``.

A case has one command, files of the project, and what is printed. ``before/`` and ``after/`` hold
config folders for ``diff``; ``LOCK`` stands for the lock beside the cases.
``UPDATE_GOLDEN=1 pytest tests/unit/review/test_golden_reviews.py`` writes the outputs anew.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmops import cli

FOLDER = Path(__file__).parents[2] / "golden" / "review"
CASES = sorted(FOLDER.glob("*.txt"))
OUTPUT = "--- output"


@dataclass(frozen=True)
class Case:
    command: list[str]
    files: dict[str, str]
    output: str


def read_case(path: Path) -> Case:
    head, _, output = path.read_text("utf-8").partition(f"{OUTPUT}\n")
    command, *sections = head.split("--- file ")
    files = dict(section.split("\n", 1) for section in sections)
    return Case(shlex.split(command.removeprefix("$ llmops ")), files, output)


def test_there_are_cases_of_every_command() -> None:
    verbs = [read_case(path).command[0] for path in CASES]
    assert {verb: verbs.count(verb) >= 3 for verb in ("plan", "diff", "explain")} == {
        "plan": True,
        "diff": True,
        "explain": True,
    }


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_reviewer_reads_exactly_this(
    path: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = read_case(path)
    for name, text in case.files.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(_lock() if text.strip() == "LOCK" else text, "utf-8")
    code = cli.main(case.command)
    printed = capsys.readouterr()
    output = "\n".join(line.rstrip() for line in (printed.out + printed.err).splitlines())
    output = f"{output}\nexit code {code}\n"
    if os.environ.get("UPDATE_GOLDEN"):
        head = path.read_text("utf-8").partition(OUTPUT)[0]
        path.write_text(f"{head}{OUTPUT}\n{output}", encoding="utf-8")
    else:
        assert output == case.output


def _lock() -> str:
    return (FOLDER / "so_python.lock.yaml").read_text("utf-8")
