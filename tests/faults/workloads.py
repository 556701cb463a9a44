"""Pieces of work whose every file operation is made to fail: whole commands in a small project.

A workload prepares a project once; each injection works in a copy of it. The commands run in the
process itself, by ``llmops.cli.main``, with an engine that does so too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops import cli
from llmops.engines import engine
from tests.fakes.toy_project import ToyProject
from tests.faults import invariants, pieces

ROWS = 12
UNWATCHED = open  # as it is before the harness puts its own in its place


@dataclass(frozen=True)
class Workload:
    """``prepare`` fills a project; ``work`` runs in it and returns an exit code.

    ``results`` is what must be the same after a fault and a second time; ``lost`` names what was
    acknowledged, by what the work printed, and is not there. A fork of a process in which work
    that ``starts_threads`` was done lacks those threads. One whose operations are ``many`` is not
    hit by every fault at each of them, but by one, drawn by the seed.
    """

    name: str
    prepare: Callable[[Path], None]
    work: Callable[[], int]
    results: Callable[[Path], Any] = invariants.results
    lost: Callable[[Path, str], Sequence[str]] = lambda folder, said: ()
    starts_threads: bool = False
    many: bool = False


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
    """Return the id of a run that succeeded, the newest by its file."""
    runs = sorted(Path("runs").glob("*/*/run.json"), key=lambda path: path.stat().st_mtime_ns)
    done = []
    for path in runs:
        with UNWATCHED(path, encoding="utf-8") as file:  # looking is no operation
            if json.load(file)["status"] == "succeeded":
                done.append(path)
    return done[-1].parent.name if done else "none"


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


def _left(folder: Path) -> list[str]:
    """Return the runs that are left, and the objects, entries and reports of the store."""
    kept = [*folder.glob("runs/*/*/run.json"), *folder.glob(".llmops/store/[oir]*/**/*")]
    return sorted(str(path.relative_to(folder)) for path in kept if path.is_file())


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
  licence: CC0-1.0
  source_terms: mine
  acknowledged_terms: [mine]
  rules:
    min_rows: 5
"""

CHAIN = "run +experiment=chain"
GC_OF_ALL = "runs gc --keep 0 --grace-hours 0"
GC = _commands("runs gc --grace-hours 0")  # what no finished work needs is gone afterwards


WORKLOADS: Mapping[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("run", _toy, _commands(CHAIN)),
        Workload(
            "accept",
            _toy,
            _commands("run +experiment=chain", "accept NEWEST", "runs tag NEWEST kept"),
        ),
        Workload("gc", _toy, _commands(CHAIN, GC_OF_ALL), _left),
        Workload(
            "dataset", _files, _commands("run +experiment=pairs"), starts_threads=True, many=True
        ),
        Workload("load", pieces.table, pieces.told(pieces.load), pieces.loaded),
        Workload("registry", pieces.nothing, pieces.told(pieces.register), pieces.registered),
        Workload("log", pieces.nothing, pieces.told(pieces.log), pieces.logged, pieces.lost_lines),
        Workload(
            "serve", pieces.nothing, pieces.told(pieces.serve), pieces.served, pieces.lost_answers
        ),
        Workload("predict", pieces.questions, pieces.told(pieces.predict), pieces.predicted),
        Workload(
            "sweep", pieces.nothing, pieces.told(pieces.sweep), pieces.swept, pieces.lost_members
        ),
        Workload("bucket", pieces.nothing, pieces.told(pieces.publish), pieces.published),
    )
}
