"""Sweeps on a bad day: killed, interrupted, on a full disk, at odd times, on another machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.fakes.small_disk import mounted
from tests.fakes.toy_project import ToyProject, end_group, gone

TEXT = "pipeline.steps.s1.with.text"
USE = "pipeline.steps.s1.use"
BESIDE = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
CLOCK = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
needs_clock = pytest.mark.skipif(CLOCK is None, reason="libfaketime is not installed")
pytestmark = pytest.mark.slow
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def chain(root: Path) -> ToyProject:
    project = ToyProject(root)
    project.chain("words", "say", "pass_on")
    return project


@pytest.fixture
def project(tmp_path):
    return chain(tmp_path / "project")


def swept(project, *words, **options):
    done = project.llmops("run", "-m", "+experiment=words", *words, "--json", **options)
    return done, json.loads(done.stdout) if done.stdout.startswith("{") else None


def statuses(document):
    return [member["status"] for member in document["members"]]


def shown(project):
    (found,) = project.root.glob("runs/sweeps/*")
    return json.loads(project.llmops("sweeps", "show", found.name, "--json").stdout)


def make_quick(project):
    """Let the step that takes 20 s take none, without changing what it is."""
    steps = project.site / "toy_steps.py"
    steps.write_text(steps.read_text().replace("range(200)", "range(1)"))


def workers(project, what="s1 began"):
    lines = (project.root / "did.txt").read_text().splitlines()
    return [int(line.split()[2]) for line in lines if line.startswith(what)]


# ------------------------------------------------------------ killed, interrupted


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_sweep_killed_at_any_member_leaves_no_process_and_goes_on_with_what_is_missing(
    project, place
):
    uses = ["pass_on", "say"]
    uses.insert(place, "slow")
    killed = project.start("run", "-m", "+experiment=words", f"{USE}={','.join(uses)}")
    try:
        worker = project.wait_until_did("s1 began")
        os.kill(killed.pid, signal.SIGKILL)
        assert gone(worker)
    finally:
        end_group(killed)
    before = shown(project)
    assert statuses(before).count("died") == 1
    make_quick(project)
    done = project.llmops("sweeps", "resume", before["id"], "--json")
    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout)
    assert set(statuses(after)) == {"succeeded"}
    for old, new in zip(before["members"], after["members"], strict=True):
        assert (old["run_id"] == new["run_id"]) == (old["status"] == "succeeded")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_members_beside_each_other_end_with_their_sweep(project, number):
    running = project.start("run", "-m", "+experiment=words", f"{USE}=slow", f"{TEXT}=a,b", *BESIDE)
    try:
        project.wait_until_did("s1 began")
        deadline = time.monotonic() + 60
        while len(workers(project)) < 2:
            assert time.monotonic() < deadline, "the second member never began"
            time.sleep(0.05)
        running.send_signal(number)
        code = running.wait(60)
        assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)
        assert [pid for pid in workers(project) if not gone(pid, 10)] == []
    finally:
        end_group(running)
    before = shown(project)
    assert set(statuses(before)) <= {"interrupted", "died", "waiting"}
    make_quick(project)
    done = project.llmops("sweeps", "resume", before["id"], "--json")
    assert done.returncode == 0, done.stderr
    assert statuses(json.loads(done.stdout)) == ["succeeded", "succeeded"]


# ---------------------------------------------------------------------- the disk


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MB."""
    with mounted(tmp_path / "disk", megabytes=8) as folder:
        yield folder


@needs_root
def test_a_member_that_fills_the_disk_is_told_and_the_sweep_goes_on_once_there_is_room(
    small_disk,
):
    project = chain(small_disk / "project")
    done, said = swept(project, f"{USE}=pass_on,fill_disk")
    assert done.returncode == 5, done.stdout + done.stderr
    assert said is not None
    assert statuses(said) == ["succeeded", "failed"]
    assert "No space left on device" in said["members"][1]["problem"]
    steps = project.site / "toy_steps.py"
    steps.write_text(steps.read_text().replace("while True:", "for _ in range(2):"))
    again, after = swept(project, f"{USE}=pass_on,fill_disk")
    assert again.returncode == 0, again.stdout + again.stderr
    assert after["members"][0]["run_id"] == said["members"][0]["run_id"]


