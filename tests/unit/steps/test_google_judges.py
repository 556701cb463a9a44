"""Judges on Vertex AI, on loopback: Gemini by a rubric, and Google's own evaluation service."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging import Bench, experiment, write_responses

from llmops.adapters import catalog
from llmops.errors import BackendError, ConfigError
from llmops.evaluation import judging
from llmops.evaluation.judging import Asked, Case, Rubric
from llmops.ports.model import GenerationSettings, Message, ModelReference
from llmops.steps.judge import KIND
from tests.fakes.loopback import cloud_on_loopback

GEMINI, SERVICE = "model@judge.model=gemini", "model@judge.model=google_evaluation"
IMPATIENT = ("judge.model.requests.per_minute=600000", "judge.model.requests.deadline_s=5")
TEXTS = {"untuned": "bad", "tuned": "good"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with cloud_on_loopback(tmp_path_factory.mktemp("cloud")) as running:
        yield running


class World:
    def __init__(self, folder, cloud):
        self.folder, self.cloud = folder, cloud
        self.bench = Bench(folder, self._open)
        rows = [
            {
                "row_key": f"{i:04}",
                "contestant": name,
                "text": f"{text} {i}",
                "prompt": f"q{i} {{x}}",
            }
            for name, text in TEXTS.items()
            for i in range(4)
        ]
        self.responses = write_responses(folder / "responses.parquet", rows)

    def _open(self, reference, model, weights=None):
        environment = self.cloud.environment
        return catalog.adapter("generator", model, reference, None, None, environment=environment)

    def judge(self, provider, *overrides):
        chosen = ("judge=helpfulness", provider, "judge.model.region=us-central1", *IMPATIENT)
        return self.bench.run(KIND, {"responses": self.responses}, *chosen, *overrides)

    def verdicts(self):
        rows = pq.read_table(self.bench.output("verdicts")).to_pylist()
        return {(row["contestant"], row["row_key"]): row for row in rows}

    def scores(self):
        return {key: row["score"] for key, row in self.verdicts().items()}


@pytest.fixture
def world(tmp_path, servers):
    servers.fresh()
    return World(tmp_path, servers)


def by_worth(instance, prompt):
    score = 5.0 if "good" in instance["response"] else 2.0
    return {"score": score, "explanation": f"it is {instance['response']}"}


def by_preference(instance, prompt):
    good = "good" in instance["response"]
    return {"pairwiseChoice": "CANDIDATE" if good else "BASELINE", "explanation": "so"}


# ---------------------------------------------------------------------- Gemini


def test_gemini_judges_by_the_rubric_and_is_held_to_the_schema(world):
    for word, score in (("good", 5), ("bad", 2)):
        world.cloud.world.answers[f'"{word} '] = json.dumps({"reason": "so", "score": score})
    world.judge(GEMINI)
    assert world.scores()["tuned", "0003"] == 1.0
    assert world.scores()["untuned", "0003"] == 0.25
    body = world.cloud.faults.found("generateContent")[0].body
    assert "A helpful answer is right" in body["systemInstruction"]["parts"][0]["text"]
    schema = body["generationConfig"]["responseJsonSchema"]
    assert schema["properties"]["score"] == {"type": "integer", "minimum": 1, "maximum": 5}


def test_gemini_is_asked_of_a_pair_in_both_positions(world):
    world.cloud.world.answers['"answer_A": "good'] = '{"reason": "first", "preferred": "A"}'
    world.cloud.world.answers['"answer_A": "bad'] = '{"reason": "second", "preferred": "B"}'
    assert world.judge(GEMINI, "judge.method=pairwise").facts["consistent_share"] == 1.0
    assert len(world.cloud.faults.found("generateContent")) == 8
    assert world.scores()["tuned", "0001"] == 1.0


# --------------------------------------------------- Google's evaluation service


def test_the_service_scores_on_the_rubrics_scale_and_says_why(world):
    world.cloud.evaluation.opinion = by_worth
    outcome = world.judge(SERVICE)
    assert world.scores()["tuned", "0002"] == 1.0
    assert world.scores()["untuned", "0002"] == 0.25
    assert world.verdicts()["tuned", "0002"]["reason"] == 'it is "good 2"'
    assert (outcome.facts["unread"], outcome.facts["model"]) == (0, "gemini-3.5-flash")


def test_the_service_is_sent_the_rubric_and_data_as_data(world):
    prompts = []
    world.cloud.evaluation.opinion = lambda instance, prompt: (
        prompts.append(prompt) or by_worth(instance, prompt)
    )
    world.judge(SERVICE)
    prompt = next(one for one in prompts if '"q1 {x}"' in one)
    assert "A helpful answer is right" in prompt
    assert "an integer from 1 (worst) to 5 (best)" in prompt
    assert 'Reference answer, which is right: "the answer"' in prompt
    rater = world.cloud.evaluation.bodies[0]["autoraterConfig"]
    assert rater["autoraterModel"].endswith("us-central1/publishers/google/models/gemini-3.5-flash")
    assert (rater["samplingCount"], rater["flipEnabled"]) == (1, False)


def test_the_services_requests_are_what_its_own_client_would_send(world):
    from google.cloud.aiplatform_v1beta1.types import EvaluateInstancesRequest

    world.cloud.evaluation.opinion = by_worth
    world.judge(SERVICE)
    world.cloud.evaluation.opinion = by_preference
    world.judge(SERVICE, "judge.method=pairwise")
    read = [
        EvaluateInstancesRequest.from_json(json.dumps(body), ignore_unknown_fields=False)
        for body in world.cloud.evaluation.bodies
    ]
    kinds = ["pointwise_metric_input" in one for one in read]
    assert (kinds.count(True), kinds.count(False)) == (8, 8)
    assert all(one.autorater_config.sampling_count == 1 for one in read)


def test_the_service_is_asked_of_a_pair_in_both_positions(world):
    world.cloud.evaluation.opinion = by_preference
    assert world.judge(SERVICE, "judge.method=pairwise").facts["consistent_share"] == 1.0
    assert len(world.cloud.evaluation.bodies) == 8
    assert world.scores() == {
        **{("tuned", f"{i:04}"): 1.0 for i in range(4)},
        **{("untuned", f"{i:04}"): 0.5 for i in range(4)},
    }


@pytest.mark.parametrize(
    "result",
    [{}, {"explanation": "no score"}, {"score": 3.5, "explanation": "half"}, {"score": 9}],
)
def test_a_result_off_the_scale_is_asked_for_once_more_and_then_no_score(world, result):
    world.cloud.evaluation.opinion = lambda *_: result
    assert world.judge(SERVICE).facts["unread"] == 8
    assert len(world.cloud.evaluation.bodies) == 16


def test_a_service_that_is_busy_is_asked_again(world):
    world.cloud.evaluation.opinion = by_worth
    world.cloud.faults.refuse(429, "evaluateInstances", times=2, headers={"Retry-After": "0"})
    assert world.judge(SERVICE).facts["unread"] == 0


def test_a_project_without_the_service_ends_the_step(world):
    world.cloud.faults.refuse(403, "evaluateInstances", times=99)
    with pytest.raises(BackendError, match="evaluation service answered 403"):
        world.judge(SERVICE)


def test_a_case_that_the_service_refuses_has_no_verdict(world):
    world.cloud.evaluation.opinion = by_worth
    world.cloud.faults.refuse(400, "evaluateInstances", times=2)
    assert world.judge(SERVICE).facts["unread"] <= 1


def test_the_service_gives_no_answers(world):
    config = experiment("judge=helpfulness", SERVICE, "judge.model.region=us-central1")["judge"]
    generator = world._open(ModelReference("google_evaluation", "g"), config["model"])
    chats = [(Message("user", "How do I read a file?"),)]
    with pytest.raises(ConfigError, match="judges answers and gives none"):
        list(generator.generate(chats, GenerationSettings(max_new_tokens=9), lambda *_: None))
    with pytest.raises(ConfigError, match="judges answers"):
        generator.score([], lambda *_: None)


texts = st.text(max_size=60)


@given(texts.filter(bool), texts, st.none() | texts, texts, st.none() | texts)
def test_what_a_judge_is_asked_can_be_taken_apart_again(rubric, question, reference, answer, other):
    case = Case(question, reference, answer, other)
    method = "single" if other is None else "pairwise"
    chats = judging.chats(method, Rubric("r", "1", rubric), case)
    answers = (answer,) if other is None else (answer, other)
    assert judging.asked(chats[0]) == Asked(rubric, question, reference, answers)
    assert judging.asked((Message("user", question),)) is None
