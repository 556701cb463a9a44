from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmops import files
from llmops.errors import BackendError
from llmops.files import (
    clear_left_behind,
    discard,
    disk_errors,
    file_sha256,
    owner,
    publish,
    read_bytes,
    read_text,
    refusal,
    remove_folder,
    write_text,
)

NO_PROCESS = 2**22 + 1  # above the highest number that Linux gives


def test_a_file_is_named_by_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"\x00\r\n" * 100_000)
    expected = hashlib.sha256(b"\x00\r\n" * 100_000).hexdigest()
    assert file_sha256(tmp_path / "a") == expected


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_folder_after(tmp_path, monkeypatch):
    path = tmp_path / "runs" / "one" / "run.json"
    synced, fsync = [], os.fsync

    def note(handle):
        names = [found.name for found in path.parent.iterdir()]
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), names))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    write_text(path, "x")
    ((of_folder, (temporary,)), after) = synced
    assert not of_folder
    assert temporary.startswith(f".tmp-{owner()}-")
    assert after == (True, ["run.json"])
    assert path.read_text() == "x"


@pytest.mark.usefixtures("ascii_locale")
def test_a_text_is_utf_8_whatever_the_locale(tmp_path):
    write_text(tmp_path / "a", "ä")
    assert (tmp_path / "a").read_bytes() == "ä".encode()


def test_what_is_published_gets_the_folders_that_it_needs_and_replaces_what_is_there(tmp_path):
    for text in ("old", "new"):
        (tmp_path / "made").write_text(text)
        publish(tmp_path / "made", tmp_path / "a" / "b" / "c")
        assert (tmp_path / "a" / "b" / "c").read_text() == text
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_synced_is_told_as_what_it_is(tmp_path, monkeypatch):
    def broken(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        write_text(tmp_path / "a", "x")


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


@pytest.mark.parametrize(("umask", "mode"), [(0o027, 0o640), (0o022, 0o644), (0, 0o666)])
def test_a_written_file_has_the_permissions_of_an_ordinary_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        found = os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode
    assert found == umask


@pytest.fixture
def free(monkeypatch):
    """A disk with so much room, which only a folder that is there can tell."""

    def usage(folder):
        if not folder.exists():
            raise FileNotFoundError(folder)
        return SimpleNamespace(free=700_000_900_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (OSError(errno.ENOSPC, "No space left", "a/b"), "No space left: a/b"),
        (OSError(errno.ENOSPC, "No space left"), "No space left: {where}"),
        (OSError("the disk is gone"), "the disk is gone: {where}"),
    ],
)
def test_an_error_of_the_disk_says_where_how_much_is_free_and_what_to_set(tmp_path, error, problem):
    where = tmp_path / "not" / "there"
    with pytest.raises(BackendError) as caught, disk_errors(where, setting="store.path"):
        raise error
    assert caught.value.problem == problem.format(where=where)
    assert caught.value.hint == (
        f"{where} has 700,001 MB free; make room, allow writing there, or set store.path"
    )


@pytest.mark.usefixtures("free")
def test_a_refusal_that_nobody_caught_names_the_file_or_the_folder_of_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for named, where in ((("a/b",), "a/b"), ((), str(tmp_path))):
        found = refusal(OSError(errno.ENOSPC, "No space left", *named))
        assert found is not None
        assert found.problem == f"No space left: {where}"
        assert found.hint == (
            f"{where} has 700,001 MB free; make room, allow writing there, or set LLMOPS_WORKSPACE"
        )


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


def test_what_a_dead_process_left_is_cleared_file_and_folder_and_no_name_that_only_looks_so(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(files.socket, "gethostname", lambda: "host-[1]")
    left = f".tmp-host-[1]-{NO_PROCESS}-x-y"
    others = (
        f".tmp-host-[1]-{os.getpid()}-x",
        ".tmp-host-[1]-x-1",
        ".tmp-host-[1]-",
        f".tmp-host-1-{NO_PROCESS}-x",
        f"host-[1]-{NO_PROCESS}-x",
    )
    for name in others:
        (tmp_path / name).write_text("")
    (tmp_path / left).write_text("half")
    (tmp_path / f"{left}-folder" / "in").mkdir(parents=True)
    clear_left_behind(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others)


def test_clearing_what_another_process_cleared_meanwhile_is_nothing(tmp_path, monkeypatch):
    left = tmp_path / f"{owner().rpartition('-')[0]}-{NO_PROCESS}-x"
    left.write_text("half")
    monkeypatch.setattr(files, "is_running", lambda pid: left.unlink())
    clear_left_behind(tmp_path, prefix="")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_does_not_say_how_much_is_free_is_told_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", refusing(errno.EIO))
    with pytest.raises(BackendError) as caught, disk_errors(tmp_path, setting="store.path"):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))
    assert caught.value.hint == "make room, allow writing there, or set store.path"
