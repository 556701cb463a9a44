"""A registered model is opened with the prompt that it was tuned with, and no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmops.adapters import catalog
from llmops.api import answering
from llmops.config.compose import compose
from llmops.errors import ConfigError, Refused
from llmops.ports.model import ModelReference
from llmops.prompts.prompt import Prompt, check_prompt

OPENAI = [
    "pipeline=dataset",
    "model=openai",
    "model.base=tiny",
    "model.endpoint=http://127.0.0.1:1/v1",
    "evaluation.metrics=[rouge_l]",
    "gate.rules=[]",
]


@pytest.fixture(scope="module")
def config():
    return compose(["+experiment=so_python", *OPENAI]).config


@pytest.fixture
def registered(tmp_path, monkeypatch, config):
    """Return what registers a model that was tuned with a prompt, and keeps the prompt."""
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    registry = catalog.adapter("registry", config["deploy"]["registry"], tmp_path)
    store = catalog.open_store(config, tmp_path)

    def register(prompt: Prompt, *, kept: bool = True, alias: str = "champion", name="so_python"):
        if kept:
            store.put_text(prompt.content())
        reference = ModelReference("openai", "tiny", prompt_sha256=prompt.digest())
        labels = {"experiment": "so_python", "prompt": prompt.name}
        version = registry.register(name, reference, labels=labels, run_id="run-1")
        registry.set_alias(name, alias, version.version, reason="a test")
        return version

    return register


@pytest.fixture
def own(config) -> Prompt:
    return check_prompt(config)


def test_the_configs_prompt_is_used_where_it_is_the_tuned_one(registered, own):
    registered(own, kept=False)
    opened = answering.open_model("champion", OPENAI)
    assert opened.prompt == own
    assert (opened.label, opened.alias) == ("so_python:1", "champion")


def test_an_older_prompt_comes_out_of_the_store(registered, own):
    older = replace(own, name="older", instruction="Answer shortly.")
    registered(older)
    opened = answering.open_model("so_python@champion", OPENAI)
    assert opened.prompt == older
    assert opened.prompt_sha256 == older.digest()


def test_a_prompt_that_is_nowhere_is_told(registered, own):
    registered(replace(own, instruction="Lost."), kept=False)
    with pytest.raises(ConfigError, match="neither in the config nor in the store"):
        answering.open_model("champion", OPENAI)


def test_another_prompt_is_refused_unless_it_is_asked_for(registered, own):
    registered(own)
    other = ["prompt.instruction=Be brief.", *OPENAI]
    with pytest.raises(Refused, match="tuned with another prompt"):
        answering.open_model("champion", other)
    opened = answering.open_model("champion", ["predict.other_prompt=true", *other])
    assert opened.prompt.instruction == "Be brief."


def test_passages_are_found_by_the_question_within_the_prompt_that_it_was_tuned_with(
    registered, own
):
    older = replace(own, name="older", template="{{ question }}\n(in short)")
    registered(older)
    opened = answering.open_model("champion", [*OPENAI, "grounding=docs"])
    assert opened.generator.prompt.template == older.template
    assert opened.around["grounding"]["kind"] == "warehouse"


def test_answers_are_made_as_the_prompt_says(registered, own):
    registered(own)
    chosen = [*OPENAI, "+prompt.generation={max_new_tokens: 7}", "predict.other_prompt=true"]
    opened = answering.open_model("champion", chosen)
    assert opened.settings.max_new_tokens == 7


def test_a_prompt_that_shows_training_rows_is_refused(own):
    chosen = ["+experiment=so_python", *OPENAI, "prompt=similar", "encoder=minilm"]
    with pytest.raises(ConfigError, match="only a run has them"):
        answering.open_model("untuned", chosen)


def test_a_model_of_another_base_is_refused(registered, own):
    registered(own)
    with pytest.raises(ConfigError, match="rests on 'tiny'"):
        answering.open_model("champion", [*OPENAI, "model.base=other"])


def test_a_name_that_means_two_models_or_none_is_told(registered, own):
    with pytest.raises(ConfigError, match="the registry is empty"):
        answering.find_model("champion")
    registered(own)
    registered(own, name="other")
    with pytest.raises(ConfigError, match="more than one model is 'champion'"):
        answering.find_model("champion")
    with pytest.raises(ConfigError) as caught:
        answering.find_model("champoin")
    assert "so_python@champion" in caught.value.hint
    assert answering.find_model("so_python:1").name == "so_python"


def test_a_wrong_key_of_serve_is_told_with_its_place():
    with pytest.raises(ConfigError, match=r"serve\.limits\.answering"):
        answering.serve_config(["serve.limits.answering=0"])