# -------------------------------------------------------------- times and places


@needs_clock
def test_a_clock_that_jumps_back_makes_no_member_run_again_and_mixes_no_folder(project):
    _, before = swept(project, f"{TEXT}=a,b")
    back = project.environment | {"LD_PRELOAD": str(CLOCK), "FAKETIME": "-400d"}
    words = ("run", "-m", "+experiment=words", f"{TEXT}=a,b,c", "--json")
    done = subprocess.run(
        project.command(*words), cwd=project.root, env=back, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert statuses(json.loads(done.stdout)) == ["succeeded"] * 3
    assert project.did().count("s1 passed") == 3
    again, same = swept(project, f"{TEXT}=a,b")
    assert again.returncode == 0
    assert [one["run_id"] for one in same["members"]] == [
        one["run_id"] for one in before["members"]
    ]
    assert len({path.name for path in project.root.glob("runs/words/*")}) == 5


def test_a_workspace_copied_to_another_machine_goes_on_there(project, tmp_path):
    uses = f"{USE}=pass_on,refuse"
    _, before = swept(project, uses)
    copied = chain_copied(project, tmp_path / "elsewhere")
    process = {"host": "another-machine", "pid": 1, "started": "0"}
    (file,) = copied.root.glob("runs/sweeps/*/sweep.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "process": process}))
    shutil.rmtree(project.root)
    steps = copied.site / "toy_steps.py"
    broken = 'raise DataError("no row is good", hint="look at the rows")'
    steps.write_text(steps.read_text().replace(broken, 'return write(work, "good")'))
    done = copied.llmops("sweeps", "resume", before["id"], "--json")
    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout)
    assert after["members"][0]["run_id"] == before["members"][0]["run_id"]
    assert copied.llmops("lineage", after["members"][0]["run_id"]).returncode == 0
    made = copied.llmops("site", "--out", "public", "--json")
    assert made.returncode == 0, made.stderr
    index = (copied.root / "public" / "index.html").read_text()
    assert str(project.root) not in index
    cleared = copied.llmops("runs", "gc", "--keep", "1", "--grace-hours", "0", "--json")
    assert cleared.returncode == 0, cleared.stderr
    assert copied.llmops("store", "verify").returncode == 0
    assert len(list(copied.root.glob("runs/words/*/run.json"))) < 3


def chain_copied(project, target):
    shutil.copytree(project.root, target)
    made = ToyProject.__new__(ToyProject)
    made.root, made.site = target, target / "site"
    return made


# ------------------------------------------------------------------------- force


def test_force_in_a_sweep_runs_that_step_again_for_each_member(project):
    _, before = swept(project, f"{TEXT}=a,b")
    done, after = swept(project, f"{TEXT}=a,b", "--force", "s1")
    assert done.returncode == 0, done.stderr
    assert project.did().count("s0 said") == 1
    assert project.did().count("s1 passed") == 4
    runs = {one["run_id"] for document in (before, after) for one in document["members"]}
    assert len(runs) == 4


def test_a_config_that_is_broken_meanwhile_costs_neither_board_nor_page(tmp_path):
    project = ToyProject(tmp_path / "project")
    project.measured("scores")
    steps = project.site / "toy_steps.py"
    spoil = 'open("conf/experiment/scores.yaml", "a").write("\\nnonsense: 1\\n")'
    steps.write_text(steps.read_text().replace("    luck =", f"    {spoil}\n    luck ="))
    quality = "pipeline.steps.answer.with.text=2.9,2.4"
    done = project.llmops("run", "-m", "+experiment=scores", quality)
    assert done.returncode == 2, done.stderr
    assert "nonsense" in done.stderr
    said = shown(project)
    assert statuses(said) == ["succeeded", "failed"]
    assert said["chosen"] == said["members"][0]["id"]
    assert len(list(project.root.glob("runs/sweeps/*/sweep.html"))) == 1
