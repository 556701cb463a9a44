"""What generated code cannot reach, cannot use up and cannot pretend by accident."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

import psutil
import pytest

from llmops import sandbox
from llmops.sandbox import PASSED, TIMED_OUT, Limits

WHY_NOT = sandbox.why_not()
LIMITS = Limits(timeout_s=10, max_memory_mb=256)
HERE = Path(__file__).resolve()

works = pytest.mark.skipif(WHY_NOT is not None, reason=f"no sandbox: {WHY_NOT}")


def run(*code, limits=LIMITS):
    return sandbox.run(code, limits)


@works
def test_code_that_runs_to_its_end_passes():
    assert run("import json, subprocess\nprint(json.dumps({'a': 1}))\nexit()") == PASSED


@works
def test_checks_see_what_the_code_defined_and_decide():
    assert run("def f(): return 2", "assert f() == 2") == PASSED
    assert run("def f(): return 2", "assert f() == 3") == "AssertionError"


@works
@pytest.mark.parametrize("leave", ["raise SystemExit", "import os\nos._exit(0)"])
def test_leaving_early_skips_no_check(leave):
    assert run(leave, "assert False") != PASSED


@works
@pytest.mark.parametrize(
    ("code", "outcome"),
    [("1 +", "SyntaxError"), ("x", "NameError"), ("import numpy", "ModuleNotFoundError")],
)
def test_what_ended_the_code_is_told(code, outcome):
    assert run(code) == outcome


@works
@pytest.mark.parametrize("file", [HERE, Path.home() / ".profile", Path("/etc/passwd")])
def test_no_file_of_this_machine_is_there(file):
    assert run(f"open({str(file)!r})") == "FileNotFoundError"


@works
def test_the_home_folder_holds_nothing_but_the_way_to_the_interpreter():
    kept = [one for one in Path(sys.base_prefix).parts if one in os.listdir(Path.home())]
    code = f"import os\nhome = {str(Path.home())!r}\n"
    assert run(f"{code}assert not os.path.exists(home) or os.listdir(home) == {kept!r}") == PASSED


@works
@pytest.mark.parametrize("place", ["/usr/lib/x", "/x", "/dev/shm/x", "/etc/x"])
def test_nothing_but_its_own_folder_can_be_written(place):
    assert run(f"open({place!r}, 'w')") in ("OSError", "PermissionError", "FileNotFoundError")
    assert run("open('x', 'w').write('mine')\nassert open('/tmp/x').read() == 'mine'") == PASSED


@works
def test_its_folder_is_empty_again_for_the_next():
    assert run("open('/tmp/left', 'w')") == PASSED
    assert run("import os\nassert os.listdir('/tmp') == []") == PASSED


@works
def test_its_folder_has_little_room():
    fill = "for i in range(9): open(f'/tmp/{i}', 'wb').write(b'x' * 4_000_000)"
    assert run(fill) == "OSError"


@works
def test_there_is_no_network_not_even_this_machines():
    reached = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: (_accept(server), reached.set()), daemon=True).start()
        port = server.getsockname()[1]
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)"
        assert run(code) in ("ConnectionRefusedError", "OSError")
    assert not reached.is_set()


def _accept(server):
    try:
        server.accept()
    except OSError:
        threading.Event().wait()  # closed without a visitor


@works
def test_no_variable_of_this_process_is_seen(monkeypatch):
    monkeypatch.setenv("LLMOPS_TOKEN", "hush")
    assert run("import os\nassert set(os.environ) <= {'HOME', 'LANG', 'PATH', 'PWD'}, 1") == PASSED


@works
def test_no_process_of_this_machine_is_seen():
    code = "import os\nassert len([name for name in os.listdir('/proc') if name.isdigit()]) <= 2"
    assert run(code) == PASSED


@works
def test_it_is_not_root_and_cannot_become_it():
    code = "import os\nassert os.getuid() != 0\ntry:\n    os.setuid(0)\nexcept OSError: pass\n"
    assert run(code + "else: assert False") == PASSED


@works
def test_more_memory_than_allowed_is_not_given():
    assert run("bytearray(400_000_000)") == "MemoryError"


@works
@pytest.mark.parametrize("code", ["while True: pass", "import time\ntime.sleep(60)"])
def test_the_time_limit_ends_it(code):
    assert run(code, limits=Limits(timeout_s=1, max_memory_mb=256)) == TIMED_OUT


@works
def test_more_processes_than_allowed_are_not_given():
    many = "import os, time\nfor _ in range(64): os.fork() or time.sleep(60)"
    assert run(many) == "BlockingIOError"


@works
def test_nothing_is_left_of_a_fork_bomb():
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    assert run(bomb, limits=Limits(timeout_s=1, max_memory_mb=256)) == TIMED_OUT
    mine = psutil.Process().children(recursive=True)
    assert not [child for child in mine if child.name() == sandbox.PROGRAM]


def test_a_machine_without_bwrap_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt-get install bubblewrap" in sandbox.why_not.__wrapped__()


def test_a_bwrap_that_may_not_make_namespaces_is_quoted(monkeypatch, tmp_path):
    script = tmp_path / sandbox.PROGRAM
    script.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = sandbox.why_not.__wrapped__()
    assert found == "bwrap does not work here: bwrap: No permissions to create new namespace"
