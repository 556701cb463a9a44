"""Prompts x models, similar examples, formats and other seeds, in the step that predicts."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from judging import Answerer, Bench, experiment, write_side

from llmops.errors import ConfigError, DataError
from llmops.execute import structure
from llmops.plan.keys import read_settings
from llmops.prompts.generating import generation_settings
from llmops.steps import tune_again
from llmops.steps.predict import KIND

QUESTIONS = ["how to read a file", "how to sort a list", "how to open a socket"]


class Letters:
    """Encodes a text by how often it has each letter."""

    description = "letters"
    dimensions = 26

    def encode(self, texts, progress):
        rows = np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts])
        return (rows / np.maximum(1e-9, np.linalg.norm(rows, axis=1, keepdims=True))).astype("f4")


class World:
    def __init__(self, folder):
        self.folder, self.opened = folder, []
        self.bench = Bench(folder, self._open, encoder=Letters)
        self.answerer = Answerer("base")
        self.inputs = {
            "test": write_side(folder / "test.parquet", QUESTIONS),
            "train": write_side(folder / "train.parquet", ["open a socket", "sort it", "read it"]),
        }

    def _open(self, reference, model=None, weights=None):
        self.opened.append((reference.base, (model or {}).get("kind"), weights))
        return self.answerer

    def predict(self, *overrides):
        return self.bench.run(KIND, self.inputs, "predict.contestants=[]", *overrides)

    def rows(self):
        return pq.read_table(self.bench.output("responses")).to_pylist()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


OPENAI = (
    "+model@comparison.models.remote=openai",
    "comparison.models.remote.base=big",
    "comparison.models.remote.endpoint=http://127.0.0.1:9/v1",
)


def test_every_prompt_is_put_to_every_model(world):
    outcome = world.predict("comparison=three_prompts", *OPENAI)
    prompts, models = ("plain", "so_python", "brief"), ("smollm2", "remote")
    names = [f"{prompt}/{model}" for model in models for prompt in prompts]
    assert outcome.facts["contestants"] == names
    assert [one["contestant"] for one in world.rows()] == [n for n in names for _ in QUESTIONS]
    assert [kind for _, kind, _ in world.opened] == ["local", "openai"]


def test_each_prompt_is_rendered_as_itself(world):
    world.predict("comparison=three_prompts")
    chats = {len(chat) for chat in world.answerer.asked}
    assert chats == {1, 4}  # brief has a system text and an example
    texts = {row["prompt"] for row in world.rows() if row["contestant"] == "plain/smollm2"}
    assert texts == set(QUESTIONS)


def test_the_file_says_which_prompt_each_contestant_was_sent(world):
    world.predict("comparison=three_prompts")
    metadata = pq.read_schema(world.bench.output("responses")).metadata
    assert len(set(json.loads(metadata[b"llmops.prompts"]).values())) == 3


def test_neither_contestants_nor_a_comparison_is_a_config_error(world):
    with pytest.raises(ConfigError, match="is empty"):
        world.predict()


def test_similar_examples_are_the_nearest_train_rows_nearest_last(world):
    world.bench.run(KIND, world.inputs, "predict.contestants=[untuned]", "prompt=similar")
    shown = [
        [turn.text for turn in chat if turn.role == "assistant"] for chat in world.answerer.asked
    ]
    train = ["answer 0000", "answer 0001", "answer 0002"]
    assert [answers[-1] for answers in shown] == [train[2], train[1], train[0]]
    assert {len(answers) for answers in shown} == {2}


def test_more_similar_examples_than_train_has_are_refused(world):
    with pytest.raises(DataError, match="train has 3 rows"):
        world.bench.run(
            KIND,
            world.inputs,
            "predict.contestants=[untuned]",
            "prompt=similar",
            "prompt.similar_examples=4",
        )


def test_an_answer_is_checked_against_the_prompts_format(world):
    overrides = ("predict.contestants=[untuned]", "+prompt.output.kind=json")
    world.bench.run(KIND, world.inputs, *overrides)
    assert {row["valid"] for row in world.rows()} == {False}
    world.bench.run(KIND, world.inputs, "predict.contestants=[untuned]", "predict.seed=1")


def test_what_a_prompt_says_of_generation_wins_over_predict(world):
    settings = structure(
        KIND, read_settings(KIND, experiment("+prompt.generation.max_new_tokens=7"), "predict")
    )
    made = generation_settings(vars(settings), settings.prompt)
    assert (made.max_new_tokens, made.temperature) == (7, 0.0)


def test_models_of_other_seeds_and_controls_answer_by_their_names(world):
    digest = experiment_prompt().digest()
    for taken in ("replicates", "control"):
        for seed in (43, 7):
            folder = world.folder / taken / f"seed-{seed}"
            folder.mkdir(parents=True)
            tuned = {
                "provider": "local",
                "base": experiment()["model"]["base"],
                "base_sha256": None,
                "tuned": f"{taken}-{seed}",
                "endpoint": None,
                "prompt_sha256": digest,
                "dataset_version": "v1",
            }
            (folder / "tuned.json").write_text(json.dumps(tuned))
        world.inputs[taken] = world.folder / taken
    world.inputs["model"] = world.folder / "model.json"
    model = {"provider": "local", "base": experiment()["model"]["base"], "prompt_sha256": digest}
    world.inputs["model"].write_text(json.dumps(model))
    outcome = world.bench.run(
        KIND,
        world.inputs,
        "predict.contestants=[untuned,tuned,tuned_on_shuffled]",
        digests={"replicates": "aa", "control": "bb"},
    )
    assert outcome.facts["contestants"] == [
        *("untuned", "tuned", "tuned@7", "tuned@43"),
        *("tuned_on_shuffled@7", "tuned_on_shuffled@43"),
    ]
    assert world.opened[2][2] == world.folder / "replicates" / "seed-7"


def experiment_prompt():
    settings = structure(KIND, read_settings(KIND, experiment(), "predict"))
    return settings.prompt


def test_a_control_without_its_step_is_a_config_error(world):
    with pytest.raises(ConfigError, match="takes no control"):
        world.bench.run(KIND, world.inputs, "predict.contestants=[tuned_on_shuffled]")


# ------------------------------------------------------------- shuffled answers


def test_no_answer_stays_in_its_group_and_none_is_lost():
    groups = ["a"] * 5 + ["b"] * 3 + [f"g{i}" for i in range(7)]
    for seed in range(20):
        order = tune_again.derangement(groups, seed)
        assert sorted(order) == list(range(15))
        assert all(groups[i] != groups[j] for i, j in enumerate(order))


def test_a_group_of_more_than_half_of_the_rows_cannot_be_shuffled():
    with pytest.raises(DataError, match="more than half"):
        tune_again.derangement(["a", "a", "b"], 1)


def test_only_the_answers_move(tmp_path):
    train = write_side(tmp_path / "train.parquet", [f"q{i}" for i in range(9)])
    shuffled = pq.read_table(tune_again.shuffle_answers(train, tmp_path / "s.parquet", 3))
    plain = pq.read_table(train)
    assert shuffled.drop(["output_text"]).equals(plain.drop(["output_text"]))
    moved, stayed = (table["output_text"].to_pylist() for table in (shuffled, plain))
    assert sorted(moved) == sorted(stayed)
    assert all(one != other for one, other in zip(moved, stayed, strict=True))


@pytest.mark.parametrize(("answers", "seeds"), [("as_they_are", (43,)), ("shuffled", (42, 43))])
def test_the_control_is_also_tuned_with_the_seed_of_the_tuned_model(answers, seeds):
    assert tune_again.seeds_of(answers, 42, [43, 42]) == seeds
