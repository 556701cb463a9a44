"""Models that a provider keeps: listed, chosen by name and never at random, taken over."""

from __future__ import annotations

import json

import pytest

from llmops import api
from llmops.api.tuned import choose
from llmops.cli import main
from llmops.errors import ConfigError
from llmops.ports.model import ModelReference, TunedModel
from tests.fakes.gemini import Job

PARENT = "projects/123/locations/us-central1"


@pytest.fixture
def overrides(cloud, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [
        "model=gemini",
        "env=prod",
        "env.project=shop-project",
        f"env.bucket=gs://{cloud.bucket}",
        "env.credentials.kind=service_account_file",
        f"+env.credentials.file={cloud.key}",
        f"+env.endpoints.vertex={cloud.url}",
        f"+env.endpoints.storage={cloud.storage_url}",
    ]


def tuned_by_hand(cloud, number, title):
    job = {
        "name": f"{PARENT}/tuningJobs/{number}",
        "baseModel": "gemini-3.5-flash",
        "tunedModelDisplayName": title,
        "state": "JOB_STATE_SUCCEEDED",
        "createTime": f"2026-11-0{number}T00:00:00Z",
        "tunedModel": {
            "model": f"{PARENT}/models/{number}@1",
            "endpoint": f"{PARENT}/endpoints/{number}",
        },
    }
    cloud.world.jobs[job["name"]] = Job(job, [], [])


def test_the_tuned_models_are_listed_newest_first(cloud, overrides):
    tuned_by_hand(cloud, 1, "answers")
    tuned_by_hand(cloud, 2, "better answers")
    found = api.tuned_models(overrides)
    assert [one.title for one in found] == ["better answers", "answers"]
    assert found[0].model.endpoint == f"{PARENT}/endpoints/2"


def test_a_model_tuned_elsewhere_is_registered_once(cloud, overrides, capsys):
    tuned_by_hand(cloud, 1, "answers")
    words = ["models", "import", "so_python", "answers", "--alias", "champion"]
    command = [*words, "--reason", "by hand", *overrides]
    assert [main(command), main([*command, "--json"])] == [0, 0]
    first, _, rest = capsys.readouterr().out.partition("\n")
    assert first == "'answers' is so_python:1, champion"
    version = json.loads(rest)["version"]
    assert version["version"] == 1
    assert version["model"]["endpoint"] == f"{PARENT}/endpoints/1"


def test_a_title_of_several_is_told_with_their_names():
    twins = [
        TunedModel("answers", ModelReference("gemini", "base", tuned=f"models/{number}"))
        for number in (1, 2)
    ]
    with pytest.raises(ConfigError, match="2 tuned models are called 'answers'") as caught:
        choose(twins, "answers")
    assert "models/1, models/2" in caught.value.hint
    assert choose(twins, "models/2") is twins[1]


def test_an_unknown_title_is_told_with_the_nearest():
    known = [TunedModel("answers", ModelReference("gemini", "base", tuned="models/1"))]
    with pytest.raises(ConfigError) as caught:
        choose(known, "anwsers")
    assert "answers" in caught.value.hint


def test_a_provider_that_keeps_nothing_is_told(overrides):
    with pytest.raises(ConfigError, match="are not kept by a provider"):
        api.tuned_models(["model=smollm2", *overrides[1:]])
