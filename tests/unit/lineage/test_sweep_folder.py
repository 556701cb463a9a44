"""The folder of a sweep: stable ids, whole files, one runner at a time."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest

from llmops.errors import BackendError, ConfigError, Refused
from llmops.lineage import sweep
from llmops.lineage.sweep import (
    Member,
    all_sweeps,
    failed,
    find_sweep,
    finished,
    member_id,
    open_sweep,
    sweep_id,
)
from llmops.processes import this_process
from tests.fakes.many_runs import record as run_record

ASKED = {"overrides": ["+experiment=words", "seed=1,2"]}


@pytest.fixture
def folder(tmp_path):
    return open_sweep(tmp_path, sweep_id("words", ["a"]), ASKED)


class Frozen(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime(2026, 11, 25, 10, 15, 2, 345678, tzinfo=tz)


@pytest.fixture
def frozen(monkeypatch):
    monkeypatch.setattr(sweep, "datetime", Frozen)


@pytest.fixture
def three_mb_free(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=3_000_000))


def member(number=1, **fields):
    overrides = (f"seed={number}",)
    return Member(member_id(number, overrides), number, overrides, **fields)


def test_an_id_depends_on_what_is_asked_and_on_nothing_else():
    assert sweep_id("words", ["a"]) == sweep_id("words", ["a"]) == "words-0eb5b8d6f8"
    assert sweep_id("words", ["b"]) == "words-a8950f05d3"
    assert member_id(7, ["seed=7"]) == member_id(7, ("seed=7",)) == "007-4f941175"
    assert member_id(1000, ["seed=8"]) == "1000-d2072e54"


@pytest.mark.usefixtures("frozen")
def test_a_new_sweep_says_what_was_asked_and_when(tmp_path):
    made = open_sweep(tmp_path, "words-new", {"overrides": ["name=ä"]})
    assert made.path == tmp_path / "runs" / "sweeps" / "words-new"
    assert sorted(path.name for path in made.path.iterdir()) == ["members", "sweep.json"]
    assert (made.path / "sweep.json").read_text("utf-8") == (
        "{\n"
        ' "schema": 2,\n'
        ' "id": "words-new",\n'
        ' "started": "2026-11-25T10:15:02+00:00",\n'
        ' "overrides": [\n'
        '  "name=ä"\n'
        " ]\n"
        "}\n"
    )


def test_opening_a_sweep_again_keeps_what_it_says(tmp_path, folder):
    folder.note(status="finished")
    again = open_sweep(tmp_path, folder.id, {"overrides": ["other"]})
    assert again.asked()["status"] == "finished"
    assert again.asked()["overrides"] == ASKED["overrides"]


def test_members_come_back_by_number(folder):
    for number in (2, 10, 1):
        folder.write(member(number, status="succeeded", value=0.5))
    assert [one.number for one in folder.members()] == [1, 2, 10]
    assert folder.members()[0].value == 0.5


@pytest.mark.usefixtures("frozen")
def test_a_member_comes_back_as_it_was_written_with_the_moment(folder):
    one = member(1, status="succeeded", value=0.5, problem="ä", process={"host": "here"})
    written = folder.write(one)
    assert written == replace(one, written="2026-11-25T10:15:02.345+00:00")
    assert folder.members() == [written]


def test_a_member_whose_figure_is_no_number_is_not_written(folder):
    kept = folder.write(member(1, value=0.5))
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write(replace(kept, value=math.nan))
    assert folder.members() == [kept]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b'{"id": "half', b"\xff", b'{"id": "no overrides"}', b'{"overrides": 5}'),
        *(b"[]", b"null", b"5", b'"overrides"'),
    ],
)
def test_a_torn_member_file_is_as_if_it_were_not_there(folder, content):
    folder.write(member(1, status="succeeded"))
    folder.write(member(2, status="succeeded"))
    (folder.path / "members" / f"{member(2).id}.json").write_bytes(content)
    assert [one.number for one in folder.members()] == [1]


def test_a_member_file_that_goes_away_while_it_is_looked_for_is_left_out(folder):
    folder.write(member(1, status="succeeded"))
    (folder.path / "members" / "gone.json").symlink_to("nothing")
    assert [one.number for one in folder.members()] == [1]


def test_a_member_whose_process_is_gone_has_died(folder):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    gone, elsewhere = {**this_process(), "pid": child.pid}, {**this_process(), "host": "elsewhere"}
    first = folder.write(member(1, status="running", process=gone))
    others = [
        folder.write(member(2, status="running", process=this_process())),
        folder.write(member(3, status="running", process=elsewhere)),
        folder.write(member(4, status="succeeded", process=gone)),
    ]
    died = replace(
        first,
        status="died",
        exit_code=5,
        problem="its process was killed",
        hint="was the machine short of memory? resume the sweep",
    )
    assert folder.members() == [died, *others]


def test_only_one_process_runs_a_sweep(folder):
    with folder.running(), pytest.raises(Refused) as told, folder.running():
        pass
    assert told.value.problem == f"sweep {folder.id} is being run by process {os.getpid()}"
    assert told.value.hint == f"watch it: python -m llmops sweeps show {folder.id}"
    with folder.running():
        pass


def test_a_sweep_that_was_stopped_says_the_first_reason(folder):
    folder.stop("one")
    folder.stop("two")
    assert folder.stopped() == "one"
    for _ in range(2):
        folder.go_on()
        assert folder.stopped() is None


@pytest.mark.usefixtures("three_mb_free")
@pytest.mark.parametrize(
    "write",
    [
        lambda folder: folder.stop("enough"),
        lambda folder: folder.note(status="finished"),
        lambda folder: folder.write(member()),
    ],
)
def test_a_disk_that_refuses_is_told_with_what_to_do(folder, monkeypatch, write):
    def refuse(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sweep, "write_text", refuse)
    with pytest.raises(BackendError) as told:
        write(folder)
    assert told.value.problem == f"No space left on device: {folder.path}"
    assert told.value.hint == (
        f"{folder.path} has 3 MB free; make room, allow writing there, or set LLMOPS_WORKSPACE"
    )


@pytest.mark.usefixtures("three_mb_free")
def test_a_workspace_that_refuses_a_new_sweep_is_told_with_what_to_do(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(BackendError) as told:
        open_sweep(tmp_path, "words-new", ASKED)
    assert told.value.problem == f"Not a directory: {tmp_path}/runs/sweeps/words-new/members"
    assert told.value.hint == (
        f"{tmp_path}/runs has 3 MB free; make room, allow writing there, or set LLMOPS_WORKSPACE"
    )


def test_a_sweep_is_found_by_the_beginning_of_its_id(tmp_path, folder):
    assert find_sweep(tmp_path, folder.id[:8]).id == folder.id


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nothing", "python -m llmops sweeps list"),
        ("word-second", "did you mean 'words-second'? python -m llmops sweeps list"),
    ],
)
def test_a_sweep_that_is_not_there_is_told_with_the_nearest(tmp_path, name, hint):
    open_sweep(tmp_path, "words-second", ASKED)
    with pytest.raises(ConfigError) as told:
        find_sweep(tmp_path, name)
    assert told.value.problem == f"there is no sweep '{name}' under {tmp_path}/runs/sweeps"
    assert told.value.hint == hint


def test_sweeps_are_listed_by_when_they_began_the_last_first(tmp_path):
    began = {
        "d": "2026-11-24T00:00:00+00:00",
        "a": "2026-11-23T00:00:00+00:00",
        "20261123-101502-7b1e": None,  # of the first release, which said it only in the name
        "c": "2026-11-22T23:59:59+00:00",
        "b": "2025-12-31T00:00:00+00:00",
    }
    for name in sorted(began):
        open_sweep(tmp_path, name, ASKED).note(started=began[name])
    assert [one.id for one in all_sweeps(tmp_path)] == list(began)


def test_a_sweep_of_the_first_release_reads_on(tmp_path):
    old = tmp_path / "runs" / "sweeps" / "20261123-101502-7b1e"
    (old / "members").mkdir(parents=True)
    kept = {
        "overrides": ["+experiment=so_python", "seed=1"],
        "run_id": "20261123-101503-aaaa",
        "experiment": "so_python",
        "status": "succeeded",
        "exit_code": 0,
        "tuned_loss": 2.5,
        "written": "2026-11-23T10:15:09+00:00",
    }
    second = {**kept, "overrides": ["seed=2"], "a field of that time": 1}
    (old / "members" / "0123456789abcdef.json").write_text(json.dumps(kept))
    (old / "sweep.json").write_text(json.dumps({"overrides": ["x"], "members": [kept, second]}))
    (found,) = all_sweeps(tmp_path)
    told = {**kept, "overrides": ("+experiment=so_python", "seed=1")}
    assert found.members() == [Member(id="0123456789abcdef", number=0, **told)]
    (old / "members" / "0123456789abcdef.json").unlink()
    assert found.members() == [
        Member(id="001-1524cfac", number=1, **told),
        Member(id="002-7345a82c", number=2, **{**told, "overrides": ("seed=2",)}),
    ]


def test_a_clock_that_jumps_back_changes_no_order_and_loses_no_member(folder):
    first = folder.write(member(1, status="succeeded"))
    folder.write(replace(first, written="2031-01-01T00:00:00+00:00"))
    folder.write(member(2, status="succeeded"))
    assert [one.number for one in folder.members()] == [1, 2]


def test_members_change_numbers_and_money_one_at_a_time(folder):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from llmops.lineage.sweep import SweepFolder\n"
        "with SweepFolder(Path(sys.argv[1])).ledger():\n"
        "    print('in', flush=True); time.sleep(float(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", script, str(folder.path), "0.3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"in\n"
        with folder.ledger():
            assert other.wait(5) == 0  # it was through before this one got in


def test_a_beginning_that_fits_several_sweeps_names_them(tmp_path, folder):
    other = open_sweep(tmp_path, "words-second", ASKED)
    with pytest.raises(ConfigError, match="several sweeps start with 'words'") as told:
        find_sweep(tmp_path, "words")
    assert told.value.hint == ", ".join(sorted([folder.id, other.id]))
    open_sweep(tmp_path, "words-second-again", ASKED)
    assert find_sweep(tmp_path, "words-second") == other


@pytest.mark.parametrize("content", ['{"id": ', "[]", "null"])
def test_a_torn_sweep_is_listed_last_and_can_be_asked_for_anew(tmp_path, folder, content):
    torn = open_sweep(tmp_path, "words-torn", ASKED)
    (torn.path / "sweep.json").write_text(content)
    assert [one.id for one in all_sweeps(tmp_path)] == [folder.id, torn.id]
    with pytest.raises(ConfigError, match="holds no readable sweep") as told:
        torn.asked()
    assert told.value.hint == "python -m llmops sweeps list"
    assert open_sweep(tmp_path, torn.id, ASKED).asked()["overrides"] == ASKED["overrides"]


def test_a_member_that_fails_says_what_to_do(folder):
    one = failed(member(1, step="tune"), Refused("over the budget", hint="raise it"))
    assert (one.status, one.step, one.exit_code) == ("failed", None, 3)
    assert (one.problem, one.hint) == ("over the budget", "raise it")
    assert failed(member(1), Refused("no")).hint is None


def test_a_member_that_ends_repeats_what_its_run_says(folder):
    record = {
        **run_record(7),
        "status": "refused",
        "error": {"problem": "the gate", "hint": ""},
        "estimates": {"total": {"actual": {"money": {"value": 1.5}}}},
    }
    one = finished(member(1, step="gate"), record, 3)
    assert (one.status, one.exit_code, one.step) == ("refused", 3, None)
    assert (one.run_id, one.experiment) == (record["run_id"], "so_python")
    assert (one.config_digest, one.seconds) == (record["config_digest"], record["seconds"])
    assert (one.problem, one.hint, one.money) == ("the gate", None, 1.5)
    assert one.steps == len(record["steps"])
    assert one.cached_steps == sum(step["status"] == "cached" for step in record["steps"])
    assert one.tuned_loss == record["metrics"]["contestants"]["tuned"]["loss"]["value"]
    bare = finished(member(1), {**record, "error": None, "estimates": None, "metrics": None}, 0)
    assert (bare.problem, bare.money, bare.tuned_loss) == (None, None, None)
    hinted = finished(member(1), {**record, "error": {"problem": "no", "hint": "raise it"}}, 3)
    assert (hinted.problem, hinted.hint) == ("no", "raise it")
