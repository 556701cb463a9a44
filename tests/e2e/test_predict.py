"""Whole `predict` commands: grounded and chained answers, streams, queries, files, a killed run.

The provider is another of our own servers, which echoes the question; passages come out of the
sample warehouse.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import openai
import pyarrow.parquet as pq
import pytest

from llmops import cli
from llmops.api.answering import open_model
from llmops.traffic.segments import lines
from tests.fakes.serving import TOKEN, Echo, echoing, running

MODEL = [
    "model=openai",
    "model.base=so_python",
    "model.api_key='${secret:PROVIDER_KEY}'",
    "model.attempts=1",
    "evaluation.metrics=[rouge_l]",
]
GROUNDED = ["+experiment=so_python_grounded", *MODEL]
CHAINED = ["+experiment=so_python_chain", *MODEL]
ASKED = "yes, how do I read a csv file? [1]"  # echoed: it says yes, and cites a passage
STEPS = ["classify", "retrieve", "answer", "check"]


@pytest.fixture(scope="module")
def echo():
    return Echo()


@pytest.fixture(scope="module")
def provider(tmp_path_factory, echo):
    with running(tmp_path_factory.mktemp("provider"), echoing(echo)) as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture
def workspace(folder, provider, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(folder))
    monkeypatch.setenv("PROVIDER_KEY", TOKEN)
    return folder


@pytest.fixture
def endpoint(provider):
    return f"model.endpoint={provider.address}/v1"


@pytest.fixture
def predict(workspace, endpoint, capsys):
    """Return what runs a whole command in this process: its exit code and what it printed."""

    def run(chosen, *arguments):
        capsys.readouterr()
        code = cli.main(["predict", "--model", "untuned", *arguments, *chosen, endpoint])
        return code, capsys.readouterr()

    return run


def records(folder):
    return {one["id"]: one for one in map(json.loads, lines(folder / ".llmops" / "logs"))}


# ------------------------------------------------------------------ passages and chains


def test_a_grounded_answer_shows_its_passages_and_what_it_cites(predict, workspace):
    code, told = predict(GROUNDED, "--question", ASKED, "--json")
    assert code == 0, told.err
    whole = json.loads(told.out)
    passages = whole["grounding"]["passages"]
    assert [one["number"] for one in passages] == [1, 2]
    assert (whole["grounding"]["cited"], whole["grounding"]["unknown"]) == ([1], [])
    assert whole["citations"][0]["title"] == passages[0]["title"]
    assert whole["text"] == f"echo: {ASKED}"
    assert records(workspace)[whole["id"]]["answer"] == whole["text"]


def test_a_citation_of_a_passage_that_was_not_retrieved_is_found_and_may_block(predict):
    question = ASKED.replace("[1]", "[7]")
    flagged = predict(GROUNDED, "--question", question)[1]
    assert "flag (rules, answer)" in flagged.err
    assert "cites unknown [7]" in flagged.err
    strict = [*GROUNDED, "+safety.output.ungrounded=block"]
    blocked = json.loads(predict(strict, "--question", question, "--json")[1].out)
    assert (blocked["blocked"], blocked["blocked_by"]) == (True, ["rules"])


def test_a_chain_shows_what_each_of_its_steps_did(predict):
    code, told = predict(CHAINED, "--question", ASKED)
    assert code == 0, told.err
    assert told.out.strip() == f"echo: {ASKED}"
    shown = [line for line in told.err.splitlines() if line.startswith("step ")]
    assert [line.split()[1].rstrip(":") for line in shown] == STEPS
    whole = json.loads(predict(CHAINED, "--question", ASKED, "--json")[1].out)
    assert [step["step"] for step in whole["trace"]] == STEPS
    assert whole["trace"][0]["choice"] == "yes"
    assert all(step["seconds"] >= 0 for step in whole["trace"])
    assert whole["grounding"]["cited"] == [1]


def test_a_question_that_a_chain_sends_away_gets_its_message(predict):
    code, told = predict(CHAINED, "--question", "what is the weather?", "--json")
    whole = json.loads(told.out)
    assert (code, whole["text"]) == (0, "I answer questions about programming only.")
    assert [step["step"] for step in whole["trace"]] == ["classify"]


@pytest.mark.parametrize(("chosen", "steps"), [(GROUNDED, []), (CHAINED, STEPS)])
def test_served_answers_rest_on_passages_and_go_through_the_chain(
    workspace, endpoint, tmp_path, chosen, steps
):
    model = open_model("untuned", [*chosen, endpoint])
    with running(tmp_path, model) as found:
        answer = httpx.post(
            f"{found.address}/v1/predict",
            json={"question": ASKED},
            headers=found.headers,
            timeout=20,
        ).json()
        with openai.OpenAI(base_url=f"{found.address}/v1", api_key=TOKEN) as client:
            asked = {
                "model": model.name,
                "messages": [{"role": "user", "content": ASKED}],
            }
            whole = client.chat.completions.create(**asked).choices[0].message.content
            chunks = list(client.chat.completions.create(**asked, stream=True))
    streamed = "".join(one.choices[0].delta.content or "" for one in chunks)
    assert whole == streamed.strip() == answer["text"] == f"echo: {ASKED}"
    assert answer["grounding"]["cited"] == [1]
    assert answer["citations"][0]["title"]
    assert [step["step"] for step in answer["trace"]] == steps


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "steps"), [("so_python_grounded", []), ("so_python_chain", STEPS)]
)
def test_the_embedded_model_answers_by_passages_and_through_a_chain(
    workspace, capsys, experiment, steps
):
    asked = ["--model", "untuned", "--question", "How do I read a csv file?", "--json"]
    code = cli.main(["predict", *asked, f"+experiment={experiment}", "predict.max_new_tokens=16"])
    told = capsys.readouterr()
    assert code == 0, told.err
    whole = json.loads(told.out)
    assert whole["text"]
    done = [step["step"] for step in whole["trace"]]
    assert done == steps[: len(done)]  # so small a model may end the chain early
    assert bool(done) is bool(steps)
    if not steps:
        assert len(whole["grounding"]["passages"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [GROUNDED, CHAINED], ids=["grounded", "chained"])
def test_evaluation_asks_with_passages_and_keeps_the_trace_of_a_chain(
    workspace, endpoint, echo, chosen
):
    from llmops import api
    from llmops.adapters.catalog import open_store
    from llmops.artifacts import reference
    from llmops.config.compose import compose

    overrides = [*chosen, endpoint, "evaluation.max_rows=3"]
    record = api.run(overrides).record
    assert record["status"] == "succeeded"
    store = open_store(compose(overrides).config, workspace)
    step = next(one for one in record["steps"] if one["kind"] == "predict")
    table = pq.read_table(store.local_path(reference(step["outputs"]["responses"])))
    assert table.num_rows == 3
    if chosen is CHAINED:
        steps = [json.loads(one) for one in table["trace"].to_pylist()]
        assert all(found[0]["step"] == "classify" for found in steps)
    else:
        assert "trace" not in table.column_names
        asked = [chat[-1].text for chat, _ in echo.asked[-3:]]
        assert all("cite them by their numbers" in text for text in asked)


# ------------------------------------------------------------------ streams, queries, files


def test_a_streamed_answer_is_printed_as_it_comes_and_told_about(predict, workspace):
    code, told = predict(GROUNDED, "--question", ASKED, "--stream")
    assert code == 0, told.err
    assert told.out.strip() == f"echo: {ASKED}"
    assert "tokens: 5 in" in told.err
    identity = told.err.rsplit("id: ", 1)[1].strip()
    assert records(workspace)[identity]["answer"].strip() == f"echo: {ASKED}"


def test_the_rows_of_a_query_are_answered_into_parquet(predict, tmp_path):
    out = tmp_path / "answers.parquet"
    sql = (
        "SELECT CAST(q.id AS STRING) AS id, q.title AS question"
        " FROM `bigquery-public-data.stackoverflow.posts_questions` q ORDER BY q.id LIMIT 3"
    )
    code, told = predict(GROUNDED, "--query", sql, "--out", str(out))
    assert code == 0, told.err
    assert "3 rows answered, 0 blocked" in told.out
    rows = pq.read_table(out).to_pylist()
    assert [row["response"] for row in rows] == [f"echo: {row['question']}" for row in rows]
    assert all(json.loads(row["response_grounding"])["passages"] for row in rows)


def test_a_query_that_is_no_select_or_names_no_such_table_is_one_error(predict, tmp_path):
    out = str(tmp_path / "answers.parquet")
    for sql in ("DROP TABLE x", "SELECT question FROM `shop.data.nowhere`"):
        code, told = predict(GROUNDED, "--query", sql, "--out", out)
        assert code == 2, told.err
        assert "Traceback" not in told.err


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_file_comes_out_in_its_own_format_with_its_own_columns(predict, tmp_path, suffix):
    import pyarrow as pa

    rows = [{"id": "007", "question": "one?"}, {"id": "1e5", "question": "two, three?"}]
    place, out = tmp_path / f"rows{suffix}", tmp_path / f"answers{suffix}"
    if suffix == ".csv":
        with place.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "question"])
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), place)
    else:
        place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, told = predict(GROUNDED, "--file", str(place), "--out", str(out))
    assert code == 0, told.err
    found = _read(out)
    assert [row["id"] for row in found] == ["007", "1e5"]
    assert [row["response"] for row in found] == ["echo: one?", "echo: two, three?"]


def _read(path):
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_killed_command_goes_on_and_asks_no_answered_row_again(
    workspace, endpoint, echo, tmp_path, monkeypatch
):
    rows, out = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("question\n" + "".join(f"question {n}?\n" for n in range(12)))
    command = [sys.executable, "-m", "llmops", "predict", "--model", "untuned"]
    command += ["--file", str(rows), "--out", str(out), "predict.batch_rows=2"]
    command += [*GROUNDED, endpoint, "~grounding", "model.parallel_requests=1"]
    monkeypatch.setattr(echo, "seconds", 0.2)
    asked_before = len(echo.asked)
    with subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL) as process:
        parts = tmp_path / "answers.csv.parts"
        _until(lambda: (parts / "000001.jsonl").exists())
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    monkeypatch.setattr(echo, "seconds", 0.0)
    done = subprocess.run(
        [*command, "--json"], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["rows"] == 12
    assert told["resumed"] >= 4
    assert not parts.exists()
    assert [row["response"] for row in _read(out)] == [f"echo: question {n}?" for n in range(12)]
    assert len(echo.asked) - asked_before <= 12 + 2  # the part in work when it was killed


def _until(holds, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
