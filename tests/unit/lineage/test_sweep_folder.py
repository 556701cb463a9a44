"""The folder of a sweep: stable ids, whole files, one runner at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from llmops.errors import ConfigError, Refused
from llmops.lineage.sweep import (
    Member,
    all_sweeps,
    find_sweep,
    member_id,
    open_sweep,
    sweep_id,
)
from llmops.processes import this_process

ASKED = {"overrides": ["+experiment=words", "seed=1,2"]}


@pytest.fixture
def folder(tmp_path):
    return open_sweep(tmp_path, sweep_id("words", ["a"]), ASKED)


def member(number=1, **fields):
    overrides = (f"seed={number}",)
    return Member(member_id(number, overrides), number, overrides, **fields)


def test_an_id_depends_on_what_is_asked_and_on_nothing_else():
    assert sweep_id("words", ["a"]) == sweep_id("words", ["a"])
    assert sweep_id("words", ["a"]) != sweep_id("words", ["b"])


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


def test_a_torn_member_file_is_as_if_it_were_not_there(folder):
    folder.write(member(1, status="succeeded"))
    folder.write(member(2, status="succeeded"))
    (folder.path / "members" / f"{member(2).id}.json").write_text('{"id": "half')
    assert [one.number for one in folder.members()] == [1]


def test_a_member_whose_process_is_gone_has_died(folder):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    folder.write(member(1, status="running", process={**this_process(), "pid": child.pid}))
    folder.write(member(2, status="running", process=this_process()))
    assert [one.status for one in folder.members()] == ["died", "running"]


def test_only_one_process_runs_a_sweep(folder):
    with folder.running(), pytest.raises(Refused, match="is being run by"), folder.running():
        pass
    with folder.running():
        pass


def test_a_sweep_that_was_stopped_says_the_first_reason(folder):
    folder.stop("one")
    folder.stop("two")
    assert folder.stopped() == "one"
    folder.go_on()
    assert folder.stopped() is None


def test_a_sweep_is_found_by_the_beginning_of_its_id(tmp_path, folder):
    assert find_sweep(tmp_path, folder.id[:8]).id == folder.id
    with pytest.raises(ConfigError, match="there is no sweep"):
        find_sweep(tmp_path, "nothing")


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
    (old / "members" / "0123456789abcdef.json").write_text(json.dumps(kept))
    (old / "sweep.json").write_text(json.dumps({"overrides": ["x"], "members": [kept]}))
    (found,) = all_sweeps(tmp_path)
    assert [(one.run_id, one.tuned_loss) for one in found.members()] == [(kept["run_id"], 2.5)]
    (old / "members" / "0123456789abcdef.json").unlink()
    assert [one.run_id for one in found.members()] == [kept["run_id"]]


def test_a_clock_that_jumps_back_changes_no_order_and_loses_no_member(folder):
    first = folder.write(member(1, status="succeeded"))
    folder.write(replace(first, written="2031-01-01T00:00:00+00:00"))
    folder.write(member(2, status="succeeded"))
    assert [one.number for one in folder.members()] == [1, 2]
