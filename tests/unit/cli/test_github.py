"""One comment under a pull request, against GitHub's API on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmops.cli.github import LONGEST, MARKER, Forbidden, PullRequest
from llmops.errors import BackendError
from tests.fakes.github import GitHub, github


@pytest.fixture
def server() -> Iterator[GitHub]:
    with github() as state:
        yield state


def request(server: GitHub, token: str = "writer") -> PullRequest:
    return PullRequest(server.url, token, "owner/name", 7, patience_s=0.01)


def test_the_first_review_is_posted(server: GitHub) -> None:
    assert request(server).comment("hello") == f"{server.url}/100"
    assert server.bodies() == [f"{MARKER}\nhello"]


def test_a_later_review_replaces_it(server: GitHub) -> None:
    request(server).comment("one")
    request(server).comment("two")
    assert server.bodies() == [f"{MARKER}\ntwo"]


def test_it_is_found_behind_many_other_comments(server: GitHub) -> None:
    for number in range(250):
        server.add(f"a remark, number {number}")
    request(server).comment("one")
    request(server).comment("two")
    assert len(server.comments) == 251
    assert server.bodies()[-1].endswith("two")


def test_a_comment_that_only_quotes_ours_is_left_alone(server: GitHub) -> None:
    server.add(f"> {MARKER}\nquoted")
    request(server).comment("one")
    assert len(server.comments) == 2


def test_a_forged_comment_is_left_alone(server: GitHub) -> None:
    server.add(f"{MARKER}\nforged", by="stranger")
    request(server).comment("one")
    assert server.bodies() == [f"{MARKER}\nforged", f"{MARKER}\none"]


@pytest.mark.parametrize("token", ["reader", "unknown"])
def test_a_token_that_may_not_comment_is_told_apart(server: GitHub, token: str) -> None:
    with pytest.raises(Forbidden):
        request(server, token).comment("one")
    assert server.comments == []


@pytest.mark.parametrize("failures", [[500], [502, 503], [429]])
def test_a_bad_moment_is_waited_out(server: GitHub, failures: list[int]) -> None:
    server.failures += failures
    request(server).comment("one")
    assert len(server.comments) == 1


def test_a_bad_day_is_a_failure_of_the_backend(server: GitHub) -> None:
    server.failures += [500] * 3
    with pytest.raises(BackendError, match="500") as caught:
        request(server).comment("one")
    assert caught.value.retryable


def test_a_server_that_is_gone_is_a_failure_of_the_backend(server: GitHub) -> None:
    gone = PullRequest("http://127.0.0.1:9", "writer", "owner/name", 7, patience_s=0.01)
    with pytest.raises(BackendError):
        gone.comment("one")


def test_a_long_review_is_cut_where_github_would_refuse_it(server: GitHub) -> None:
    request(server).comment("x" * 100_000)
    (body,) = server.bodies()
    assert LONGEST < len(body) < 65_536
    assert body.endswith("summary of the job.")
