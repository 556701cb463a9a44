"""Whole commands against a provider on this machine: serve with workers, predict, chat, logs.

The provider is another of our own servers, asked by the adapter for OpenAI-compatible endpoints.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from llmops.traffic.segments import lines
from tests.fakes.serving import TOKEN, Echo, echoing, running


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    with running(tmp_path_factory.mktemp("provider"), echoing(Echo())) as found:
        yield found


class Workspace:
    """A workspace whose experiment asks the provider."""

    def __init__(self, folder: Path, provider) -> None:
        self.folder = folder
        self.chosen = [
            "+experiment=so_python",
            "pipeline=dataset",
            "model=openai",
            "model.base=so_python",
            f"model.endpoint={provider.address}/v1",
            "model.api_key='${secret:PROVIDER_KEY}'",
            "model.attempts=1",
            "evaluation.metrics=[rouge_l]",
            "gate.rules=[]",
        ]
        self.environment = {
            **os.environ,
            "LLMOPS_WORKSPACE": str(folder),
            "PROVIDER_KEY": TOKEN,
        }

    @property
    def logs(self) -> Path:
        return self.folder / ".llmops" / "logs"

    def command(self, verb: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "llmops", verb, *arguments]

    def run(self, verb: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(verb, *arguments),
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def ask(self, verb: str, *arguments: str, stdin: str = ""):
        return self.run(verb, "--model", "untuned", *arguments, *self.chosen, stdin=stdin)


@pytest.fixture
def workspace(tmp_path, provider):
    return Workspace(tmp_path, provider)


def test_predict_shows_the_answer_and_json_the_whole_response(workspace):
    shown = workspace.ask("predict", "--question", "What is a tuple?")
    assert shown.returncode == 0, shown.stderr
    assert "What is a tuple?" in shown.stdout
    assert "safety: profanity" in shown.stderr
    assert "threshold 0.8" in shown.stderr
    whole = workspace.ask("predict", "--question", "-", "--json", stdin="What is a list?")
    answer = json.loads(whole.stdout)
    assert answer["blocked"] is False
    assert answer["safety"]["profanity"]["threshold"] == 0.8
    raw = workspace.ask("predict", "--question", "q", "--raw")
    assert json.loads(raw.stdout)["object"] == "chat.completion"
    asked = workspace.run("logs", "query", "SELECT count(*) AS n FROM answers", "--json")
    assert json.loads(asked.stdout) == [{"n": 3}]
    kept = [path.name for path in (workspace.folder / ".llmops").iterdir()]
    assert "answers.sqlite" not in kept  # evaluation's file, which masks nothing


def test_predict_answers_a_file_and_chat_remembers(workspace):
    rows = workspace.folder / "rows.csv"
    rows.write_text("id,question\n1,What is a set?\n2,What is a dict?\n")
    out = workspace.folder / "answers.jsonl"
    done = workspace.ask("predict", "--file", str(rows), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["1", "2"]
    chat = workspace.ask("chat", "--session", "mine", stdin="one\ntwo\n")
    assert chat.returncode == 0, chat.stderr
    listed = json.loads(workspace.run("chat", "--list", "--json").stdout)
    assert [(one["session"], one["turns"]) for one in listed] == [("mine", 2)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["predict", "--question", "q"], 2, "the registry is empty"),
        (["predict", "--model", "untuned", "--question", "q"], 2, "belongs to an experiment"),
        (["predict", "--question", " "], 2, "the question is empty"),
        (["predict", "--file", "x.csv"], 2, "need --out"),
        (["serve", "--model", "champion=x"], 2, "no MODEL=WEIGHT"),
        (["serve", "serve.log.privacy=some"], 2, "serve.log.privacy"),
        (["serve", "serve.prt=1"], 2, "prt"),
        (["serve", "serve.port=0"], 2, "the registry is empty"),
        (["logs", "query", "DROP VIEW answers"], 2, "one SELECT"),
        (["logs", "feedback", "ans_1", "--up"], 2, "no answer the id"),
        (["logs", "reviewed", "--out", "x.jsonl"], 4, "no feedback"),
    ],
)
def test_what_cannot_be_done_is_one_error_with_a_hint(workspace, arguments, code, words):
    done = workspace.run(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_worker_killed_under_load_loses_no_record_and_is_replaced(workspace):
    with _served(workspace, "serve.workers=2") as (process, address, token):
        answered: list[str] = []
        stop = threading.Event()
        threads = [
            threading.Thread(target=_ask_on, args=(address, token, answered, stop))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        _until(lambda: len(answered) > 50)
        victim = _workers(process)[0]
        os.kill(victim, signal.SIGKILL)
        at_kill = len(answered)
        _until(lambda: len(answered) > at_kill + 50)
        _until(lambda: len(set(_workers(process)) - {victim}) == 2, 60)
        stop.set()
        for thread in threads:
            thread.join(30)
    assert process.returncode == 0
    kept = Counter(json.loads(line)["id"] for line in lines(workspace.logs))
    assert set(answered) <= set(kept)
    assert set(kept.values()) == {1}


@pytest.mark.slow
def test_the_figures_of_all_workers_are_one_page_whoever_answers_for_it(workspace):
    with _served(workspace, "serve.workers=2") as (process, address, token):
        headers = {"Authorization": f"Bearer {token}"}
        asked, workers = 0, set()
        while asked < 12 or len(workers) < 2:  # a connection each, so that both take some
            assert asked < 400
            _ask(address, headers)
            asked += 1
            workers = {path.name.split("-")[1] for path in workspace.logs.glob("2*.jsonl")}
        pages = {httpx.get(f"{address}/metrics", headers=headers).text for _ in range(8)}
        answers = {_figure(page, "llmops_answers_total") for page in pages}
        assert answers == {asked}
        victim = _workers(process)[0]
        os.kill(victim, signal.SIGKILL)
        _until(lambda: len(set(_workers(process)) - {victim}) == 2 and _ready(address), 60)
        page = httpx.get(f"{address}/metrics", headers=headers).text
        assert _figure(page, "llmops_answers_total") == asked  # the dead one's count stays
        assert _figure(page, "llmops_answering") == 0
    assert process.returncode == 0


def _figure(page: str, name: str) -> float:
    rows = [line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


def _ask(address: str, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(f"{address}/v1/predict", json={"question": "q"}, headers=headers, timeout=20)


@pytest.mark.slow
def test_workers_end_when_whoever_started_them_was_killed(workspace):
    with _served(workspace, "serve.workers=2") as (process, _, _):
        workers = [psutil.Process(pid) for pid in _workers(process)]
        process.kill()
        process.wait(10)
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert alive == []


@pytest.mark.slow
def test_a_log_that_has_no_room_left_refuses_answers_and_tears_no_record(workspace):
    """The kernel refuses the write: no file of the server may grow over 8 kB for a while."""
    with _served(workspace) as (process, address, token):
        headers = {"Authorization": f"Bearer {token}"}
        before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (8192, before[1]))
        answers = []
        while not answers or answers[-1].status_code == 200:
            assert len(answers) < 100
            answers.append(_ask(address, headers))
        assert answers[-1].json()["error"]["code"] == "log_failed"
        assert not _ready(address)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)
        answers.append(_ask(address, headers))
        assert _ready(address)
    assert process.returncode == 0
    given = [one.json()["id"] for one in answers if one.status_code == 200]
    assert len(given) > 3
    assert [json.loads(line)["id"] for line in lines(workspace.logs)] == given


@pytest.mark.slow
def test_a_server_that_is_asked_to_stop_ends_with_0(workspace):
    with _served(workspace) as (process, address, token):
        answer = httpx.post(
            f"{address}/v1/predict",
            json={"question": "q"},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 200
        figures = httpx.get(f"{address}/metrics", headers={"Authorization": f"Bearer {token}"})
        assert "llmops_answers_total" in figures.text
    assert process.returncode == 0


@contextmanager
def _served(workspace: Workspace, *overrides: str):
    served = ["serve", "--model", "untuned", "--json", "serve.port=0", *overrides]
    process = subprocess.Popen(
        workspace.command(*served, *workspace.chosen),
        env=workspace.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            told = json.loads(process.stdout.readline())
            _until(lambda: _ready(told["address"]), 90)
            yield process, told["address"], told["token"]
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        finally:
            if process.poll() is None:
                process.kill()


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _workers(process) -> list[int]:
    found = []
    for one in psutil.Process(process.pid).children():
        with suppress(psutil.Error):  # it has just ended
            if any("spawn_main" in part for part in one.cmdline()):
                found.append(one.pid)
    return found


def _ask_on(address: str, token: str, answered: list[str], stop: threading.Event) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    while not stop.is_set():
        try:
            answer = httpx.post(
                f"{address}/v1/predict", json={"question": "q"}, headers=headers, timeout=20
            )
        except httpx.HTTPError:
            continue  # its worker was killed
        if answer.status_code == 200:
            answered.append(answer.json()["id"])


def _until(holds, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
