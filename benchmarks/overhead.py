"""What the pipeline costs: ten trivial steps against the same ten plain function calls.

    .venv/bin/python benchmarks/overhead.py

Each step reads a number from a JSON file, adds one and writes it; the plain program calls the same
function on files of a folder. Both are whole processes. The pipeline is run cold, every step for
the first time, with all that a run leaves: store, logs, record, report. Twenty steps beside the
ten tell what one more step costs, without what is paid once a run.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from harness import Sample, Summary, alternate, measure, publish, table
from workspace import Workspace

STEPS, MORE_STEPS = 10, 20
STEPS_MODULE = '''
"""One trivial step kind: add one to a number."""
import json
from dataclasses import dataclass
from pathlib import Path

def add_one(source, start, target):
    number = json.loads(source.read_text())["number"] if source else start
    target.write_text(json.dumps({"number": number + 1}))
'''
KINDS_MODULE = """
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
CALLS = f"""
import sys
from pathlib import Path
from add_one import add_one

source = None
for number in range({STEPS}):
    target = Path(sys.argv[1]) / f"{{number}}.json"
    add_one(source, 0, target)
    source = target
"""


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="llmops-benchmark-"))
    try:
        workspace = _workspace(folder)
        starts = itertools.count(1)
        contenders = {
            f"{STEPS} function calls": partial(_calls, workspace),
            f"pipeline of {STEPS} steps": partial(_pipeline, workspace, "ten", starts),
            f"pipeline of {MORE_STEPS} steps": partial(_pipeline, workspace, "twenty", starts),
        }
        summaries = alternate(contenders)
    finally:
        shutil.rmtree(folder)
    table(summaries)
    calls, ten, twenty = summaries.values()
    figures = {
        "per_step": {name: _over(ten, calls, STEPS, name) for name in ("wall", "cpu")},
        "one_more_step": {
            name: _over(twenty, ten, MORE_STEPS - STEPS, name) for name in ("wall", "cpu")
        },
        "results": summaries,
    }
    print("\noverhead a step, seconds       wall    CPU")
    for title, key in (
        ("all of it, over ten steps", "per_step"),
        ("one more step", "one_more_step"),
    ):
        print(f"  {title:26s} {figures[key]['wall']:6.3f} {figures[key]['cpu']:6.3f}")
    publish("overhead", figures, ("kfp",))


def _over(more: Summary, less: Summary, steps: int, figure: str) -> float:
    return (getattr(more, figure) - getattr(less, figure)) / steps


def _workspace(folder: Path) -> Workspace:
    workspace = Workspace(folder)
    workspace.module("add_one", STEPS_MODULE)
    workspace.module("add_one_kinds", KINDS_MODULE)
    workspace.entry_point("adding", "add_one_kinds")
    (folder / "calls.py").write_text(CALLS)
    workspace.experiment("ten", _chain(STEPS), steps=("adding",))
    workspace.experiment("twenty", _chain(MORE_STEPS), steps=("adding",))
    return workspace


def _chain(steps: int) -> str:
    lines = []
    for number in range(steps):
        lines += [f"  s{number}:", "    use: add_one", "    with: {start: 0}"]
        lines += [f"    takes: {{number: s{number - 1}.number}}"] if number else []
    return "\n".join(lines)


def _calls(workspace: Workspace) -> Sample:
    target = Path(tempfile.mkdtemp(dir=workspace.root))
    command = [sys.executable, "calls.py", str(target)]
    return measure(command, cwd=workspace.root, env=workspace.environment)


def _pipeline(workspace: Workspace, name: str, starts: itertools.count[int]) -> Sample:
    """Run a pipeline on a number it has not seen, so that nothing of it is cached."""
    start = f"pipeline.steps.s0.with.start={next(starts)}"
    return workspace.llmops("run", f"+experiment={name}", start)


if __name__ == "__main__":
    main()
