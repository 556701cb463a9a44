"""evaluate, safety, gate, deploy and the two hello steps, on files."""

from __future__ import annotations

import json
from types import SimpleNamespace

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judging import Answerer, Bench, write_responses

from llmops import sandbox
from llmops.errors import BackendError, ConfigError, DataError
from llmops.examples import hello
from llmops.execute import structure
from llmops.files import file_sha256
from llmops.plan.keys import read_settings
from llmops.plan.kinds import Work
from llmops.ports.model import ModelReference
from llmops.prompts.prompt import Prompt, prompt_of_content
from llmops.steps import deploy, evaluate, gate, safety, safety_test, say_hello

ADAPTER = "ad" * 32
TUNED = {
    "provider": "local",
    "base": "SmolLM2",
    "base_sha256": "ba" * 32,
    "tuned": "so_python-1",
    "endpoint": None,
    "prompt_sha256": "cd" * 32,
    "dataset_version": "v1-3f9c21ab",
    "facts": {"steps": 40},
}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def read(bench, name):
    return json.loads(bench.output(name).read_text())


def answers(**tuned):
    rows = [{"row_key": f"{i:04}", "contestant": "untuned", "nll": 9.0 + i} for i in range(30)]
    return rows + [
        {"row_key": f"{i:04}", "contestant": "tuned", "nll": 6.0 + i, **tuned} for i in range(30)
    ]


# ------------------------------------------------------------------- evaluate


def test_evaluate_writes_figures_pairs_and_how_many_rows_there_were(bench, tmp_path):
    path = write_responses(tmp_path / "r.parquet", answers())
    outcome = bench.run(evaluate.KIND, {"responses": path})
    document = read(bench, "metrics")
    assert document["contestants"]["tuned"]["loss"]["value"] == pytest.approx((6 + 14.5) / 4)
    assert document["paired"]["loss"]["tuned"]["high"] < 0
    assert (document["rows"], document["test_rows_available"]) == (30, 300)
    assert outcome.facts["values"]["tuned"]["truncated"] == 0


def test_evaluate_refuses_a_contestant_that_lacks_a_row(bench, tmp_path):
    path = write_responses(tmp_path / "r.parquet", answers()[:-1])
    with pytest.raises(DataError, match="did not answer the same rows"):
        bench.run(evaluate.KIND, {"responses": path})


def test_evaluate_refuses_an_unknown_metric(bench, tmp_path):
    path = write_responses(tmp_path / "r.parquet", answers())
    with pytest.raises(ConfigError, match="no metric 'rouge'"):
        bench.run(evaluate.KIND, {"responses": path}, "evaluation.metrics=[rouge]")


def test_evaluate_gives_the_same_bytes_twice(bench, tmp_path):
    path = write_responses(tmp_path / "r.parquet", answers())
    bench.run(evaluate.KIND, {"responses": path})
    first = bench.output("metrics").read_bytes()
    bench.run(evaluate.KIND, {"responses": path})
    assert bench.output("metrics").read_bytes() == first


class Letters:
    """Encodes a text by its first letter: equal ones lie together, others at a right angle."""

    description = "first letters"
    dimensions = 26

    def encode(self, texts, progress):
        return np.array([[float(ord(text[0]) - 97 == i) for i in range(26)] for text in texts])


def measured(bench, rows, *overrides, models=None):
    path = write_responses(bench.folder / "r.parquet", rows, models=models)
    bench.run(evaluate.KIND, {"responses": path}, *overrides)
    return read(bench, "metrics")["contestants"]


def test_semantic_similarity_is_the_cosine_of_answer_and_reference(tmp_path):
    bench = Bench(tmp_path, encoder=Letters)
    texts = ["alike", "about", "other", "zebra", "also", "no"]
    rows = [
        {"row_key": f"{i:04}", "contestant": "untuned", "text": text, "reference": "a b"}
        for i, text in enumerate(texts)
    ]
    found = measured(bench, rows, "evaluation.metrics=[semantic_similarity]", "encoder=minilm")
    assert found["untuned"]["semantic_similarity"]["value"] == pytest.approx(3 / 6)


