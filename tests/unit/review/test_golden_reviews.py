"""What a reviewer reads. Each case is one file of ``tests/golden/review``.

A case has one command, files of the project, and what is printed. ``before/`` and ``after/`` hold
config folders for ``diff``. A file ``LOCK OVERRIDES`` is the lock that a run of the experiment
with these overrides would have left, so that it never gets behind the steps' code. Digests are
written as ``#``, for they change with every shipped default.
``UPDATE_GOLDEN=1 pytest tests/unit/review/test_golden_reviews.py`` writes the outputs anew.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from llmops import cli
from llmops.config.compose import compose
from llmops.config.identity import config_digest
from llmops.plan.graph import build_graph
from llmops.plan.keys import read_settings, step_key
from llmops.steps import step_kinds

FOLDER = Path(__file__).parents[2] / "golden" / "review"
CASES = sorted(FOLDER.glob("*.txt"))
OUTPUT = "--- output"
DIGEST = re.compile(r"\b[0-9a-f]{64}\b|(?<=  )[0-9a-f]{12}\b")


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
        (workspace / name).write_text(text, "utf-8")
    for name, text in case.files.items():
        if text.startswith("LOCK"):
            (workspace / name).write_text(_lock(text.split()[1:]), "utf-8")
    code = cli.main(case.command)
    printed = capsys.readouterr()
    output = "\n".join(line.rstrip() for line in (printed.out + printed.err).splitlines())
    output = DIGEST.sub(lambda found: "#" * len(found[0]), f"{output}\nexit code {code}\n")
    if os.environ.get("UPDATE_GOLDEN"):
        head = path.read_text("utf-8").partition(OUTPUT)[0]
        path.write_text(f"{head}{OUTPUT}\n{output}", encoding="utf-8")
    else:
        assert output == case.output


def _lock(overrides: list[str]) -> str:
    config = compose(["+experiment=so_python", *overrides]).config
    outputs: dict[str, str] = {}
    steps = {}
    for node in build_graph(config["pipeline"], step_kinds()).nodes:
        settings = read_settings(node.kind, config, node.name)
        inputs = {name: outputs[str(edge)] for name, edge in node.takes.items()}
        source = {"tables": {"a.b.c": "v1"}} if "warehouse" in node.kind.uses else {}
        key = step_key(node.kind, settings, inputs, source)
        given = {port.name: f"{node.name}-{port.name}" for port in node.kind.gives}
        outputs |= {f"{node.name}.{name}": sha256 for name, sha256 in given.items()}
        steps[node.name] = {
            "kind": node.kind.name,
            "revision": node.kind.revision,
            "key": key,
            "settings": settings,
            "inputs": inputs,
            "source": source,
            "outputs": given,
            "rows": {"train": 240, "validation": 30, "test": 30} if node.name == "split" else {},
        }
    return yaml.safe_dump(
        {
            "schema": 1,
            "experiment": "so_python",
            "run_id": "20261123-101502-7b1e",
            "config_digest": config_digest(config),
            "steps": steps,
        }
    )
