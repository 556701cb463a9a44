"""The members of a sweep while they run: a table on a terminal, a line a change in a pipe."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from llmops.cli.sweep_screen import MOST_LIVE_ROWS, SweepScreen
from llmops.lineage.sweep import Member, open_sweep
from llmops.processes import this_process

WAITING = Member("001-aa", 1, ("+experiment=words", "tuning.seed=1"))


@pytest.fixture
def folder(tmp_path):
    return open_sweep(tmp_path, "words-1", {"overrides": []})


def shown(folder, *, terminal, during=lambda: None):
    """Return what the screen wrote; ``during`` is called while it is up."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, force_interactive=terminal, width=100)
    with SweepScreen(folder, console, poll_s=0.01) as screen:
        during()
        screen._show()
    return out.getvalue()


def test_a_terminal_shows_what_each_member_does(folder):
    folder.write(replace(WAITING, status="running", step="tune", process=this_process()))
    folder.write(Member("002-bb", 2, ("+experiment=words", "tuning.seed=2")))
    said = shown(folder, terminal=True)
    assert "1 running, 1 waiting" in said
    assert "tune" in said
    assert "tuning.seed=2" in said


def test_a_long_table_shows_those_that_run_first_and_counts_all(folder):
    for number in range(1, MOST_LIVE_ROWS + 11):
        folder.write(Member(f"{number:03}-aa", number, (f"tuning.seed={number}",)))
    last = Member("999-zz", 999, ("tuning.seed=999",), status="running", process=this_process())
    folder.write(last)
    said = shown(folder, terminal=True)
    assert f"1 running, {MOST_LIVE_ROWS + 10} waiting" in said
    assert "999-zz" in said
    assert f"{MOST_LIVE_ROWS + 10:03}-aa" not in said


def test_a_pipe_gets_one_line_each_time_a_member_changes(folder):
    folder.write(replace(WAITING, status="running", process=this_process()))

    def end():
        folder.write(replace(WAITING, status="succeeded", seconds=2.0))

    said = shown(folder, terminal=False, during=end).splitlines()
    assert said[0] == "sweep words-1"
    assert said[-1].startswith("001-aa, succeeded, tuning.seed=1")
    assert len([line for line in said if "succeeded" in line]) == 1


def test_a_member_whose_process_is_gone_is_shown_as_died(folder):
    gone = {"host": this_process()["host"], "pid": 2**22 + 1, "started": "1"}
    folder.write(replace(WAITING, status="running", process=gone))
    assert "001-aa, died" in shown(folder, terminal=False)
