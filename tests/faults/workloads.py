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
from llmops.adapters.registry.files import FileRegistry
from llmops.engines import engine
from llmops.errors import LlmopsError
from llmops.files import refusal
from llmops.ports import ModelReference
from llmops.traffic import segments
from tests.fakes.toy_project import ToyProject
from tests.faults import invariants

ROWS = 12
UNWATCHED = open  # as it is before the harness puts its own in its place


@dataclass(frozen=True)
class Workload:
    """``prepare`` fills a project; ``work`` runs in it and returns an exit code.

    ``results`` is what must be the same after a fault and a second time; ``lost`` names what was
    acknowledged, by what the work printed, and is not there.
    """

    name: str
    prepare: Callable[[Path], None]
    work: Callable[[], int]
    results: Callable[[Path], Any] = invariants.results
    lost: Callable[[Path, str], Sequence[str]] = lambda folder, said: ()


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

GC_OF_ALL = "runs gc --keep 0 --grace-hours 0"
GC = _commands("runs gc --grace-hours 0")  # what no finished work needs is gone afterwards


# ------------------------------------------------------- registry and traffic log

MODELS = Path(".llmops", "registry")
LOG = Path(".llmops", "traffic")
LINES = tuple(f'{{"answer": {number}}}'.encode() for number in range(8))


def _nothing(folder: Path) -> None:
    """A project without any file."""


def _told(work: Callable[[], None]) -> Callable[[], int]:
    """Tell an error as the command line does, and return its exit code."""

    def told() -> int:
        try:
            work()
        except (LlmopsError, OSError) as raised:
            error = refusal(raised) or raised
            if not isinstance(error, LlmopsError):
                raise
            print(f"error: {error.problem}\nhint: {error.hint}")
            return error.exit_code
        return 0

    return told


def _register() -> None:
    registry = FileRegistry(MODELS)
    for number in (1, 2, 3):
        model = ModelReference(provider="local", base="base", tuned=f"tuned-{number}")
        version = registry.register("model", model, labels={}, run_id="run").version
        registry.set_alias("model", "candidate", version, reason="a test")
    registry.set_alias("model", "champion", 2, reason="a test")


def _registered(folder: Path) -> dict[str, Any]:
    registry = FileRegistry(folder / MODELS)
    return {version.digest: sorted(version.aliases) for version in registry.list()}


def _log() -> None:
    segments.key(LOG)
    writer = segments.Writer(LOG, segment_bytes=60, fsync=True)
    for line in LINES:
        writer.append([line])
        print(f"acknowledged {line.decode()}", flush=True)
    writer.close()


def _logged(folder: Path) -> list[bytes]:
    return sorted(set(segments.lines(folder / LOG)))


def _lost_lines(folder: Path, said: str) -> list[str]:
    there = {line.decode() for line in segments.lines(folder / LOG)}
    told = [line.removeprefix("acknowledged ") for line in said.splitlines()]
    torn = [f"a line that nobody wrote: {line}" for line in there - {x.decode() for x in LINES}]
    return torn + [
        f"acknowledged and lost: {line}" for line in told if line[:1] == "{" and line not in there
    ]


WORKLOADS: Mapping[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("run", _toy, _commands("run +experiment=chain")),
        Workload("accept", _toy, _commands("run +experiment=chain", "accept NEWEST")),
        Workload(
            "gc", _toy, _commands("run +experiment=chain", "runs gc --keep 0 --grace-hours 0")
        ),
        Workload("dataset", _files, _commands("run +experiment=pairs")),
        Workload("registry", _nothing, _told(_register), _registered),
        Workload("log", _nothing, _told(_log), _logged, _lost_lines),
    )
}
