"""Tasks as forks: their own process, KFP's own executor, nothing left in the parent."""

from __future__ import annotations

import json
import os
import textwrap

import pytest

from llmops.engines.forked_tasks import forked_tasks, run_task


@pytest.fixture
def run(tmp_path):
    def run_source(source, **env):
        executor_input = {"inputs": {}, "outputs": {"outputFile": str(tmp_path / "output.json")}}
        return run_task(
            [
                *("sh", "-c", "a script that a fork does not need", textwrap.dedent(source)),
                *("--executor_input", json.dumps(executor_input)),
                *("--function_to_execute", "task"),
            ],
            env,
        )

    return run_source


def test_what_a_task_prints_is_printed_and_its_success_is_told(run, capfd):
    assert run("def task():\n    print('said by the task')") == 0
    assert "said by the task" in capfd.readouterr().out


def test_a_task_that_raises_fails_and_shows_its_cause(run, capfd):
    assert run("def task():\n    raise ValueError('no such luck')") == 1
    assert "ValueError: no such luck" in "".join(capfd.readouterr())


def test_a_task_ends_with_its_own_exit_code(run):
    assert run("def task():\n    raise SystemExit(7)") == 7


def test_a_killed_task_is_no_success(run):
    assert run("import os, signal\ndef task():\n    os.kill(os.getpid(), signal.SIGKILL)") == -9


def test_a_task_leaves_nothing_in_the_parent(run, capfd):
    source = """
    import os

    def task():
        import json
        json.changed_by_a_task = True
        os.environ["CHANGED_BY_A_TASK"] = "yes"
        print(os.environ["GIVEN"], os.environ["_KFP_RUNTIME"])
    """
    assert run(source, GIVEN="given") == 0
    assert "given true" in capfd.readouterr().out
    assert not hasattr(json, "changed_by_a_task")
    assert {"CHANGED_BY_A_TASK", "GIVEN", "_KFP_RUNTIME"}.isdisjoint(os.environ)


def test_kfp_has_its_own_way_back_afterwards():
    from kfp.local import subprocess_task_handler as handler

    before = handler.run_local_subprocess
    with forked_tasks():
        assert handler.run_local_subprocess is run_task
    assert handler.run_local_subprocess is before
