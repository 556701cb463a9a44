"""Where and with what a run ran: git, package versions, the machine. Reads, never writes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops import __version__
from llmops.packages import installed_version
from llmops.processes import usable_cores
from llmops.secrecy import masked

RECORDED_PACKAGES = (
    "hydra-core",
    "omegaconf",
    "kfp",
    "duckdb",
    "sqlglot",
    "pyarrow",
    "scikit-learn",
    "torch",
    "transformers",
    "peft",
    "google-cloud-bigquery",
    "google-cloud-aiplatform",
    "google-genai",
)

SURROUNDINGS = ("llmops", "python", "packages", "git", "machine", "command")


def surroundings(workspace: Path) -> dict[str, Any]:
    """Return git state, versions and machine, as the run record holds them."""
    return {
        "llmops": __version__,
        "python": platform.python_version(),
        "packages": _versions(),
        "git": git_state(workspace),
        "machine": {
            "platform": platform.platform(),
            "cores": usable_cores(),
            "memory_bytes": _memory_bytes(),
        },
        "command": [masked(word) for word in (Path(sys.argv[0]).name, *sys.argv[1:])],
    }


def git_state(workspace: Path) -> Mapping[str, Any] | None:
    """Return commit, branch and whether the tree was dirty; None outside a repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(workspace), "status", "--porcelain=v2", "--branch"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    heads = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
    commit = heads.get("branch.oid", "")
    return {
        "commit": None if commit == "(initial)" else commit,
        "branch": heads.get("branch.head"),
        "dirty": any(not line.startswith("#") for line in lines),
    }


def _versions() -> dict[str, str]:
    found = {package: installed_version(package) for package in RECORDED_PACKAGES}
    return {package: version for package, version in found.items() if version is not None}


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
