"""What a killed process left half-written, and what a system refuses."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from llmops.errors import BackendError
from llmops.files import clear_left_behind, owner, refusal


def _of_a_dead_process(folder):
    script = (
        "import os, sys; from pathlib import Path; from llmops.files import owner\n"
        "Path(sys.argv[1], f'.tmp-{owner()}-x').write_text('half')"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)


def test_what_a_dead_process_left_is_cleared_and_nothing_else(tmp_path):
    _of_a_dead_process(tmp_path)
    of_the_living = tmp_path / f".tmp-{owner()}-y"
    of_another_machine = tmp_path / ".tmp-elsewhere-1-z"
    for path in (of_the_living, of_another_machine, tmp_path / "kept"):
        path.write_text("")
    assert len(list(tmp_path.iterdir())) == 4
    clear_left_behind(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        of_the_living.name,
        of_another_machine.name,
        "kept",
    }


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EROFS])
def test_a_refusal_of_the_system_is_a_backend_error_with_the_place(number, tmp_path):
    found = refusal(OSError(number, os.strerror(number), str(tmp_path / "file")))
    assert isinstance(found, BackendError)
    assert "file" in found.problem
    assert "MB free" in found.hint


@pytest.mark.parametrize("bug", [ValueError("no"), FileNotFoundError(errno.ENOENT, "gone")])
def test_a_bug_is_no_refusal(bug):
    assert refusal(bug) is None
