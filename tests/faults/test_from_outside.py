"""The program from outside: refused system calls, full and read-only disks, odd clocks, signals.

Whole processes, nothing of llmops replaced. What needs a tool or a right that is not here is
skipped and says so; CI installs the tools.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.fakes.small_disk import mounted
from tests.fakes.toy_project import ToyProject, end_group, gone
from tests.faults import invariants

SEEDS = int(os.environ.get("LLMOPS_SIGNAL_SEEDS", "3"))  # `make faults` asks for 100
CLOCK = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
needs_clock = pytest.mark.skipif(CLOCK is None, reason="libfaketime is not installed")


def chain(root: Path, *uses: str) -> ToyProject:
    project = ToyProject(root)
    project.chain("words", *(uses or ("say", "pass_on")))
    return project


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    project = chain(tmp_path_factory.mktemp("undisturbed"))
    assert project.llmops("run", "+experiment=words").returncode == 0
    return invariants.results(project.root)


@pytest.fixture
def project(tmp_path):
    return chain(tmp_path / "project")


def ends_well(project: ToyProject, undisturbed, **options) -> None:
    """Nothing that is there is broken, and the same command ends as if nothing had happened."""
    assert invariants.violations(project.root) == []
    done = project.llmops("run", "+experiment=words", **options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert invariants.violations(project.root) == []
    assert invariants.results(project.root) == undisturbed


# ------------------------------------------------------- refused system calls

REFUSALS = [
    "fsync:error=ENOSPC:when=3",
    "fsync:error=EIO:when=1",
    "rename:error=EIO:when=4",
    "mkdir:error=ENOSPC:when=6",
    "fsync:signal=KILL:when=7",
    "rename:signal=KILL:when=2",
]


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("fault", REFUSALS)
def test_a_refused_or_deadly_system_call_loses_nothing(project, undisturbed, fault):
    call = fault.partition(":")[0]
    traced = ["strace", "-f", "-qq", "-o", str(project.root.parent / "trace")]
    traced += ["-e", f"trace={call}", "-e", f"inject={fault}"]
    done = subprocess.run(
        [*traced, *project.command("run", "+experiment=words")],
        cwd=project.root,
        env=project.environment,
        capture_output=True,
        text=True,
    )
    assert "INJECTED" in (project.root.parent / "trace").read_text() or "KILL" in fault
    assert "this is a bug" not in done.stdout + done.stderr
    assert done.returncode in (0, 5, -9, 137), done.stdout + done.stderr
    ends_well(project, undisturbed)


# ------------------------------------------------------------------- the disk


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MB."""
    with mounted(tmp_path / "disk", megabytes=8) as folder:
        yield folder


def fill(path: Path) -> None:
    """Write until the disk takes no more."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_a_full_disk_is_named_and_once_there_is_room_the_run_goes_on(small_disk, undisturbed):
    project = chain(small_disk / "project")
    ballast = small_disk / "ballast"
    fill(ballast)
    done = project.llmops("run", "+experiment=words")
    text = done.stdout + done.stderr
    assert done.returncode == 5, text
    assert "No space left on device" in text
    assert "MB free" in text
    ballast.unlink()
    ends_well(project, undisturbed)


def test_a_store_on_another_disk_than_the_runs_is_as_good(project, small_disk, undisturbed):
    (project.root / ".llmops").mkdir()
    (project.root / ".llmops" / "store").symlink_to(small_disk, target_is_directory=True)
    ends_well(project, undisturbed)
    assert list(small_disk.glob("objects/??/*"))


@needs_root
def test_a_workspace_that_is_read_only_is_told_and_planning_still_works(project):
    subprocess.run(["mount", "--bind", str(project.root), str(project.root)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(project.root)], check=True)
        done = project.llmops("run", "+experiment=words")
        planned = project.llmops("plan", "+experiment=words")
    finally:
        subprocess.run(["umount", "-l", str(project.root)], check=True)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "Read-only file system" in done.stdout + done.stderr
    assert planned.returncode == 0, planned.stdout + planned.stderr


# ------------------------------------------------------- places and surroundings


def test_a_workspace_that_was_moved_finds_everything_cached(project, undisturbed):
    assert project.llmops("run", "+experiment=words").returncode == 0
    moved = project.root.rename(project.root.with_name("moved"))
    project.root, project.site = moved, moved / "site"
    done = project.llmops("run", "+experiment=words", "--json")
    assert [step["status"] for step in project.record(done)["steps"]] == ["cached", "cached"]


def test_a_workspace_behind_a_link_is_the_same_workspace(project, undisturbed):
    link = project.root.with_name("link")
    link.symlink_to(project.root, target_is_directory=True)
    environment = project.environment | {"LLMOPS_WORKSPACE": str(link)}
    command = project.command("run", "+experiment=words")
    assert subprocess.run(command, cwd=link, env=environment, check=False).returncode == 0
    assert invariants.results(project.root) == undisturbed


@pytest.mark.parametrize("mask", [0o077, 0o000, 0o777 & ~0o700])
def test_an_odd_umask_changes_no_result(project, undisturbed, mask):
    ends_well(project, undisturbed, umask=mask)


@pytest.mark.parametrize(
    "changed",
    [
        {"HOME": None},
        {"LANG": "C", "LC_ALL": "C"},
        {"TZ": "Pacific/Kiritimati"},
        {"PYTHONHASHSEED": "12345"},
    ],
    ids=lambda changed: ",".join(changed),
)
def test_odd_surroundings_change_no_result(project, undisturbed, changed):
    environment = {k: v for k, v in project.environment.items() if k not in changed}
    environment |= {name: value for name, value in changed.items() if value is not None}
    done = subprocess.run(
        project.command("run", "+experiment=words"),
        cwd=project.root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert invariants.results(project.root) == undisturbed


@needs_clock
@pytest.mark.parametrize("shift", ["-400d", "+10y"])
def test_a_clock_that_jumps_loses_nothing(project, undisturbed, shift):
    assert project.llmops("run", "+experiment=words").returncode == 0
    jumped = project.environment | {"LD_PRELOAD": str(CLOCK), "FAKETIME": shift}
    command = project.command("run", "+experiment=words", "--json")
    done = subprocess.run(command, cwd=project.root, env=jumped, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [step["status"] for step in project.record(done)["steps"]] == ["cached", "cached"]
    assert len(list(project.root.glob("runs/words/*/run.json"))) == 2
    ends_well(project, undisturbed)


# ------------------------------------------------------------------- signals


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_signal_to_run_group_or_worker_leaves_no_process_and_nothing_torn(
    project, undisturbed, seed
):
    draw = random.Random(seed)
    run = project.start("run", "+experiment=words")
    try:
        time.sleep(draw.uniform(0, 2))
        number = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
        members = _family(run.pid)
        send, victim = draw.choice(
            [(os.kill, run.pid), (os.killpg, run.pid), (os.kill, draw.choice(members))]
        )
        with contextlib.suppress(ProcessLookupError):  # it was faster
            send(victim, number)
        run.wait(timeout=30)
        assert [pid for pid in members if not gone(pid, seconds=5)] == [], f"seed {seed}"
    finally:
        end_group(run)
    ends_well(project, undisturbed)


def _family(pid: int) -> list[int]:
    """Return a process and everything below it."""
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        found.append(parent)
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                waiting += [int(child) for child in re.findall(r"\d+", path.read_text())]
            except OSError:
                continue
    return found
