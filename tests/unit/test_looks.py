"""How often a test set was looked at: fresh measurements count, cached ones do not."""

from __future__ import annotations

import pytest

from llmops.lineage.looks import looked


def steps(status="done", test="aa" * 32):
    return [
        {"kind": "predict", "status": "cached", "inputs": {"test": test}},
        {"kind": "evaluate", "status": status, "inputs": {}},
    ]


def test_each_fresh_measurement_is_a_look(tmp_path):
    looked(tmp_path, "run-1", "config-1", steps())
    found = looked(tmp_path, "run-2", "config-2", steps())
    assert (found["looks"], found["configs"]) == (2, 2)


def test_a_cached_measurement_is_no_new_look(tmp_path):
    looked(tmp_path, "run-1", "config-1", steps())
    assert looked(tmp_path, "run-2", "config-1", steps("cached"))["looks"] == 1


def test_another_test_set_has_its_own_count(tmp_path):
    looked(tmp_path, "run-1", "config-1", steps())
    assert looked(tmp_path, "run-2", "config-1", steps(test="bb" * 32))["looks"] == 1


@pytest.mark.parametrize("found", [[], steps("failed"), steps()[1:]])
def test_a_run_that_measured_nothing_looked_at_nothing(tmp_path, found):
    assert looked(tmp_path, "run-1", "config-1", found) is None
    assert not (tmp_path / ".llmops").exists()


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path):
    looked(tmp_path, "run-1", "config-1", steps())
    (path,) = (tmp_path / ".llmops" / "looks").iterdir()
    path.write_text(path.read_text() + '{"run_id": "run-')
    assert looked(tmp_path, "run-2", "config-1", steps("cached"))["looks"] == 1