def test_latency_is_the_mean_of_what_the_provider_told_and_null_if_one_row_has_none(bench):
    rows = [
        {"row_key": f"{i:04}", "contestant": name, "latency_s": seconds * (i + 1)}
        for i in range(8)
        for name, seconds in (("untuned", 0.5), ("tuned", 1.0))
    ]
    found = measured(bench, rows, "evaluation.metrics=[latency]")
    assert (found["untuned"]["latency"]["value"], found["tuned"]["latency"]["value"]) == (2.25, 4.5)
    rows[1]["latency_s"] = None
    gap = measured(bench, rows, "evaluation.metrics=[latency]")["tuned"]["latency"]
    assert (gap["value"], gap["why"]) == (None, "1 of 8 rows have no figure")


def test_cost_is_that_of_the_tokens_by_each_models_own_price(bench):
    rows = [
        {"row_key": f"{i:04}", "contestant": name, "prompt_tokens": 1000, "output_tokens": 100}
        for i in range(8)
        for name in ("untuned", "tuned")
    ]
    models = {"untuned": {"base": "small"}, "tuned": {"base": "large"}}
    prices = "+evaluation.prices={small: {input: 1, output: 10}, large: {input: 2, output: 20}}"
    found = measured(bench, rows, "evaluation.metrics=[cost]", prices, models=models)
    assert found["untuned"]["cost"]["value"] == pytest.approx(0.002)
    assert found["tuned"]["cost"]["value"] == pytest.approx(0.004)
    unknown = "+evaluation.prices={small: {input: 1, output: 10}}"
    found = measured(bench, rows, "evaluation.metrics=[cost]", unknown, models=models)
    assert found["tuned"]["cost"]["value"] is None


ALLOW = "evaluation.sandbox={timeout_s: 5, max_memory_mb: 256}"
works = pytest.mark.skipif(sandbox.why_not() is not None, reason="no sandbox on this machine")
FENCED = (
    "Like this:\n```python\ndef add(a, b):\n    return a + b\n```\nor\n```\nprint(add(1, 2))\n```"
)


def written(**texts):
    return [
        {"row_key": f"{i:04}", "contestant": name, "text": text}
        for name, text in texts.items()
        for i in range(8)
    ]


@works
def test_generated_code_is_run_and_what_ended_it_is_counted(bench, tmp_path):
    path = write_responses(tmp_path / "r.parquet", written(untuned="No code.", tuned=FENCED))
    bench.run(evaluate.KIND, {"responses": path}, "evaluation.metrics=[code_passes]", ALLOW)
    document = read(bench, "metrics")
    assert document["code"] == {"untuned": {"no code": 8}, "tuned": {"passed": 8}}
    rates = {name: one["code_passes"]["value"] for name, one in document["contestants"].items()}
    assert rates == {"untuned": 0.0, "tuned": 1.0}


@works
def test_a_rows_checks_decide_over_its_code(bench, tmp_path):
    texts = written(untuned="def add(a, b): return a - b", tuned=FENCED)
    path = write_responses(tmp_path / "r.parquet", texts)
    test = tmp_path / "test.parquet"
    rows = {"row_key": [f"{i:04}" for i in range(8)], "checks": ["assert add(1, 2) == 3"] * 8}
    pq.write_table(pa.table(rows), test)
    inputs = {"responses": path, "test": test}
    bench.run(evaluate.KIND, inputs, "evaluation.metrics=[code_passes]", ALLOW)
    found = read(bench, "metrics")["code"]
    assert found == {"untuned": {"AssertionError": 8}, "tuned": {"passed": 8}}


def test_code_does_not_run_unless_that_is_allowed(bench, tmp_path):
    path = write_responses(tmp_path / "r.parquet", written(untuned=FENCED))
    with pytest.raises(ConfigError, match="runs what models write"):
        bench.run(evaluate.KIND, {"responses": path}, "evaluation.metrics=[code_passes]")


def test_code_does_not_run_where_the_sandbox_does_not_work(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "why_not", sandbox.why_not.__wrapped__)
    monkeypatch.setenv("PATH", "/nowhere")
    path = write_responses(tmp_path / "r.parquet", written(untuned=FENCED))
    with pytest.raises(BackendError, match="bwrap is not installed"):
        bench.run(evaluate.KIND, {"responses": path}, "evaluation.metrics=[code_passes]", ALLOW)


