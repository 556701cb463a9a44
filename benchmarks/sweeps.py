"""Members that share their data preparation, against as many separate workspaces.

    .venv/bin/python benchmarks/sweeps.py [MEMBERS, default 12]

The steps are those of the tests' toy project; preparing takes a second of CPU. Counts how often it
was done: once in the sweep, once a workspace apart.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import publish

from tests.fakes.toy_project import STEPS, ToyProject

TEXT = "pipeline.steps.s1.with.text"
BUSY_S = 1.0
BUSY = f"    end = time.process_time() + {BUSY_S}\n    while time.process_time() < end: pass\n"
PREPARED = "s0 said"


def main() -> None:
    members = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    folder = Path(tempfile.mkdtemp(prefix="llmops-benchmark-"))
    values = [f"v{number}" for number in range(members)]
    try:
        shared = _project(folder / "shared")
        sweep = _timed(shared, "run", "-m", "+experiment=words", f"{TEXT}={','.join(values)}")
        beside = _project(folder / "beside")
        launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
        swept = f"{TEXT}={','.join(values)}"
        parallel = _timed(beside, "run", "-m", "+experiment=words", swept, *launcher)
        apart, prepared = 0.0, 0
        for value in values:
            project = _project(folder / f"apart{value}")
            apart += _timed(project, "run", "+experiment=words", f"{TEXT}={value}")
            prepared += project.did().count(PREPARED)
        figures = {
            "members": members,
            "sweep": {"wall_s": sweep, "prepared": shared.did().count(PREPARED)},
            "two_at_a_time": {"wall_s": parallel, "prepared": beside.did().count(PREPARED)},
            "apart": {"wall_s": apart, "prepared": prepared},
        }
    finally:
        shutil.rmtree(folder)
    for name in ("sweep", "two_at_a_time", "apart"):
        print(f"{name:15s} {figures[name]['wall_s']:8.2f} s  prepared {figures[name]['prepared']}")
    publish("sweeps", figures, ("hydra-core", "joblib"))


def _project(root: Path) -> ToyProject:
    made = ToyProject(root)
    slow = STEPS.replace(
        'def say(work):\n    note(work, "said")\n',
        "def say(work):\n    note(work, 'said')\n" + BUSY,
    )
    assert slow != STEPS
    (made.site / "toy_steps.py").write_text(slow)
    made.chain("words", "say", "pass_on")
    return made


def _timed(project: ToyProject, *arguments: str) -> float:
    started = time.perf_counter()
    done = project.llmops(*arguments)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    os.environ.setdefault("NO_COLOR", "1")
    main()
