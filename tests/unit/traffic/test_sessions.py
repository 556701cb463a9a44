"""Sessions keep what was said, within a budget of tokens, for whom it belongs to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from llmops.errors import BackendError
from llmops.traffic.sessions import Sessions, Turn


@pytest.fixture
def sessions(tmp_path):
    return Sessions(tmp_path / "sessions.sqlite", max_tokens=100, retention_days=30)


def test_the_newest_turns_that_fit_come_back_oldest_first(sessions):
    for number in range(6):
        sessions.add("ops", "s", Turn(f"q{number}", f"a{number}"), tokens=30)
    assert [turn.question for turn in sessions.history("ops", "s")] == ["q3", "q4", "q5"]


def test_one_turn_over_the_budget_leaves_no_history(sessions):
    sessions.add("ops", "s", Turn("q", "a"), tokens=101)
    assert sessions.history("ops", "s") == []


def test_anothers_session_of_the_same_name_is_another(sessions):
    sessions.add("ops", "s", Turn("q", "a"), tokens=1)
    assert sessions.history("dev", "s") == []
    assert [(one.session, one.turns) for one in sessions.list("ops")] == [("s", 1)]


def test_a_session_can_be_forgotten_and_ages(sessions):
    sessions.add("ops", "s", Turn("q", "a"), tokens=1)
    sessions.add("ops", "t", Turn("q", "a"), tokens=1)
    assert sessions.forget("ops", "s") == 1
    assert sessions.expire(datetime.now(UTC) + timedelta(days=29)) == 0
    assert sessions.expire(datetime.now(UTC) + timedelta(days=31)) == 1
    assert sessions.list("ops") == []


def test_only_its_owner_reads_the_file(sessions):
    sessions.add("ops", "s", Turn("q", "a"), tokens=1)
    assert sessions.path.stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_database_is_told(sessions):
    sessions.path.write_bytes(b"not a database, but long enough to be looked at" * 20)
    with pytest.raises(BackendError, match="not a database"):
        sessions.history("ops", "s")
