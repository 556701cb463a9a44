"""Monitoring: what alerts, what chance explains, and what is too little to say."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from llmops import api, cli
from llmops.errors import BackendError, ConfigError, DataError
from llmops.monitoring import drift
from llmops.monitoring.watch import Answered, Asked, Limits, watch

HOW = {"confidence": 0.95, "seed": 3}
NONE = Limits(**dict.fromkeys(Limits.__dataclass_fields__))
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def normal(rows, shift=0.0, seed=1):
    return list(np.random.default_rng(seed).normal(shift, 1, rows))


# ------------------------------------------------------------------ distances


@settings(max_examples=10)
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=30),
    st.lists(st.integers(0, 9), min_size=2, max_size=30),
)
def test_the_distance_of_numbers_is_kolmogorovs_and_smirnovs(now, before):
    found = drift.of_numbers("n", now, before, **HOW)
    assert found.distance == pytest.approx(ks_2samp(now, before).statistic)
    assert 0 <= found.low <= found.distance <= found.high <= 1


def test_two_samples_of_one_source_are_as_far_apart_as_chance_has_it():
    found = drift.of_numbers("n", normal(300), normal(300, seed=2), **HOW)
    assert found.p > 0.05
    assert found.distance < 2 * found.by_chance


def test_a_shifted_sample_is_further_apart_than_any_permutation():
    found = drift.of_numbers("n", normal(300, 1.0), normal(300, seed=2), **HOW)
    assert found.p == pytest.approx(1 / (drift.DRAWS + 1))
    assert found.low > found.by_chance


def test_the_same_samples_give_the_same_figures():
    samples = normal(60), normal(80, seed=2)
    assert drift.of_numbers("n", *samples, **HOW) == drift.of_numbers("n", *samples, **HOW)


def test_words_drift_when_people_ask_about_other_things():
    lists = [f"how do i sort a list {n % 7}" for n in range(60)]
    pandas = [f"merge two data frames {n % 7}" for n in range(60)]
    assert drift.of_words("w", lists, pandas, **HOW).distance > 0.7
    assert drift.of_words("w", lists, lists, **HOW).distance == 0
    assert drift.of_words("w", ["?"] * 5, ["!"] * 5, **HOW).distance == 0


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [([1, 0], [0, 1], 1.0), ([1, 1], [2, 2], 0.0), ([0, 0], [1, 1], 0)],
)
def test_jensens_and_shannons_distance_lies_between_zero_and_one(left, right, distance):
    found = drift.jensen_shannon(np.array([left], float), np.array([right], float))
    assert found[0] == pytest.approx(distance)


def test_vectors_drift_by_their_means():
    here, there = np.zeros((50, 3)), np.tile([0.0, 3.0, 4.0], (50, 1))
    found = drift.of_vectors("v", here, there, **HOW)
    assert found.distance == pytest.approx(5)
    assert found.p < 0.01


def test_p_values_are_corrected_by_holm():
    one = drift.of_numbers("n", normal(9), normal(9, seed=2), **HOW)
    from dataclasses import replace

    found = drift.corrected([replace(one, p=p) for p in (0.03, 0.01, 0.5)])
    assert [one.p_corrected for one in found] == pytest.approx([0.06, 0.03, 0.5])


# ------------------------------------------------------------------ a window


def answered(count, **fields):
    plain = {
        "day": "2026-11-25",
        "answer": "Use sorted().",
        "blocked": False,
        "failed": False,
        "latency_s": 0.5,
        "cost": 0.01,
        "rating": None,
    }
    return [Answered(**plain | fields) for _ in range(count)]


def asked(lengths, **fields):
    return Asked("a window", lengths, fields.pop("texts", None), **fields)


def look(answers, now=None, before=None, *, min_rows=20, **limits):
    from dataclasses import replace

    same = asked(list(range(100)))
    return watch(
        now or same,
        before or same,
        answers,
        replace(NONE, **limits),
        confidence=0.95,
        min_rows=min_rows,
        days=2.0,
        seed=3,
    )


def test_a_quiet_window_alerts_nothing():
    limits = dict.fromkeys(Limits.__dataclass_fields__, 1.0)
    assert look(answered(100), **limits)["alerts"] == []


@pytest.mark.parametrize(
    ("answers", "limits", "said"),
    [
        (answered(70) + answered(30, blocked=True), {"blocked_rate": 0.1}, "blocked: 30 of 100"),
        (answered(80) + answered(20, failed=True), {"failed_rate": 0.02}, "failed: 20 of 100"),
        (
            answered(50) + answered(50, answer="I'm sorry, but I can't help with that."),
            {"refused_rate": 0.2},
            "refused: 50 of 100",
        ),
        (
            answered(60, rating="down") + answered(40, rating="up"),
            {"thumbs_down_rate": 0.3},
            "thumbs down: 60 of 100",
        ),
        (answered(100, latency_s=20.0), {"latency_p95_s": 10.0}, "latency: p95 20.00 s"),
        (answered(100, cost=1.0), {"cost_per_day": 40.0}, "cost: 50.00 a day"),
    ],
)
def test_what_passes_its_limit_alerts(answers, limits, said):
    (alert,) = look(answers, **limits)["alerts"]
    assert alert.startswith(said)


def test_a_rate_that_chance_could_have_made_alerts_nothing():
    answers = answered(88) + answered(12, blocked=True)
    found = look(answers, blocked_rate=0.1)
    assert found["rates"][0]["value"] == 0.12
    assert found["alerts"] == []


def test_a_slow_few_alert_nothing():
    found = look(answered(92) + answered(8, latency_s=20.0), latency_p95_s=10.0)
    assert found["latency"]["p95_s"] == 20.0
    assert found["latency"]["p95_low_s"] == 0.5
    assert found["alerts"] == []


def test_longer_questions_and_other_scores_alert():
    now = asked([n + 80 for n in range(100)], scores={"profanity": [0.9] * 100})
    before = asked(list(range(100)), scores={"profanity": [0.1] * 100})
    found = look(answered(100), now, before, input_length=0.2, score=0.3)
    assert [one["name"] for one in found["drift"] if one["alert"]] == [
        "input_length",
        "score profanity",
    ]
    assert len(found["alerts"]) == 2


def test_too_few_rows_say_so_and_alert_nothing():
    found = look(answered(5, blocked=True), asked([1] * 5), min_rows=20, blocked_rate=0.0)
    assert not found["enough"]
    assert found["alerts"] == []
    assert found["drift"] == found["rates"] == []


def test_without_texts_refusals_and_words_are_not_known():
    found = look(answered(50, answer=None))
    assert [one["name"] for one in found["drift"]] == ["input_length"]
    refused = next(one for one in found["rates"] if one["name"] == "refused")
    assert (refused["trials"], refused["value"]) == (0, None)


# ------------------------------------------------------------------ the command


def log_line(number, moment, **fields):
    plain = {
        "kind": "answer",
        "id": f"ans_{number:024x}_00000000",
        "time": moment.isoformat().replace("+00:00", "Z"),
        "model": "so_python",
        "question": f"how do i sort list number {number % 9}",
        "question_characters": 30 + number % 9,
        "answer": "Use sorted().",
        "blocked": False,
        "finish_reason": "stop",
        "latency_s": 0.2,
        "scores": {"profanity": 0.01 * (number % 9)},
        "cost": 0.001,
    }
    return orjson.dumps(plain | fields)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    return tmp_path


def write_log(workspace, *, blocked=0):
    from llmops.traffic import segments

    writer = segments.Writer(workspace / ".llmops" / "logs", segment_bytes=10**9, fsync=False)
    before = [log_line(n, NOW - timedelta(days=2, minutes=n)) for n in range(120)]
    now = [
        log_line(200 + n, NOW - timedelta(minutes=n + 1), blocked=n < blocked) for n in range(100)
    ]
    writer.append([*before, *now])
    writer.close()


AGAINST = ["monitor.against=window", "monitor.window_days=1", "monitor.baseline_days=7"]


def test_a_quiet_log_ends_well_and_leaves_a_page(workspace):
    write_log(workspace)
    watched = api.monitor(AGAINST, until=NOW)
    assert watched.alerts == []
    assert (watched.report["rows"], watched.report["against_rows"]) == (100, 120)
    page = watched.page.read_text("utf-8")
    assert "no alert" in page
    assert page.count("<svg") == 4
    assert json.loads(watched.page.with_suffix(".json").read_text("utf-8")) == watched.report


def test_an_alert_ends_with_three_and_says_what(workspace, capsys, monkeypatch):
    write_log(workspace, blocked=60)
    monkeypatch.setattr("llmops.api.monitoring.datetime", Frozen)
    assert cli.main(["monitor", *AGAINST]) == 3
    told = capsys.readouterr()
    assert "blocked: 60 of 100" in told.err
    assert "page" in told.out


class Frozen(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def test_an_alert_reaches_the_webhook(workspace, monkeypatch):
    write_log(workspace, blocked=60)
    got = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        monkeypatch.setenv("ALERT_URL", f"http://127.0.0.1:{server.server_port}/")
        api.monitor([*AGAINST, "monitor.alert.webhook=${secret:ALERT_URL}"], until=NOW)
        thread.join(5)
    assert got[0]["alerts"][0].startswith("blocked: 60 of 100")
    assert got[0]["run"] is None


def test_a_webhook_that_is_down_is_a_backend_error_and_the_page_is_there(workspace, monkeypatch):
    write_log(workspace, blocked=60)
    monkeypatch.setenv("ALERT_URL", "http://127.0.0.1:9/")
    with pytest.raises(BackendError, match="could not be sent"):
        api.monitor([*AGAINST, "monitor.alert.webhook=${secret:ALERT_URL}"], until=NOW)
    assert len(list((workspace / ".llmops" / "monitor").glob("*.html"))) == 1


def test_an_empty_log_says_that_there_is_too_little(workspace):
    watched = api.monitor(AGAINST, until=NOW)
    assert not watched.report["enough"]
    assert watched.alerts == []


def test_without_training_data_there_is_nothing_to_compare_with(workspace):
    write_log(workspace)
    with pytest.raises(DataError, match="no training data"):
        api.monitor(until=NOW)


@pytest.mark.parametrize(
    "override", ["monitor.window_days=0", "monitor.limits.blocked_rate=2", "split=group"]
)
def test_a_wrong_config_is_a_config_error(workspace, override):
    with pytest.raises(ConfigError):
        api.monitor([override], until=NOW)


def test_the_crontab_line_does_the_same_in_this_folder(workspace, capsys):
    assert cli.main(["monitor", "monitor.window_days=1", "--cron", "0 6 * * *"]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"0 6 * * * cd {workspace} && ")
    assert line.rstrip().endswith("-m llmops monitor monitor.window_days=1")
    assert cli.main(["monitor", "--cron", "daily"]) == 2