# --------------------------------------------------------------------- safety


def test_safety_passes_harmless_answers(bench, tmp_path):
    path = write_responses(tmp_path / "r.parquet", answers())
    assert bench.run(safety.KIND, {"responses": path}).facts["passed"]
    assert read(bench, "report")["scorer"]["is_safety_evaluation"] is False


def test_safety_counts_unscored_answers_as_violations(bench, tmp_path):
    path = write_responses(tmp_path / "r.parquet", answers(safety=None))
    assert not bench.run(safety.KIND, {"responses": path}).facts["passed"]
    assert read(bench, "report")["contestants"]["tuned"]["violations"]["count"] == 30


def test_safety_uses_the_configs_threshold(bench, tmp_path):
    score = [{"category": "profanity", "score": 0.5}]
    path = write_responses(tmp_path / "r.parquet", answers(safety=score))
    assert bench.run(safety.KIND, {"responses": path}).facts["passed"]
    strict = bench.run(safety.KIND, {"responses": path}, "safety.thresholds.profanity=0.5")
    assert not strict.facts["passed"]


def test_safety_refuses_a_threshold_that_the_scorer_cannot_reach(bench, tmp_path):
    path = write_responses(tmp_path / "r.parquet", answers())
    with pytest.raises(ConfigError, match="no category 'hate'"):
        bench.run(safety.KIND, {"responses": path}, "+safety.thresholds.hate=0.5")


# ----------------------------------------------------------------------- gate


def judge(bench, tmp_path, *overrides, **tuned):
    path = write_responses(tmp_path / "r.parquet", answers(**tuned))
    for step in (evaluate, safety):
        bench.run(step.KIND, {"responses": path})
    card = tmp_path / "card.json"
    leakage = {"exact": {"rows": 0, "share": 0}, "near": {"rows": 0, "share": 0, "threshold": 0.85}}
    card.write_text(json.dumps({"leakage": leakage}))
    inputs = {"metrics": bench.output("metrics"), "safety": bench.output("report"), "card": card}
    return bench.run(gate.KIND, inputs, *overrides)


def test_the_gate_opens_for_a_better_and_safe_model(bench, tmp_path):
    assert judge(bench, tmp_path).facts == {"passed": True, "failed": []}
    assert read(bench, "decision")["contestant"] == "tuned"


def test_the_gate_refuses_a_worse_model_and_the_step_succeeds(bench, tmp_path):
    outcome = judge(bench, tmp_path, nll=50.0)
    assert not outcome.facts["passed"]
    assert "not shown to be better" in outcome.facts["failed"][0]


def test_a_gate_without_inputs_refuses(bench):
    assert len(bench.run(gate.KIND, {}).facts["failed"]) == 4


# --------------------------------------------------------------------- deploy


def tune_folder(tmp_path, **changes):
    folder = tmp_path / "tuned model"
    folder.mkdir(exist_ok=True)
    (folder / "tuned.json").write_text(json.dumps({**TUNED, **changes}))
    return folder


def run_deploy(bench, tmp_path, adapter=ADAPTER, **changes):
    folder = tune_folder(tmp_path, **changes)
    return bench.run(deploy.KIND, {"model": folder}, digests={"model": adapter})


def still_there(bench, facts):
    from judging import experiment

    settings = structure(deploy.KIND, read_settings(deploy.KIND, experiment(), "deploy"))
    return deploy.verify(settings, bench._adapters(experiment()), facts)


def test_deploy_registers_a_candidate_that_refers_to_the_tuned_folder(bench, tmp_path):
    outcome = run_deploy(bench, tmp_path)
    model = ModelReference(**read(bench, "model"))
    assert (model.adapter, model.prompt_sha256) == (ADAPTER, "cd" * 32)
    assert outcome.facts["version"] == 1
    from judging import experiment

    registered = bench._adapters(experiment()).registry().get("so_python", "candidate")
    assert registered.model == model
    assert registered.labels == {
        "base": "SmolLM2",
        "dataset_version": "v1-3f9c21ab",
        "endpoint": "in_process",
        "experiment": "so_python",
        "prompt": "so_python",
        "prompt_sha256": "cd" * 32,
        "step_key": "5e" * 32,
    }


