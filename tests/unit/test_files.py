from __future__ import annotations

import errno
import os

import pytest

from llmops.errors import BackendError
from llmops.files import disk_errors, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_text(path, "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_the_permissions_of_an_ordinary_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_an_error_of_the_disk_says_where_how_much_is_free_and_what_to_set(tmp_path):
    with pytest.raises(BackendError) as caught, disk_errors(tmp_path, setting="store.path"):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))
    assert str(tmp_path / "x") in caught.value.problem
    assert "MB free" in caught.value.hint
    assert "store.path" in caught.value.hint
