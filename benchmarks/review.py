"""CPU seconds of reviewing: ``plan`` in a workspace that ran, ``diff`` over many experiments.

    python benchmarks/review.py

``diff`` compares two commits of a repository with 200 experiments of which 5 changed, each over the
whole supervised pipeline. Prints medians and writes ``benchmarks/out/review.json``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Sample, alternate, measure, publish, table

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS, CHANGED = 200, 5
REACH = {"plan +experiment=so_python": 1.0, f"diff, {CHANGED} of {EXPERIMENTS} changed": 5.0}


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Bench", "-c", "user.email=bench@example.org")
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def repository(root: Path) -> None:
    """Make a project with many experiments, commit it, change some of them, commit again."""
    shutil.copytree(ROOT / "conf", root / "conf")
    folder = root / "conf" / "experiment"
    text = (folder / "so_python.yaml").read_text("utf-8")
    for number in range(EXPERIMENTS - 2):  # two are shipped
        name = f"variant_{number:03}"
        own = text.replace("name: so_python", f"name: {name}")
        (folder / f"{name}.yaml").write_text(
            own.replace("max_steps: 40", f"max_steps: {number + 1}")
        )
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "before")
    for number in range(CHANGED):
        file = folder / f"variant_{number * 30:03}.yaml"
        file.write_text(file.read_text("utf-8").replace("profanity: 0.8", "profanity: 0.9"))
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "after")


def llmops(root: Path, *arguments: str) -> Sample:
    command = [sys.executable, "-m", "llmops", *arguments]
    return measure(command, cwd=root, env={"LLMOPS_WORKSPACE": str(root)})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        repository(root)
        # fills the sample and lets the warehouse remember its check, as a first run does
        subprocess.run(
            [sys.executable, "-m", "llmops", "run", "+experiment=so_python", "--only", "ingest"],
            cwd=root,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        summaries = alternate(
            {
                "plan +experiment=so_python": lambda: llmops(root, "plan", "+experiment=so_python"),
                f"diff, {CHANGED} of {EXPERIMENTS} changed": lambda: llmops(
                    root, "diff", "HEAD~1", "HEAD"
                ),
            }
        )
        table(summaries)
        for name, reach in REACH.items():
            print(f"{name}: {summaries[name].cpu:.2f} CPU s, to reach {reach:.1f}")
        publish("review", {"reach": REACH, "figures": summaries}, ("hydra-core", "duckdb"))


if __name__ == "__main__":
    main()
