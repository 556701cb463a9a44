"""What a killed process left half-written, and what a system refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
from functools import partial

import pytest

from llmops.adapters.model import checkpoint
from llmops.artifacts import read_reference
from llmops.config import documents
from llmops.data.own_files import read_files
from llmops.errors import BackendError, LlmopsError
from llmops.evaluation.responses import is_part
from llmops.files import clear_left_behind, owner, refusal
from llmops.lineage.lock import read_lock
from llmops.lineage.run_folder import RunFolder
from llmops.lineage.sweep import SweepFolder


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


@pytest.mark.parametrize(
    "look",
    [
        lambda path: documents.read(path, "conf/x.yaml"),
        lambda path: list(read_files([path])),
        lambda path: RunFolder(path.parent).record(),
        lambda path: RunFolder(path.parent).config(),
        lambda path: RunFolder(path.parent).plan(),
        lambda path: RunFolder(path.parent).origins(),
        lambda path: SweepFolder(path.parent).asked(),
        lambda path: SweepFolder(path.parent).stopped(),
        lambda path: SweepFolder(path.parent).members(),
        lambda path: read_lock(path),
        lambda path: read_reference(path),
        lambda path: is_part(path, "tuned", ["a"]),
        lambda path: checkpoint.read(path.parent, belongs_to="a run"),
    ],
)
def test_what_the_system_refuses_to_read_is_a_refusal_and_no_missing_or_wrong_file(look, tmp_path):
    names = ("run.json", "config.yaml", "plan.json", "provenance.json", "sweep.json", "stop")
    for name in (*names, "members/1.json", "checkpoint-00000001/state.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    look_again = partial(look, tmp_path / "run.json")
    with contextlib.suppress(LlmopsError, ValueError):
        look_again()  # whatever it imports is there now
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises((OSError, BackendError)) as caught:
            look_again()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert isinstance(refusal(caught.value) or caught.value, BackendError)
