from __future__ import annotations

import os
import threading

import pytest

from llmops.adapters.secrets import reveal
from llmops.errors import BackendError, ConfigError
from llmops.secrecy import copy_masked, looks_secret, masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://user:pass@bucket/x", "s3://***@bucket/x"),
        ("https://h/f?token=abc&x=1", "https://h/f?token=***&x=1"),
        ("db --password=hunter2 now", "db --password=*** now"),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer ***"),
        ("with.password='hunter 2' x", "with.password=*** x"),
        ("  api_key: hunter2\n", "  api_key: ***\n"),
        ('{"token": "hunter2", "n": 1}', '{"token": ***, "n": 1}'),
        ("write ${secret:NAME}; token: ${secret:X}", "write ${secret:NAME}; token: ${secret:X}"),
        ("gs://bucket/path@1", "gs://bucket/path@1"),
        ("https://host:8080/path", "https://host:8080/path"),
        ("max_tokens=192 tokens=3", "max_tokens=192 tokens=3"),
        ("key=value", "key=value"),
        ("password=${secret:DB}", "password=${secret:DB}"),
        ("row 12:30 a@b.example", "row 12:30 a@b.example"),
        ("no credentials: nothing answers", "no credentials: nothing answers"),
        ("no credentials: nothing", "no credentials: nothing"),
        ("the credentials: hunter2", "the credentials: ***"),
        ("the credentials: ab/cd", "the credentials: ***"),
    ],
)
def test_shapes_of_secrets_are_masked_and_nothing_else(text: str, shown: str) -> None:
    assert masked(text, {}) == shown


@pytest.mark.parametrize("name", ["HF_TOKEN", "TOKEN", "A_KEY", "DB_PASSWORD", "CLIENT_SECRET"])
def test_values_of_secret_variables_are_masked(name: str) -> None:
    assert masked("it is abcdefgh.", {name: "abcdefgh"}) == "it is ***."


@pytest.mark.parametrize(
    ("name", "value"), [("PATH", "abcdefgh"), ("A_KEY", "short"), ("A_KEY", "/etc/keys/mine")]
)
def test_other_values_are_left_alone(name: str, value: str) -> None:
    assert masked(f"it is {value}.", {name: value}) == f"it is {value}."


@pytest.mark.parametrize(
    ("key", "value", "secret"),
    [
        ("password", "x", True),
        ("api_key", "x", True),
        ("with.client-secret", "x", True),
        ("password", "${secret:X}", False),
        ("url", "https://h/?sig=${secret:X}", False),
        ("max_tokens", "x", False),
        ("tokens", "x", False),
        ("row_key", "x", False),
        ("path", "s3://a:b@c", True),
    ],
)
def test_a_literal_secret_is_told_from_a_reference(key: str, value: str, secret: bool) -> None:
    assert looks_secret(key, value) is secret


def test_an_error_never_quotes_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-value")
    error = BackendError("refused for planted-value", hint="try s3://a:b@c")
    assert "planted" not in f"{error} {error.problem} {error.hint} {error.__notes__}"
    assert error.hint == "try s3://***@c"


def test_what_is_copied_is_masked_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-value")
    source, sink = os.pipe()
    out, log = os.pipe()
    copier = threading.Thread(target=copy_masked, args=(source, log))
    copier.start()
    for piece in (b"a plan", b"ted-value\nb\xff", b" planted-", b"value"):
        os.write(sink, piece)
    os.close(sink)
    copier.join(5)
    os.close(log)
    assert os.read(out, 1000) == b"a ***\nb\xff ***"
    os.close(source)
    os.close(out)


def test_a_reference_is_revealed_at_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB", "hunter2")
    assert reveal("postgres://me:${secret:DB}@host") == "postgres://me:hunter2@host"
    assert reveal("plain") == "plain"


def test_a_secret_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DB", raising=False)
    with pytest.raises(ConfigError, match="secret DB is not set"):
        reveal("${secret:DB}")
