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
    all_of_it = {name: _over(ten, calls, STEPS, name) for name in ("wall", "cpu")}
    one_more = {name: _over(twenty, ten, MORE_STEPS - STEPS, name) for name in ("wall", "cpu")}
    print("\noverhead a step, seconds       wall    CPU")
    print(f"  all of it, over ten steps  {all_of_it['wall']:6.3f} {all_of_it['cpu']:6.3f}")
    print(f"  one more step              {one_more['wall']:6.3f} {one_more['cpu']:6.3f}")
    figures = {"per_step": all_of_it, "one_more_step": one_more, "results": summaries}
    publish("overhead", figures, ("kfp",))


def _over(more: Summary, less: Summary, steps: int, figure: str) -> float:
    difference: float = getattr(more, figure) - getattr(less, figure)
    return difference / steps


def _workspace(folder: Path) -> Workspace:
    workspace = Workspace(folder)
    workspace.adding("ten", STEPS)
    workspace.adding("twenty", MORE_STEPS)
    (folder / "calls.py").write_text(CALLS)
    return workspace


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