def test_the_registered_model_leads_to_its_prompt(bench, tmp_path):
    from judging import experiment

    prompt = msgspec.convert(experiment()["prompt"], Prompt)
    run_deploy(bench, tmp_path, prompt_sha256=prompt.digest())
    assert file_sha256(bench.output("prompt")) == prompt.digest()
    kept = prompt_of_content(bench.output("prompt").read_text("utf-8"), prompt.name)
    assert kept == prompt


def test_deploying_the_same_model_again_changes_nothing(bench, tmp_path):
    first = run_deploy(bench, tmp_path).facts
    assert run_deploy(bench, tmp_path).facts == first


def test_deploying_another_model_moves_the_candidate(bench, tmp_path):
    run_deploy(bench, tmp_path)
    assert run_deploy(bench, tmp_path, adapter="be" * 32).facts["version"] == 2


def test_a_cached_deployment_holds_while_the_registry_has_the_model(bench, tmp_path):
    facts = run_deploy(bench, tmp_path).facts
    assert still_there(bench, facts)


def test_a_cached_deployment_does_not_hold_without_its_registry(bench, tmp_path):
    assert not still_there(bench, {"version": 1, "digest": "00" * 32})


def test_a_cached_deployment_does_not_hold_for_another_model(bench, tmp_path):
    facts = run_deploy(bench, tmp_path).facts
    assert not still_there(bench, {**facts, "digest": "00" * 32})


def test_a_folder_without_its_description_is_refused(bench, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no readable tuned\.json"):
        bench.run(deploy.KIND, {"model": tmp_path / "empty"}, digests={"model": ADAPTER})


# ---------------------------------------------------------------------- hello


def work(settings, inputs, outputs):
    return Work("s", "k", "r", settings, inputs, {}, outputs, None, None, None)


def test_hello_greets_and_the_projects_own_step_replies(tmp_path):
    greeting, reply = tmp_path / "greeting", tmp_path / "reply"
    say_hello.run(work(say_hello.Settings("Erwin"), {}, {"greeting": greeting}))
    hello.run(work(hello.Settings(), {"greeting": greeting}, {"reply": reply}))
    assert json.loads(greeting.read_text()) == {"text": "Hello, Erwin!"}
    assert json.loads(reply.read_text()) == {"text": "Hello, Erwin! How are you?"}


# ---------------------------------------------------------------- safety_test


def test_the_safety_test_asks_its_suites_and_the_gate_can_require_both_rates(tmp_path):
    asked = Answerer()
    bench = Bench(tmp_path, generators=lambda reference: asked)
    suites = "+pipeline.steps.safety_test.with.suites=[own]"
    outcome = bench.run(safety_test.KIND, {}, suites, "safety.input.prompt_injection=block")
    report = read(bench, "report")
    assert outcome.facts == {"catch_rate": 4 / 31, "false_alarms": 0.0}
    assert report["stopped_by"]["harmful"]["input"] == 4
    assert len(asked.asked) == 60
    limits = "+gate.safety_test={min_catch_rate: 0.9, max_false_alarms: 0.2}"
    others = ("gate.safety=false", "gate.max_leakage=null", "gate.rules=[]")
    decided = bench.run(gate.KIND, {"safety_test": bench.output("report")}, limits, *others)
    assert not decided.facts["passed"]
    assert len(decided.facts["failed"]) == 1
    assert "harmful prompts caught: 12.9% of 31" in decided.facts["failed"][0]


def test_what_the_suites_hold_is_part_of_the_key():
    settings = SimpleNamespace(suites=("own",))
    assert safety_test.KIND.source(settings, None).facts["suites"].startswith('{"own":"')


def test_a_suite_that_is_not_there_is_a_config_error(tmp_path):
    bench = Bench(tmp_path, generators=lambda reference: Answerer())
    with pytest.raises(ConfigError, match="no suite 'suites/none"):
        bench.run(safety_test.KIND, {}, "+pipeline.steps.safety_test.with.suites=[suites/none.csv]")
