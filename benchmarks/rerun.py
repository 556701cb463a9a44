"""An unchanged rerun of four steps against a no-op `dvc repro` of four stages.

    .venv/bin/python benchmarks/rerun.py

Both sides have the same work behind them (add one to a number in a JSON file, four times in a
chain), have done it once, and are asked to do it again with nothing changed. Both are whole
commands, as a user types them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from harness import Sample, alternate, measure, publish, table
from workspace import Workspace

STAGES = 4
DVC = (sys.executable, "-m", "dvc")
QUIET = {
    "DVC_NO_ANALYTICS": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "benchmark",
    "GIT_AUTHOR_EMAIL": "benchmark@localhost",
    "GIT_COMMITTER_NAME": "benchmark",
    "GIT_COMMITTER_EMAIL": "benchmark@localhost",
}
STAGE_PROGRAM = """
import json, sys
from pathlib import Path

number = json.loads(Path(sys.argv[1]).read_text())["number"]
Path(sys.argv[2]).write_text(json.dumps({"number": number + 1}))
"""


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="llmops-benchmark-"))
    try:
        workspace = _workspace(folder / "llmops")
        repository = _repository(folder / "dvc")
        rerun = partial(workspace.llmops, "run", "+experiment=four")
        rerun()
        summaries = alternate({"llmops run": rerun, "dvc repro": partial(_repro, repository)})
    finally:
        shutil.rmtree(folder)
    table(summaries)
    ours, theirs = summaries["llmops run"], summaries["dvc repro"]
    ratio = {"wall": ours.wall / theirs.wall, "cpu": ours.cpu / theirs.cpu}
    print(f"\nllmops / dvc: wall {ratio['wall']:.2f}, CPU {ratio['cpu']:.2f}")
    publish("rerun", {"ratio": ratio, "results": summaries}, ("hydra-core", "dvc"))


def _workspace(root: Path) -> Workspace:
    root.mkdir()
    workspace = Workspace(root)
    workspace.adding("four", STAGES)
    return workspace


def _repository(root: Path) -> Path:
    root.mkdir()
    (root / "add_one.py").write_text(STAGE_PROGRAM)
    (root / "0.json").write_text('{"number": 0}')
    stages = [
        f"  s{number}:\n    cmd: {sys.executable} add_one.py {number}.json {number + 1}.json\n"
        f"    deps: [add_one.py, {number}.json]\n    outs: [{number + 1}.json]\n"
        for number in range(STAGES)
    ]
    (root / "dvc.yaml").write_text(f"stages:\n{''.join(stages)}")
    for command in (
        ("git", "init", "--quiet"),
        (*DVC, "init", "--quiet"),
        (*DVC, "repro", "--quiet"),
        ("git", "add", "--all"),
        ("git", "commit", "--quiet", "--message", "all"),
    ):
        subprocess.run(command, cwd=root, env={**os.environ, **QUIET}, check=True)
    return root


def _repro(repository: Path) -> Sample:
    return measure((*DVC, "repro"), cwd=repository, env=QUIET)


if __name__ == "__main__":
    main()
