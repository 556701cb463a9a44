"""The step that predicts: who answers what, each row once, and going on after a crash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import pyarrow.parquet as pq
import pytest
from judging import Answerer, Bench, experiment, write_side

from llmops.errors import BackendError, ConfigError, DataError, Refused
from llmops.ports.model import ModelReference
from llmops.prompts.prompt import Prompt
from llmops.steps.predict import KIND, draw_examples

QUESTIONS = [f"how to do {number}" for number in range(10)]


class World:
    """Ten test rows, six train rows, a tuned model, and an answerer for each model."""

    def __init__(self, folder):
        self.folder = folder
        self.answerers = {None: Answerer("base"), "ad" * 32: Answerer("tuned")}
        self.opened = []
        self.bench = Bench(folder, self._open)
        train = [f"known {number}" for number in range(6)]
        self.inputs = {
            "test": write_side(folder / "test.parquet", QUESTIONS),
            "train": write_side(folder / "train.parquet", train),
            "model": folder / "model.json",
        }
        self.write_model()

    def write_model(self, **changes):
        config = experiment()
        prompt = Prompt(**{**config["prompt"], "examples": ()})
        fields = {
            "provider": "local",
            "base": config["model"]["base"],
            "adapter": "ad" * 32,
            "prompt_sha256": prompt.digest(),
            "dataset_version": "v1-3f9c21ab",
        }
        model = asdict(ModelReference(**{**fields, **changes}))
        self.inputs["model"].write_text(json.dumps(model))

    def write_test(self, questions):
        write_side(self.inputs["test"], questions)

    def _open(self, reference, model=None, weights=None):
        self.opened.append(reference.adapter)
        return self.answerers[reference.adapter]

    def predict(self, *overrides):
        return self.bench.run(KIND, self.inputs, *overrides)

    def table(self):
        return pq.read_table(self.bench.output("responses"))

    def rows(self, contestant):
        return [row for row in self.table().to_pylist() if row["contestant"] == contestant]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_every_contestant_answers_every_row_once_in_order(world):
    outcome = world.predict()
    found = [(row["contestant"], row["row_key"]) for row in world.table().to_pylist()]
    contestants = ("untuned", "untuned_with_examples", "tuned")
    assert found == [(name, f"{i:04}") for name in contestants for i in range(10)]
    assert outcome.rows == {"responses": 30}


def test_only_the_first_rows_by_key_are_answered(world):
    world.predict("evaluation.max_rows=4")
    assert [row["row_key"] for row in world.rows("tuned")] == ["0000", "0001", "0002", "0003"]
    assert world.table().schema.metadata[b"llmops.test_rows_available"] == b"10"


def test_the_prompt_renders_what_the_model_sees(world):
    world.predict()
    row = world.rows("tuned")[3]
    assert row["prompt"].startswith("Please answer the following Stackoverflow question")
    assert row["prompt"].endswith("Stackoverflow question:\nhow to do 3")
    assert row["text"] == "tuned: how to do 3"
    assert row["reference"] == "answer 0003"


def test_only_the_contestant_with_examples_sees_them(world):
    world.predict()
    turns = [len(chat) for chat in world.answerers[None].asked]
    assert turns == [1] * 10 + [7] * 10
    assert {len(chat) for chat in world.answerers["ad" * 32].asked} == {1}


def test_examples_are_drawn_from_train_by_seed(world):
    drawn = draw_examples(world.inputs["train"], 3, 42)
    assert drawn == draw_examples(world.inputs["train"], 3, 42)
    assert drawn != draw_examples(world.inputs["train"], 3, 43)
    assert {example.question for example in drawn} <= {f"known {number}" for number in range(6)}
    assert len(set(drawn)) == 3


def test_a_longer_draw_begins_with_the_shorter_one(world):
    assert draw_examples(world.inputs["train"], 5, 42)[:2] == draw_examples(
        world.inputs["train"], 2, 42
    )


def test_each_model_is_opened_once(world):
    world.predict()
    assert world.opened == [None, "ad" * 32]


def test_the_likelihood_of_the_reference_is_kept(world):
    world.predict()
    row = world.rows("untuned")[0]
    assert (row["nll"], row["nll_tokens"]) == (1.0 + len("answer 0000"), 3)


def test_a_generator_that_cannot_score_leaves_the_likelihood_null(world):
    world.answerers[None].can_score = False
    world.predict("predict.contestants=[untuned]")
    assert {(row["nll"], row["nll_tokens"]) for row in world.rows("untuned")} == {(None, None)}


def test_the_same_inputs_give_the_same_bytes(world, tmp_path_factory):
    world.predict()
    again = World(tmp_path_factory.mktemp("again"))
    again.predict()
    assert digest(world) == digest(again)


def digest(world):
    return hashlib.sha256(world.bench.output("responses").read_bytes()).hexdigest()


@pytest.mark.parametrize("crash_after", [0, 3, 7, 12, 19])
def test_after_a_crash_only_the_part_in_work_is_asked_again(world, tmp_path_factory, crash_after):
    base, part = world.answerers[None], 2
    base.crash_after = crash_after
    with pytest.raises(KeyboardInterrupt):
        world.predict("predict.batch_rows=1")
    base.crash_after = None
    world.predict("predict.batch_rows=1")
    assert 20 <= len(base.asked) < 20 + part

    whole = World(tmp_path_factory.mktemp("whole"))
    whole.predict("predict.batch_rows=1")
    assert digest(world) == digest(whole)


def test_a_part_that_is_not_whole_is_asked_again(world):
    world.predict()
    part = next((world.folder / "scratch").glob("0-untuned-*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    world.predict()
    assert len(world.answerers[None].asked) == 30
    assert world.table().num_rows == 30


def test_parts_are_whole_batches_and_the_last_is_not_the_smallest(world):
    world.predict("predict.batch_rows=2", "predict.contestants=[untuned]")
    parts = sorted((world.folder / "scratch").glob("*.parquet"))
    assert [pq.read_metadata(part).num_rows for part in parts] == [2, 4, 4]
    assert set(world.answerers[None].seeds) == {42}


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 7, 10, 64])
def test_the_size_of_batches_changes_no_answer(world, batch_rows):
    world.predict(f"predict.batch_rows={batch_rows}", "predict.contestants=[untuned]")
    assert [row["text"] for row in world.rows("untuned")] == [f"base: {q}" for q in QUESTIONS]


def test_a_failed_request_is_kept_with_its_error_and_is_unscored(world):
    world.write_test(["FAIL", *QUESTIONS])
    outcome = world.predict()
    row = world.rows("tuned")[0]
    assert (row["finish_reason"], row["error"]) == ("error", "503: no room ?")
    assert row["safety"] is None
    assert outcome.facts["failed"] == 3


def test_when_every_request_fails_nothing_is_kept_and_the_command_can_be_repeated(world):
    world.write_test(["FAIL"] * 5)
    with pytest.raises(BackendError, match="every one of 5 requests to untuned failed") as caught:
        world.predict()
    assert caught.value.retryable
    assert not list((world.folder / "scratch").glob("*.parquet"))


def test_a_blocked_answer_keeps_the_providers_rating_beside_the_scorers(world):
    world.write_test(["BLOCK", *QUESTIONS])
    world.predict()
    row = world.rows("tuned")[0]
    assert row["blocked"]
    assert [rating["category"] for rating in row["safety"]] == ["harm", "profanity"]


def test_a_text_that_no_file_can_hold_is_unscored(world):
    world.write_test(["LONE", *QUESTIONS])
    world.predict()
    row = world.rows("tuned")[0]
    assert row["text"] == "lone ? surrogate"
    assert row["safety"] is None


def test_an_answer_cut_at_the_limit_is_truncated(world):
    world.write_test(["LONG", *QUESTIONS])
    world.predict()
    assert [row["truncated"] for row in world.rows("tuned")] == [True] + [False] * 10


def test_the_file_says_which_models_answered_and_who_scored(world):
    world.predict()
    metadata = world.table().schema.metadata
    models = json.loads(metadata[b"llmops.models"])
    assert models["tuned"]["adapter"] == "ad" * 32
    assert models["untuned"]["adapter"] is None
    assert json.loads(metadata[b"llmops.scorer"])["categories"] == ["profanity"]
    assert metadata[b"llmops.dataset_version"] == b"v1-3f9c21ab"


def test_progress_goes_up_to_all_rows(world):
    world.predict()
    done = [told[0] for told in world.bench.progress]
    assert done == sorted(done)
    assert {told[1] for told in world.bench.progress} == {30}
    assert done[-1] <= 30


def test_another_prompt_than_the_tuned_one_is_refused(world):
    world.write_model(prompt_sha256="00" * 32)
    with pytest.raises(Refused) as caught:
        world.predict()
    assert "predict.other_prompt=true" in caught.value.hint


def test_a_model_that_does_not_say_its_prompt_is_refused(world):
    world.write_model(prompt_sha256=None)
    with pytest.raises(Refused):
        world.predict()


def test_another_prompt_may_be_asked_for_by_name(world):
    world.write_model(prompt_sha256="00" * 32)
    assert world.predict("predict.other_prompt=true").rows == {"responses": 30}


def test_a_model_on_another_base_is_a_config_error(world):
    world.write_model(base="another")
    with pytest.raises(ConfigError, match="rests on 'another'"):
        world.predict()


def test_tuned_without_a_model_is_a_config_error(world):
    del world.inputs["model"]
    with pytest.raises(ConfigError, match="takes no model"):
        world.predict()


def test_without_tuned_no_model_is_needed(world):
    del world.inputs["model"]
    assert world.predict("predict.contestants=[untuned]").rows == {"responses": 10}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("predict.contestants=[untunde]", "no contestant 'untunde'"),
        ("predict.contestants=[untuned,untuned]", "names one twice"),
        ("predict.contestants=[]", "is empty"),
        ("predict.examples=0", "predict.examples is 0"),
    ],
)
def test_contestants_that_cannot_be_are_config_errors(world, override, problem):
    with pytest.raises(ConfigError, match=problem):
        world.predict(override)


def test_more_examples_than_train_has_are_refused(world):
    with pytest.raises(DataError, match="train has 6 rows"):
        world.predict("predict.examples=7")


def test_an_empty_test_side_is_refused(world):
    world.write_test([])
    with pytest.raises(DataError, match="no test row"):
        world.predict()
