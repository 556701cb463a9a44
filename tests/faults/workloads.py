"""Pieces of work whose every file operation is made to fail: whole commands in a small project.

A workload prepares a project once; each injection works in a copy of it. The commands run in the
process itself, by ``llmops.cli.main``, with an engine that does so too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from llmops import cli
from llmops.engines import engine
from tests.fakes.toy_project import ToyProject

ROWS = 12


@dataclass(frozen=True)
class Workload:
    """``prepare`` fills a project; ``work`` runs in it and returns an exit code."""

    name: str
    prepare: Callable[[Path], None]
    work: Callable[[], int]


def in_this_process() -> None:
    """Let runs of this process and its forks use the engine that works in the process itself."""
    engine.ENGINES = {**engine.ENGINES, "local": "tests.faults.inline_engine"}


def _commands(*commands: str) -> Callable[[], int]:
    def work() -> int:
        for command in commands:
            code = cli.main(command.replace("NEWEST", _newest()).split())
            if code:
                return code
        return 0

    return work


def _newest() -> str:
    runs = sorted(Path("runs").glob("*/*/run.json"), key=lambda path: path.parent.name)
    return runs[-1].parent.name if runs else "none"


def _toy(folder: Path) -> None:
    project = ToyProject(folder)
    project.chain("chain", "say", "pass_on")
    _visible(project)


def _visible(project: ToyProject) -> None:
    if str(project.site) not in sys.path:
        sys.path.insert(0, str(project.site))


def _files(folder: Path) -> None:
    """Prepare a dataset of a few pairs, one of them bad and one twice."""
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "pairs.yaml").write_text(PAIRS)
    rows = [
        {"prompt": f"What is {n}?", "response": f"The number {n}, as said."} for n in range(ROWS)
    ]
    rows += [rows[0], {"prompt": "", "response": "nothing was asked"}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "pairs.jsonl").write_text(text, "utf-8")


PAIRS = """\
# @package _global_
# A dataset of own pairs, for tests.
#   python -m llmops run +experiment=pairs
defaults:
  - override /pipeline: dataset_of_files
  - override /warehouse: null
  - override /dataset: jsonl
  - override /model: null
  - override /tuning: null
  - override /predict: null
  - override /evaluation: null
  - override /safety: null
  - override /gate: null
  - override /deploy: null

name: pairs
version: v1
dataset:
  files: [pairs.jsonl]
"""

WORKLOADS: Mapping[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("run", _toy, _commands("run +experiment=chain")),
        Workload("accept", _toy, _commands("run +experiment=chain", "accept NEWEST")),
        Workload("dataset", _files, _commands("run +experiment=pairs")),
    )
}
