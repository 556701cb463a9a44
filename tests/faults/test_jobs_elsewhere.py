"""What goes wrong between a run and its job elsewhere: nothing is done twice, nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from llmops import api
from llmops.errors import Unattended
from llmops.lineage.run_folder import all_runs
from tests.fakes.cloud_project import Elsewhere, elsewhere
from tests.fakes.toy_project import end_group

SUBMIT = {"vertex": "/pipelineJobs$", "kubeflow": "/runs$"}
BY_NAME = {"vertex": "/pipelineJobs/", "kubeflow": "/runs/"}


@pytest.fixture(params=("vertex", "kubeflow"))
def place(request, tmp_path, monkeypatch):
    with elsewhere(request.param, tmp_path) as made:
        made.enter(monkeypatch)
        made.project.chain("words", "say", "pass_on")
        yield made


@pytest.fixture
def vertex(tmp_path, monkeypatch):
    """One of the two, where the code that is tested is the same."""
    with elsewhere("vertex", tmp_path) as made:
        made.enter(monkeypatch)
        made.project.chain("words", "say", "pass_on")
        yield made


def run(place: Elsewhere, *overrides: str, **options):
    return api.run(["+experiment=words", *place.overrides, *overrides], **options)


def the_record() -> dict:
    (folder,) = all_runs(Path.cwd())
    return folder.record()


def submissions(place: Elsewhere) -> int:
    return len(place.service.jobs if place.engine == "vertex" else place.service.runs)


def did_once(place: Elsewhere) -> bool:
    return sorted(place.did()) == ["s0 said", "s1 passed"]


def test_a_storm_of_503_is_waited_out(place):
    place.faults.refuse(503, BY_NAME[place.engine], method="GET", times=2, skip=1)
    place.faults.refuse(503, SUBMIT[place.engine], method="POST", times=1)
    made = run(place)
    assert made.record["status"] == "succeeded", made.record["error"]
    assert submissions(place) == 1


def test_a_quota_that_is_used_up_is_asked_again_when_the_service_says(place):
    soon = {"Retry-After": "0"}  # the pauses of our own would outlast the run's patience
    place.faults.refuse(429, SUBMIT[place.engine], method="POST", times=6, headers=soon)
    made = run(place, "engine.patience_s=5")
    assert made.record["status"] == "succeeded", made.record["error"]
    assert submissions(place) == 1


def test_a_connection_cut_in_mid_answer_is_asked_again(place):
    place.faults.cut(BY_NAME[place.engine], method="GET", times=2, skip=1)
    made = run(place)
    assert made.record["status"] == "succeeded", made.record["error"]
    assert submissions(place) == 1
    assert did_once(place)


def test_a_submission_whose_answer_is_lost_is_found_and_not_repeated(place):
    place.faults.lose(SUBMIT[place.engine], method="POST")
    made = run(place)
    assert made.record["status"] == "succeeded", made.record["error"]
    assert submissions(place) == 1
    assert did_once(place)


def test_a_service_that_stays_away_leaves_a_run_that_can_be_attached_to(place):
    place.machines.stalled = True
    place.faults.refuse(503, BY_NAME[place.engine], method="GET", times=1000, skip=1)
    with pytest.raises(Unattended, match="cannot be followed") as caught:
        run(place, "engine.patience_s=0.1")
    assert caught.value.exit_code == 5
    record = the_record()
    assert record["status"] == "running"
    place.faults.clear()
    place.machines.release()
    made = api.attach(record["run_id"])
    assert made.record["status"] == "succeeded", made.record["error"]
    assert made.record["run_id"] == record["run_id"]
    assert submissions(place) == 1


def test_expired_credentials_leave_a_run_that_can_be_attached_to(place):
    place.machines.stalled = True
    place.faults.refuse(401, BY_NAME[place.engine], method="GET", times=1000, skip=1)
    with pytest.raises(Unattended, match="answered 401"):
        run(place)
    place.faults.clear()
    place.machines.release()
    made = api.attach(the_record()["run_id"])
    assert made.record["status"] == "succeeded", made.record["error"]


def test_a_job_cancelled_from_outside_fails_the_run_and_says_so(place):
    place.machines.stalled = True
    made = run(place, detach=True)
    place.service.execution().cancel()
    ended = api.attach(made.record["run_id"])
    assert ended.record["status"] == "failed"
    assert ended.exit_code == 5
    assert "was cancelled from outside" in ended.record["error"]["problem"]


def test_a_deleted_job_fails_the_run_and_says_so(place):
    place.machines.stalled = True

    def delete() -> None:
        wait_for(lambda: submissions(place) == 1)
        place.service.vanish()

    somebody = threading.Thread(target=delete)
    somebody.start()
    made = run(place)
    somebody.join()
    assert made.exit_code == 5
    assert "somebody deleted it" in made.record["error"]["problem"]


def test_an_image_that_cannot_be_pulled_is_told_with_its_reason(place):
    place.machines.refuses = "image registry.invalid/llmops-python:1 cannot be pulled"
    made = run(place)
    assert made.exit_code == 5
    assert "cannot be pulled" in made.record["error"]["problem"]


def test_a_detached_run_is_finished_by_attaching(place):
    made = run(place, detach=True)
    assert made.record["status"] == "running"
    assert made.exit_code == 0
    finished = api.attach(made.record["run_id"][:-2])
    assert finished.record["status"] == "succeeded", finished.record["error"]
    assert [step["status"] for step in finished.record["steps"]] == ["done", "done"]
    assert [step["reason"] for step in finished.record["steps"]] == ["first run", "after s0"]
    assert (finished.folder / "report.html").exists()
    again = api.attach(made.record["run_id"])
    assert again.record == finished.record
    assert submissions(place) == 1


def test_two_runs_at_once_do_each_step_once(vertex):
    runs = [run(vertex, detach=True), run(vertex, detach=True)]
    ended = [api.attach(made.record["run_id"]) for made in runs]
    assert [made.record["status"] for made in ended] == ["succeeded", "succeeded"]
    assert did_once(vertex)


# ---------------------------------------------------- processes that end too early


def start(place: Elsewhere, *arguments: str):
    return place.project.start("run", "+experiment=words", *place.overrides, *arguments)


def wait_for(what, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_process_killed_after_submitting_is_replaced_by_attaching(place):
    place.machines.stalled = True
    process = start(place)
    try:
        wait_for(lambda: submissions(place) == 1)
    finally:
        end_group(process)
    place.machines.release()
    made = api.attach(the_record()["run_id"])
    assert made.record["status"] == "succeeded", made.record["error"]
    assert submissions(place) == 1
    assert did_once(place)


def test_a_process_killed_before_submitting_is_replaced_by_attaching(vertex):
    vertex.faults.refuse(503, SUBMIT["vertex"], method="POST", times=1000)
    process = start(vertex)
    try:
        wait_for(lambda: vertex.faults.count(SUBMIT["vertex"], method="POST") > 0)
    finally:
        end_group(process)
    vertex.faults.clear()
    made = api.attach(the_record()["run_id"])
    assert made.record["status"] == "succeeded", made.record["error"]
    assert submissions(vertex) == 1


@pytest.mark.parametrize(
    ("choice", "code", "status", "state"),
    [("cancel", 130, "interrupted", "CANCELLED"), ("leave", 130, "running", "PENDING")],
)
def test_ctrl_c_ends_the_job_or_leaves_it(vertex, choice, code, status, state):
    vertex.machines.stalled = True
    process = start(vertex, f"engine.on_interrupt={choice}")
    try:
        wait_for(lambda: vertex.faults.count(BY_NAME["vertex"], method="GET") > 2)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == code
    finally:
        end_group(process)
    assert the_record()["status"] == status
    assert vertex.service.execution().state == state


def test_detaching_is_refused_where_the_command_is_the_engine(vertex):
    done = vertex.project.llmops("run", "+experiment=words", "--detach")
    assert done.returncode == 2
    assert "engine=vertex or engine=kubeflow" in done.stderr
    assert not (vertex.project.root / "runs").exists()


def test_a_run_on_this_machine_cannot_be_attached_to(vertex):
    record = api.run(["+experiment=words"]).record
    folder = next(all_runs(Path.cwd()))
    (folder.path / "run.json").write_text(json.dumps({**record, "status": "running"}), "utf-8")
    done = vertex.project.llmops("runs", "attach", record["run_id"])
    assert done.returncode == 2
    assert "the same `run` command goes on" in done.stderr
