"""Whether a process that a file names still runs."""

from __future__ import annotations

import subprocess
import sys

from llmops.processes import is_running, still_running, this_process


def test_this_process_runs():
    assert still_running(this_process()) is True


def test_a_number_that_was_given_to_another_process_is_not_the_same_process():
    assert still_running({**this_process(), "started": "1"}) is False


def test_a_process_that_has_ended_does_not_run():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert is_running(child.pid) is False
    assert still_running({**this_process(), "pid": child.pid}) is False


def test_of_another_machine_nothing_is_known():
    assert still_running({**this_process(), "host": "elsewhere"}) is None
    assert still_running(None) is None
