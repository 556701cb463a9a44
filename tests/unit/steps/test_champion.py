"""Models of a real registry answer the candidate's own test rows, and gates judge by that."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from judging import Answerer, Bench, experiment, write_side

from llmops.errors import ConfigError
from llmops.execute import structure
from llmops.plan.keys import read_settings
from llmops.ports.model import ModelReference, Response
from llmops.steps import evaluate, gate, predict

ROWS = 40
METRIC = "evaluation.metrics=[exact_match,truncated]"
BESIDE = "predict.contestants=[untuned,tuned,champion]"
RULE = "gate.rules=[{metric: exact_match, not_worse_than: champion, by: 0.05}]"
ONLY = ("gate.max_leakage=null", "gate.safety=false")


class Skilled(Answerer):
    """Answers the first ``skill`` rows of any test side right."""

    def __init__(self, skill):
        super().__init__()
        self.skill = skill

    def _answer(self, question):
        number = int(question.split()[-1])
        text = f"answer {number:04}" if number < self.skill else "wrong"
        return Response(text, "stop", 5, 2)


class World:
    """A registry with one model as champion, and a test side that it has never seen."""

    def __init__(self, folder):
        self.bench = Bench(folder, self._open)
        self.registry = self.bench._adapters(experiment()).registry()
        self.skills = {None: 5}
        self.opened = []
        self.base = experiment()["model"]["base"]
        self.prompt = structure(
            predict.KIND, read_settings(predict.KIND, experiment(), "predict")
        ).prompt.digest()
        candidate = {"provider": "local", "base": self.base, "prompt_sha256": self.prompt}
        (folder / "model.json").write_text(json.dumps({**candidate, "adapter": "ca" * 32}))
        self.inputs = {
            "test": write_side(folder / "test.parquet", [f"new row {i}" for i in range(ROWS)]),
            "train": write_side(folder / "train.parquet", ["old row 0", "old row 1"]),
            "model": folder / "model.json",
        }

    def _open(self, reference, model=None, weights=None):
        self.opened.append(reference.adapter)
        return Skilled(self.skills[reference.adapter])

    def register(self, adapter, skill, alias="champion", **changes):
        fields = {"provider": "local", "base": self.base, "prompt_sha256": self.prompt, **changes}
        model = ModelReference(adapter=adapter * 32, **fields)
        version = self.registry.register("so_python", model, labels={}, run_id="before")
        self.registry.set_alias("so_python", alias, version.version, reason="a test")
        self.skills[model.adapter] = skill

    def judged(self, skill, *overrides):
        self.skills["ca" * 32] = skill
        self.bench.run(predict.KIND, self.inputs, METRIC, *overrides)
        responses = {"responses": self.bench.output("responses")}
        self.bench.run(evaluate.KIND, responses, METRIC, *overrides)
        metrics = {"metrics": self.bench.output("metrics")}
        self.bench.run(gate.KIND, metrics, METRIC, *overrides, *ONLY)
        return json.loads(self.bench.output("decision").read_text())


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_the_champion_answers_the_candidates_own_test_rows(world):
    world.register("11", skill=20)
    world.judged(30, BESIDE, RULE)
    rows = pq.read_table(world.bench.output("responses")).to_pylist()
    asked = {row["prompt"] for row in rows if row["contestant"] == "champion"}
    assert len(asked) == ROWS
    assert all("new row" in prompt for prompt in asked)
    metrics = json.loads(world.bench.output("metrics").read_text())
    assert metrics["contestants"]["champion"]["exact_match"]["value"] == 0.5
    difference = metrics["against"]["champion"]["exact_match"]["tuned"]["difference"]
    assert difference == pytest.approx(0.25)


@pytest.mark.parametrize(("skill", "passes"), [(30, True), (20, True), (10, False)])
def test_a_candidate_that_may_be_worse_than_the_champion_is_refused(world, skill, passes):
    world.register("11", skill=20)
    decision = world.judged(skill, BESIDE, RULE)
    assert decision["passed"] is passes
    assert "champion" in decision["reasons"][0]["text"]


def test_before_there_is_a_champion_nobody_can_be_worse(world):
    decision = world.judged(10, BESIDE, RULE)
    assert decision["passed"]
    assert decision["reasons"][0]["text"].startswith("there is no champion yet")


def source(world, *overrides):
    config = experiment(METRIC, *overrides)
    settings = structure(predict.KIND, read_settings(predict.KIND, config, "predict"))
    return predict.KIND.source(settings, world.bench._adapters(config)).facts


def test_another_champion_is_another_step(world):
    world.register("11", skill=20)
    before = source(world, BESIDE)
    world.register("22", skill=25)
    assert source(world, BESIDE) != before


def test_a_champion_of_another_base_is_a_config_error(world):
    world.register("11", skill=20, base="another")
    with pytest.raises(ConfigError, match="rests on 'another'"):
        world.judged(30, BESIDE, RULE)


# ---------------------------------------------------------- comparison.registered

COMPARED = (
    *("comparison=three_prompts", "predict.contestants=[untuned]"),
    "+comparison.registered.before=so_python@champion",
    "+comparison.registered.next=so_python@candidate",
    *("evaluation.baseline=so_python/before", "gate.contestant=so_python/next"),
    "gate.rules=[{metric: exact_match, better_than: so_python/before, by: 0.0}]",
)


@pytest.mark.parametrize(("skill", "passes"), [(35, True), (20, False)])
def test_a_gate_judges_registered_models_of_a_comparison(world, skill, passes):
    world.register("11", skill=20)
    world.register("22", skill=skill, alias="candidate")
    decision = world.judged(0, *COMPARED)
    assert decision["passed"] is passes
    assert {"11" * 32, "22" * 32} <= set(world.opened)


def test_moving_an_alias_that_a_comparison_names_is_another_step(world):
    world.register("11", skill=20)
    world.register("22", skill=25, alias="candidate")
    before = source(world, *COMPARED)
    world.register("33", skill=30, alias="candidate")
    assert source(world, *COMPARED) != before


def test_a_registered_model_needs_its_base_among_the_models(world):
    world.register("11", skill=20, base="another")
    world.register("22", skill=20, alias="candidate")
    with pytest.raises(ConfigError, match=r"rests on 'another', which is not among"):
        world.judged(0, *COMPARED)
