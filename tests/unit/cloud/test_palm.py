"""text-bison as the course's users know it, and as it is today."""

from __future__ import annotations

import pytest

from llmops.adapters import catalog
from llmops.adapters.model.palm import PalmClient
from llmops.errors import BackendError, ConfigError
from llmops.ports.model import GenerationSettings, Message, ModelReference
from tests.fakes.loopback import palm_config

SETTINGS = GenerationSettings(max_new_tokens=20)


def generator(cloud, **changes):
    reference = ModelReference("palm", "text-bison@001")
    config, environment = palm_config(**changes), cloud.environment
    return catalog.adapter("generator", config, reference, None, None, environment=environment)


def answer(cloud, text, **changes):
    chat = (Message("user", text),)
    told = []
    (response,) = generator(cloud, **changes).generate(
        [chat], SETTINGS, lambda done, total, note="": told.append(note)
    )
    return response, told


def test_scores_severity_and_citations_are_read(cloud):
    cited = {"startIndex": 0, "endIndex": 4, "url": "https://example.com", "license": "mit"}
    cloud.palm.answers["cite"] = {"citationMetadata": {"citations": [cited]}}
    response, _ = answer(cloud, "please cite")
    assert response.safety == {
        "derogatory": 0.1,
        "toxic": 0.2,
        "dangerous_content": 0.2,
        "dangerous_content_severity": 0.1,
    }
    assert (response.citations[0].uri, response.citations[0].licence) == (
        "https://example.com",
        "mit",
    )


def test_a_blocked_answer_has_no_text_and_tells_the_codes(cloud):
    blocked = {"blocked": True, "errors": [250], "categories": [], "scores": []}
    cloud.palm.answers["insult"] = {"content": "", "safetyAttributes": blocked}
    response, _ = answer(cloud, "insult me")
    assert (response.text, response.blocked, response.block_reason) == ("", True, "error 250")
    assert response.finish_reason == "safety"


def test_tuned_models_are_listed_in_order_and_asked_by_name(cloud):
    names = PalmClient(palm_config(), cloud.environment).tuned_names()
    assert [name.rpartition("/")[2] for name in names] == ["777", "778"]
    response, _ = answer(cloud, "hello", tuned_model=names[0])
    assert response.text.startswith("tuned says")


def test_every_answer_says_that_the_model_is_retired(cloud):
    _, told = answer(cloud, "hello")
    assert told == ["answers; Google retired text-bison on 2025-04-09"]


def test_today_nobody_gets_an_answer_and_is_told_why(cloud):
    cloud.palm.retired = True
    with pytest.raises((BackendError, ConfigError), match="retired text-bison on 2025-04-09"):
        answer(cloud, "hello")


def test_there_is_no_tuning_with_it():
    assert "palm" not in catalog.ADAPTERS["tuner"]
