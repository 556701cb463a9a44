"""A user's project in a folder of its own: step kinds, pipelines and experiments for benchmarks.

The step kinds are an installed package as far as Python can tell: modules and a dist-info folder
with an entry point, on ``PYTHONPATH``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
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

    def module(self, name: str, source: str) -> None:
        """Write a module that Python can import."""
        (self.site / f"{name}.py").write_text(source)

    def entry_point(self, name: str, module: str) -> None:
        """Offer a module's step kinds under ``name``."""
        info = self.site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[llmops.steps]\n{name} = {module}\n")

    def experiment(self, name: str, pipeline: str, steps: Sequence[str] = ()) -> None:
        """Write an experiment with a pipeline of its own; ``steps`` are entry points."""
        header = f"# A pipeline for a benchmark.\n#   python -m llmops run +experiment={name}\n"
        (self.root / "conf" / "pipeline" / f"{name}.yaml").write_text(
            f"{header}name: {name}\nsteps:\n{pipeline}\n"
        )
        lines = ["# @package _global_", header, "defaults:", f"  - override /pipeline: {name}"]
        lines += [f"  - override /{group}: null" for group in GROUPS_UNUSED]
        lines += [f"name: {name}", "version: v1", "project:", f"  steps: [{', '.join(steps)}]"]
        (self.root / "conf" / "experiment" / f"{name}.yaml").write_text("\n".join(lines) + "\n")

    def llmops(self, *arguments: str) -> Sample:
        """Measure ``python -m llmops ARGUMENTS`` in the project."""
        command = [sys.executable, "-m", "llmops", *arguments]
        return measure(command, cwd=self.root, env=self.environment)
