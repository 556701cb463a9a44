"""A user's project in a folder of its own: step kinds, pipelines and experiments for benchmarks.

The step kinds are an installed package as far as Python can tell: modules and a dist-info folder
with an entry point, on ``PYTHONPATH``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness import Sample, measure

GROUPS_UNUSED = (
    "warehouse",
    "dataset",
    "prompt",
    "split",
    "model",
    "tuning",
    "predict",
    "evaluation",
    "safety",
    "gate",
    "deploy",
)
ADD_ONE = """
import json

def add_one(source, start, target):
    number = json.loads(source.read_text())["number"] if source else start
    target.write_text(json.dumps({"number": number + 1}))
"""
ADD_ONE_KINDS = """
from dataclasses import dataclass
from llmops.plan.kinds import Outcome, Port, StepKind, leaf
from add_one import add_one

@dataclass(frozen=True)
class Settings:
    start: int = leaf("with.start")

def run(work):
    add_one(work.inputs.get("number"), work.settings.start, work.outputs["number"])
    return Outcome()

KINDS = (
    StepKind(
        "add_one", 1, run, Settings,
        takes=(Port("number", "json", optional=True),), gives=(Port("number", "json"),),
    ),
)
"""

WAIT_KINDS = """
import time
from dataclasses import dataclass
from pathlib import Path
from llmops.plan.kinds import Outcome, Port, StepKind, leaf

@dataclass(frozen=True)
class Settings:
    seconds: float = leaf("with.seconds")

def run(work):
    with Path("began.txt").open("a") as file:
        file.write(f"{work.step} {time.time()}\\n")
    time.sleep(work.settings.seconds)
    work.outputs["out"].write_text('"done"')
    return Outcome()

IN, OUT = Port("in", "json", optional=True), Port("out", "json")
KINDS = (StepKind("wait", 1, run, Settings, takes=(IN,), gives=(OUT,)),)
"""


class Workspace:
    """A project at ``root``; commands run in it as a user would run them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.site = root / "site"
        for group in ("experiment", "pipeline"):
            (root / "conf" / group).mkdir(parents=True)
        self.site.mkdir()

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.site), "LLMOPS_WORKSPACE": str(self.root)}

    def adding(self, name: str, steps: int) -> None:
        """Write an experiment of ``steps`` steps in a chain, each adding one to a number."""
        (self.site / "add_one.py").write_text(ADD_ONE)
        (self.site / "add_one_kinds.py").write_text(ADD_ONE_KINDS)
        self._entry_point("adding", "add_one_kinds")
        lines = []
        for number in range(steps):
            lines += [f"  s{number}:", "    use: add_one", "    with: {start: 0}"]
            lines += [f"    takes: {{number: s{number - 1}.number}}"] if number else []
        self._experiment(name, "\n".join(lines), "adding")

    def waiting(self, name: str, steps: int, *, seconds: float) -> None:
        """Write an experiment of ``steps`` steps in a chain that note their begin and wait."""
        (self.site / "wait_kinds.py").write_text(WAIT_KINDS)
        self._entry_point("waiting", "wait_kinds")
        lines = []
        for number in range(steps):
            own = seconds + number / 1000  # no two steps are the same work
            lines += [f"  s{number}:", "    use: wait", f"    with: {{seconds: {own}}}"]
            lines += [f"    takes: {{in: s{number - 1}.out}}"] if number else []
        self._experiment(name, "\n".join(lines), "waiting")

    def _entry_point(self, name: str, module: str) -> None:
        info = self.site / f"{name}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[llmops.steps]\n{name} = {module}\n")

    def _experiment(self, name: str, pipeline: str, entry_point: str) -> None:
        header = f"# A pipeline for a benchmark.\n#   python -m llmops run +experiment={name}\n"
        (self.root / "conf" / "pipeline" / f"{name}.yaml").write_text(
            f"{header}name: {name}\nsteps:\n{pipeline}\n"
        )
        lines = ["# @package _global_", header, "defaults:", f"  - override /pipeline: {name}"]
        lines += [f"  - override /{group}: null" for group in GROUPS_UNUSED]
        lines += [f"name: {name}", "version: v1", "project:", f"  steps: [{entry_point}]"]
        (self.root / "conf" / "experiment" / f"{name}.yaml").write_text("\n".join(lines) + "\n")

    def llmops(self, *arguments: str) -> Sample:
        """Measure ``python -m llmops ARGUMENTS`` in the project."""
        command = [sys.executable, "-m", "llmops", *arguments]
        return measure(command, cwd=self.root, env=self.environment)
