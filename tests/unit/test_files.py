from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from llmops.errors import BackendError
from llmops.files import (
    discard,
    disk_errors,
    owner,
    read_bytes,
    read_text,
    remove_folder,
    write_text,
)


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


def refusing(number):
    def refuse(*args, **options):
        raise OSError(number, os.strerror(number), "the/file")

    return refuse


def test_a_system_that_refuses_to_read_says_nothing_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("ä", "utf-8")
    assert read_text(tmp_path / "a") == "ä"
    monkeypatch.setattr(Path, "read_bytes", refusing(errno.EMFILE))
    with pytest.raises(BackendError, match="Too many open files: the/file"):
        read_bytes(tmp_path / "a")


def test_a_file_that_is_not_there_is_told_as_such(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "a")


def test_a_folder_is_removed_with_all_that_is_in_it_and_a_missing_one_is_none(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("x")
    remove_folder(tmp_path / "a")
    remove_folder(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_removed_is_told(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("x")
    monkeypatch.setattr(os, "unlink", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        remove_folder(tmp_path / "a")


def test_a_discarded_folder_leaves_its_place_whole_and_its_rest_is_found_later(
    tmp_path, monkeypatch
):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "run.json").write_text("{}")
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refusing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            discard(tmp_path / "runs" / "one", tmp_path)
    assert not (tmp_path / "runs" / "one").exists()
    (rest,) = tmp_path.glob(f".tmp-{owner()}-*")
    assert (rest / "run.json").exists()


def test_discarding_a_folder_that_another_process_discarded_is_nothing(tmp_path):
    (tmp_path / "one").mkdir()
    discard(tmp_path / "one", tmp_path)
    discard(tmp_path / "one", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_does_not_say_how_much_is_free_is_told_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", refusing(errno.EIO))
    with pytest.raises(BackendError) as caught, disk_errors(tmp_path, setting="store.path"):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))
    assert caught.value.hint == "make room, allow writing there, or set store.path"
