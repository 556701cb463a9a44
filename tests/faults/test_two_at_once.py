"""Processes that want the same at the same moment: one does it, the others find it done."""

from __future__ import annotations

import itertools
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from llmops.adapters.registry.files import FileRegistry
from llmops.adapters.store.folder import FolderStore
from llmops.errors import Refused
from llmops.execute import Task, execute
from llmops.plan.graph import Node
from llmops.plan.kinds import Adapters, Outcome, Port, StepKind, leaf
from llmops.ports.model import ModelReference
from tests.fakes.toy_project import ToyProject, end_group
from tests.faults import invariants

PROCESSES = 8
ROUNDS = int(os.environ.get("LLMOPS_ROUNDS", "8"))  # `make faults` asks for 50
CLOSED = Adapters(*(lambda *_: pytest.fail("no seam should be opened") for _ in range(6)))


@dataclass(frozen=True)
class Settings:
    text: str = leaf("text")


def note(work):
    handle = os.open("did.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{work.settings.text}\n".encode())
    os.close(handle)
    work.outputs["out"].write_text(f'"{work.settings.text}"')
    return Outcome()


NOTE = StepKind("note", 1, note, Settings, gives=(Port("out", "json"),))


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def store_of(workspace):
    return FolderStore(workspace / ".llmops" / "store", uri=".llmops/store")


def do(workspace, text):
    task = Task(
        Node("step", NOTE, {}), {"name": "x", "text": text}, f"run-{os.getpid()}", inputs={}
    )
    execute(task, store_of(workspace), CLOSED, lambda *_: None)


def at_once(works: Sequence[Callable[[], None]]) -> list[int]:
    """Run each work in a fork, all let loose at one moment, and return their exit codes."""
    gate, opened = os.pipe()
    children = []
    for work in works:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(opened)
                os.read(gate, 1)  # ends when the other end is closed
                work()
                code = 0
            except BaseException:  # noqa: BLE001 - told by the exit code
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(pid)
    os.close(gate)
    os.close(opened)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def test_many_processes_with_one_key_do_its_work_once(workspace):
    for number in range(ROUNDS):
        text = f"same {number}"
        assert at_once([lambda text=text: do(workspace, text)] * PROCESSES) == [0] * PROCESSES
    done = (workspace / "did.txt").read_text().splitlines()
    assert done == [f"same {number}" for number in range(ROUNDS)]
    assert invariants.violations(workspace) == []
    assert invariants.left_behind(workspace) == []


def test_many_processes_with_keys_of_their_own_all_do_their_work(workspace):
    for number in range(ROUNDS):
        works = [lambda n=number, k=k: do(workspace, f"{n} {k}") for k in range(PROCESSES)]
        assert at_once(works) == [0] * PROCESSES
    done = (workspace / "did.txt").read_text().splitlines()
    assert len(set(done)) == len(done) == ROUNDS * PROCESSES
    assert len(list(store_of(workspace).entries())) == ROUNDS * PROCESSES
    assert invariants.violations(workspace) == []


def test_a_lock_whose_holder_is_killed_is_free_at_once(workspace):
    read, write = os.pipe()
    holder = os.fork()
    if holder == 0:
        with store_of(workspace).lock("key"):
            os.write(write, b"held")
            time.sleep(60)
        os._exit(0)
    assert os.read(read, 4) == b"held"
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    started = time.monotonic()
    with store_of(workspace).lock("key"):
        assert time.monotonic() - started < 2


def test_an_alias_that_two_move_points_at_one_and_remembers_both(workspace):
    registry = FileRegistry(workspace / ".llmops" / "registry")
    for number in range(1, 3):
        model = ModelReference(provider="local", base="base", tuned=f"tuned-{number}")
        registry.register("model", model, labels={}, run_id="run")
    for _ in range(ROUNDS):
        moves = [
            lambda v=v: registry.set_alias("model", "champion", v, reason="a test") for v in (1, 2)
        ]
        assert at_once(moves) == [0, 0]
        history = registry.history("model")
        assert registry.get("model", "champion").version == history[-1].version
    for before, after in itertools.pairwise(history):
        assert after.before == before.version
    assert invariants.violations(workspace) == []


def test_of_two_who_move_an_alias_from_where_they_saw_it_one_is_refused(workspace):
    registry = FileRegistry(workspace / ".llmops" / "registry")
    for number in range(1, 4):
        model = ModelReference(provider="local", base="base", tuned=f"tuned-{number}")
        registry.register("model", model, labels={}, run_id="run")
    registry.set_alias("model", "champion", 1, reason="a test")

    def move(version):
        try:
            registry.set_alias("model", "champion", version, reason="a test", expected=1)
        except Refused:
            os._exit(3)

    assert sorted(at_once([lambda: move(2), lambda: move(3)])) == [0, 3]


@pytest.mark.slow
def test_collecting_garbage_takes_nothing_from_a_run_at_work(tmp_path):
    project = ToyProject(tmp_path / "project")
    project.chain("words", "say", *["pass_on"] * 5)
    run = project.start("run", "+experiment=words")
    try:
        rounds = 0
        while run.poll() is None:
            done = project.llmops("runs", "gc", "--keep", "0", "--grace-hours", "0")
            assert done.returncode == 0, done.stderr
            rounds += 1
        assert run.returncode == 0, run.communicate()
    finally:
        end_group(run)
    assert rounds > 1
    assert invariants.violations(project.root) == []
