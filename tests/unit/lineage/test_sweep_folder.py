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
    assert find_sweep(tmp_path, "words-second") == other


def test_a_torn_sweep_is_listed_last_and_can_be_asked_for_anew(tmp_path, folder):
    torn = open_sweep(tmp_path, "words-torn", ASKED)
    (torn.path / "sweep.json").write_text('{"id": ')
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
