"""Fill a warehouse with questions and answers from the standard library's docstrings.

The texts are gathered by ``docstrings.py`` in a process of its own. Knows nothing of queries.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from llmops.adapters.warehouse import docstrings, load, posts
from llmops.adapters.warehouse.shelf import Shelf, StoredTable
from llmops.errors import BackendError

TIMEOUT_S = 120
OF = "the sample is made of docstrings of Python's standard library (PSF-2.0)"


def fill(shelf: Shelf, memory_limit: str) -> None:
    """Make both tables of the sample unless they are there; safe with several processes.

    Raises:
        BackendError: If the docstrings cannot be gathered or the disk is full.
    """
    if {posts.QUESTIONS, posts.ANSWERS} <= shelf.tables().keys():
        return
    with shelf.locked():
        if {posts.QUESTIONS, posts.ANSWERS} <= shelf.tables().keys():
            return  # another process was faster
        with tempfile.TemporaryDirectory(dir=shelf.temporary) as folder:
            _gather(Path(folder))
            shelf.publish(_build(shelf, Path(folder), memory_limit))


def source() -> str:
    """Say where the sample's rows come from."""
    return f"docstrings of the Python {platform.python_version()} standard library"


def _gather(folder: Path) -> None:
    command = [sys.executable, "-I", str(Path(docstrings.__file__)), str(folder)]
    try:
        subprocess.run(
            command, check=True, capture_output=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.CalledProcessError as exc:
        last = exc.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [
            "no reason given"
        ]
        raise BackendError(f"the sample could not be made: {last[0]}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BackendError(f"the sample could not be made: {exc}", retryable=True) from exc


def _build(shelf: Shelf, folder: Path, memory_limit: str) -> dict[Path, StoredTable]:
    made = {}
    first = shelf.new_file()
    for number, (table, file) in enumerate(
        {posts.QUESTIONS: "questions.jsonl", posts.ANSWERS: "answers.jsonl"}.items()
    ):
        target = first.with_stem(f"{first.stem}-{number}")
        rows = load.Source(folder / file, "jsonl", source(), posts.COLUMNS)
        made[target] = load.build(
            rows, table, target, memory_limit=memory_limit, temporary=shelf.temporary
        )
    return made
