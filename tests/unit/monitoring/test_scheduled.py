"""A monitor by the clock of Vertex AI: through Google's client, against a server on loopback."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from fastapi import FastAPI

from llmops import api, cli
from llmops.errors import ConfigError
from tests.fakes.faults import serve
from tests.fakes.identity import Identity, add_identity, key_file
from tests.fakes.vertex_schedules import VertexSchedules

AGAINST = ["monitor.against=window", "monitor.window_days=1"]


@pytest.fixture(scope="module")
def server():
    schedules = VertexSchedules()
    app = FastAPI()
    app.include_router(schedules.router())
    add_identity(app, Identity())
    with serve(app) as found:
        yield SimpleNamespace(schedules=schedules, url=found.url, faults=found.faults)


@pytest.fixture
def vertex(server, tmp_path, monkeypatch):
    server.schedules.kept.clear()
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file(tmp_path, server.url)))
    return server


@pytest.fixture
def schedule(vertex, capsys):
    """Return what runs the command: its exit code and what it printed."""

    def run(times, *overrides, project="shop-project", path="/gcs/shop-bucket/logs"):
        where = [
            "engine=vertex",
            "engine.image=europe-docker.pkg.dev/shop/llmops:slim",
            "env=prod",
            f"env.project={project}",
            "env.bucket=gs://shop-bucket",
            f"+env.endpoints.vertex={vertex.url}",
        ]
        chosen = [f"serve.log.path={path}", *(overrides or AGAINST)]
        code = cli.main(["monitor", "--vertex", times, "--json", *chosen, *where])
        return code, capsys.readouterr()

    return run


def test_a_schedule_starts_the_same_command_in_a_container(schedule, vertex):
    code, told = schedule("0 6 * * *")
    assert code == 0, told.err
    made = json.loads(told.out)
    assert made["address"] == "projects/shop-project/locations/us-central1/schedules/1"
    assert (made["replaced"], bool(made["next_run"])) == (False, True)
    (kept,) = vertex.schedules.kept.values()
    assert kept["cron"] == "TZ=Etc/UTC 0 6 * * *"
    assert kept["maxConcurrentRunCount"] == "1"
    (container,) = vertex.schedules.containers()
    assert container["image"] == "europe-docker.pkg.dev/shop/llmops:slim"
    command = [*container["command"], *container["args"]]
    assert command[:4] == ["python", "-m", "llmops", "monitor"]
    assert command[4:] == ["serve.log.path=/gcs/shop-bucket/logs", *AGAINST]


def test_what_is_scheduled_ends_as_the_command_itself_does(schedule, vertex, tmp_path, capsys):
    (tmp_path / "logs").mkdir()
    schedule("0 6 * * *")
    (container,) = vertex.schedules.containers()
    mounted = [text.replace("/gcs/shop-bucket", str(tmp_path)) for text in container["args"][2:]]
    assert cli.main(mounted) == 0
    assert "too few to judge" in capsys.readouterr().out


def test_a_second_schedule_changes_the_first(schedule, vertex):
    schedule("0 6 * * *")
    code, told = schedule("30 7 * * 1", "monitor.against=window", "monitor.window_days=7")
    assert (code, json.loads(told.out)["replaced"]) == (0, True)
    (kept,) = vertex.schedules.kept.values()
    assert kept["cron"] == "TZ=Etc/UTC 30 7 * * 1"
    assert "monitor.window_days=7" in vertex.schedules.containers()[0]["args"]


@pytest.mark.parametrize(
    ("times", "overrides", "changes", "code", "words"),
    [
        ("daily", AGAINST, {}, 2, "five fields"),
        ("0 6 * * *", AGAINST, {"path": ".llmops/logs"}, 2, "does not see the log"),
        ("0 6 * * *", ["monitor.against=training"], {}, 2, "does not see the training rows"),
        ("0 6 * * *", ["monitor.against=sometimes"], {}, 2, "monitor.against"),
        ("0 6 * * *", AGAINST, {"project": "another"}, 5, "no such project"),
    ],
)
def test_what_cannot_be_scheduled_is_one_error(
    schedule, vertex, times, overrides, changes, code, words
):
    ended, told = schedule(times, *overrides, **changes)
    assert ended == code
    assert words in told.err
    assert vertex.schedules.kept == {}


def test_another_engine_has_no_schedules(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    where = ["serve.log.path=/gcs/shop-bucket/logs", "engine=local", "env=dev"]
    with pytest.raises(ConfigError, match="only Vertex AI"):
        api.schedule_monitor("0 6 * * *", [*AGAINST, *where])


def test_a_service_that_is_down_is_a_backend_error(schedule, vertex):
    vertex.faults.refuse(503, "/schedules")
    code, told = schedule("0 6 * * *")
    assert code == 5
    assert "503" in told.err
