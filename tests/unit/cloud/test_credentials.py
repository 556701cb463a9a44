"""Four ways to say who asks, and a quick, helpful answer where there is none."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from google.api_core import exceptions as api
from google.auth.transport.requests import Request

from llmops.adapters import google
from llmops.errors import BackendError, ConfigError
from tests.fakes import identity
from tests.fakes.faults import Server, serve

APPLICATION = {"kind": "application_default"}
LIMIT_S = 2.0


@pytest.fixture(scope="module")
def tokens():
    app = FastAPI()
    app.state.identity = identity.Identity()
    identity.add_identity(app, app.state.identity)
    with serve(app) as server:
        yield server


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """A machine on which nobody is logged in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)


def token_of(credentials: Any) -> str:
    credentials.refresh(Request())
    return credentials.token


def test_the_application_s_own_key_file_is_found(tokens: Server, tmp_path, monkeypatch):
    path = identity.key_file(tmp_path, tokens.url)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    assert token_of(google.credentials({"credentials": APPLICATION})).startswith("token-")


def test_without_a_word_in_the_config_the_application_s_own_are_taken(
    tokens: Server, tmp_path, monkeypatch
):
    path = identity.key_file(tmp_path, tokens.url)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    assert token_of(google.credentials({"name": "dev"})).startswith("token-")


def test_a_service_account_s_file_is_read(tokens: Server, tmp_path):
    path = identity.key_file(tmp_path, tokens.url)
    wanted = {"kind": "service_account_file", "file": "~/service_account.json"}
    made = google.credentials({"credentials": wanted})
    assert path.parent == tmp_path
    assert made.service_account_email == "llmops@shop-project.iam.gserviceaccount.com"
    assert token_of(made).startswith("token-")


def test_a_base64_key_in_the_environment_is_read(tokens: Server, monkeypatch):
    monkeypatch.setenv("SERVICE_ACCOUNT_KEY", identity.key_base64(tokens.url))
    wanted = {"kind": "base64_key", "variable": "SERVICE_ACCOUNT_KEY"}
    assert token_of(google.credentials({"credentials": wanted})).startswith("token-")


class TestImpersonation:
    """The application's own credentials are exchanged for those of a service account."""

    ROBOT = "robot@shop.iam.gserviceaccount.com"

    @pytest.fixture
    def made(self, tokens: Server, tmp_path, monkeypatch) -> Any:
        path = identity.key_file(tmp_path, tokens.url)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        wanted = {"kind": "impersonation", "service_account": self.ROBOT}
        environment = {"credentials": wanted, "endpoints": {"iam": tokens.url}}
        return google.credentials(environment)

    def test_the_account_is_asked_for_in_its_own_name(self, made, tokens: Server):
        token = token_of(made)
        account, body = tokens.app.state.identity.impersonated[-1]
        assert (account, made.service_account_email) == (self.ROBOT, self.ROBOT)
        assert body["scope"] == list(google.SCOPES)
        assert tokens.app.state.identity.knows(f"Bearer {token}")

    def test_a_token_that_has_ended_is_exchanged_anew(self, made, tokens: Server):
        first = token_of(made)
        made.expiry = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=1)
        assert made.expired
        headers: dict[str, str] = {}
        made.before_request(Request(), "GET", "https://bigquery.googleapis.com/x", headers)
        assert headers["authorization"] != f"Bearer {first}"
        assert tokens.app.state.identity.knows(headers["authorization"])

    def test_an_account_that_may_not_be_impersonated_is_told_of(self, made, tokens: Server):
        tokens.app.state.identity.may_impersonate = False
        try:
            refused = pytest.raises(BackendError, match="the credentials are not accepted")
            with refused as caught, google.translated("BigQuery"):
                token_of(made)
        finally:
            tokens.app.state.identity.may_impersonate = True
        assert "getAccessToken" in caught.value.problem


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"kind": "service_account_file", "file": "/nowhere/key.json"}, "/nowhere/key.json"),
        ({"kind": "base64_key", "variable": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
        ({"kind": "base64_key", "variable": "ODD_KEY"}, "ODD_KEY is not base64"),
        ({"kind": "base64_key", "variable": "EMPTY_KEY"}, "not a service account's key"),
    ],
)
def test_credentials_that_cannot_be_read_say_why_and_name_the_ways(monkeypatch, wanted, problem):
    monkeypatch.setenv("ODD_KEY", "~~~")
    monkeypatch.setenv("EMPTY_KEY", base64.b64encode(json.dumps({}).encode()).decode())
    with pytest.raises(BackendError, match=problem) as caught:
        google.credentials({"credentials": wanted})
    for way in ("gcloud auth", "GOOGLE_APPLICATION_CREDENTIALS", "base64_key", "impersonation"):
        assert way in caught.value.hint


def test_a_wrong_key_never_shows_in_the_message(monkeypatch):
    monkeypatch.setenv("SERVICE_ACCOUNT_KEY", base64.b64encode(b'{"private_key": "abc"}').decode())
    wanted = {"kind": "base64_key", "variable": "SERVICE_ACCOUNT_KEY"}
    with pytest.raises(BackendError) as caught:
        google.credentials({"credentials": wanted})
    assert "abc" not in f"{caught.value.problem}{caught.value.hint}"


def test_a_metadata_server_that_never_answers_holds_nobody_up(tmp_path):
    """In a process of its own: Google's library reads the address when it is imported."""
    script = (
        "import time\n"
        "import google.auth.transport.requests\n"  # slow on a busy machine
        "from llmops.adapters import google\n"
        "started = time.monotonic()\n"
        "try:\n"
        "    google.credentials({})\n"
        "except Exception as exc:\n"
        "    print(time.monotonic() - started, exc.exit_code, exc.problem)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        environment = os.environ | {
            "GCE_METADATA_HOST": host,
            "GCE_METADATA_IP": host,
            "HOME": str(tmp_path),
        }
        environment.pop("NO_GCE_CHECK", None)
        made = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    seconds, code, problem = made.stdout.split(" ", 2)
    assert float(seconds) < LIMIT_S
    assert (code, made.stderr) == ("5", "")
    assert problem.startswith("no credentials for Google Cloud (nothing answers")


def test_a_place_that_is_not_set_is_a_config_error_that_says_where():
    assert google.place({"project": "shop"}, "project") == "shop"
    with pytest.raises(ConfigError, match=r"env\.region is not set"):
        google.place({"name": "dev", "region": None}, "region")


@pytest.mark.parametrize(
    ("raised", "retryable"),
    [
        (api.ServiceUnavailable("busy"), True),
        (api.TooManyRequests("slowly"), True),
        (api.Forbidden("not you"), False),
        (api.RetryError("gave up", cause=api.InternalServerError("oh")), True),
        (ConnectionResetError("gone"), True),
    ],
)
def test_what_google_s_clients_raise_becomes_ours_and_says_whether_to_try_again(raised, retryable):
    with pytest.raises(BackendError) as caught, google.translated("BigQuery"):
        raise raised
    assert caught.value.problem.startswith("BigQuery")
    assert caught.value.retryable is retryable
    assert caught.value.__cause__ is raised


def test_a_bug_passes_unchanged():
    with pytest.raises(KeyError), google.translated("BigQuery"):
        raise KeyError("ours")
