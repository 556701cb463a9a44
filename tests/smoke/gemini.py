"""Gemini on Vertex AI: answers with ratings and counts, listings, and, if asked for, a tuning."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from llmops.adapters.asking import Requests
from llmops.adapters.catalog import adapter
from llmops.adapters.model.gemini_client import GeminiClient
from llmops.config.compose import group
from llmops.evaluation import judging
from llmops.evaluation.judging import Case, Method, Rubric
from llmops.ports.model import GenerationSettings, Message, ModelReference, Response, TuningRequest
from tests.smoke.check import TUNE, Check, Place, overrides

QUESTION = "What does len() return for a list? Answer in one short sentence."
ANSWER = "The number of its items."
EXAMPLES = 20
COSTS = "an answer of a hundred tokens"


def model(place: Place) -> dict[str, Any]:
    """Return the shipped config of Gemini for this project."""
    poll = f"model.tuner.waiting.poll_s={place.poll_s}"
    return group("model", ["model=gemini", poll, *overrides(place.environment)])


def quiet(done: float, total: float | None, note: str = "") -> None:
    """Tell nobody."""


def answered(place: Place) -> Response:
    config = model(place)
    reference = ModelReference(provider="gemini", base=config["base"])
    opened = adapter(
        "generator", config, reference, None, place.folder, environment=place.environment
    )
    settings = GenerationSettings(max_new_tokens=100, filters=config["filters"])
    (response,) = opened.generate([(Message("user", QUESTION),)], settings, quiet)
    assert response.error is None, response.error
    found: Response = response
    return found


def answers(place: Place) -> str:
    response = answered(place)
    assert response.text, response.finish_reason
    assert response.prompt_tokens
    assert response.output_tokens
    return f"{response.output_tokens} tokens: {response.text[:60]!r}"


def ratings(place: Place) -> str:
    response = answered(place)
    assert response.safety, "the answer has no ratings"
    missing = [name for name in model(place)["filters"] if name not in response.safety]
    assert not missing, missing
    assert all(0 <= score <= 1 for score in response.safety.values()), response.safety
    return ", ".join(f"{name} {score:g}" for name, score in sorted(response.safety.items()))


def counts(place: Place) -> str:
    config = model(place)
    client = GeminiClient(place.environment, config["region"], Requests(**config["requests"]))
    base = config["base"]
    counted = client.call(lambda one: one.models.count_tokens(model=base, contents=QUESTION))
    assert counted.total_tokens
    return f"{counted.total_tokens} tokens"


def listed(place: Place) -> str:
    found = adapter("shelf", model(place), environment=place.environment).tuned()
    return f"{len(found)} tuned models"


def tuned(place: Place) -> str:
    """Tune on a few rows, and ask the model that came of it on its own endpoint."""
    config = model(place)
    folder = place.folder / f"tuning-{uuid.uuid4().hex}"
    made = adapter("tuner", config, place.folder, environment=place.environment).tune(
        request(folder), quiet
    )
    assert made.endpoint, made
    reference = ModelReference("gemini", config["base"], tuned=made.tuned, endpoint=made.endpoint)
    opened = adapter(
        "generator", config, reference, None, place.folder, environment=place.environment
    )
    settings = GenerationSettings(max_new_tokens=100)
    (response,) = opened.generate([(Message("user", QUESTION),)], settings, quiet)
    assert response.error is None, response.error
    return f"{made.tuned}: {response.text[:60]!r}"


def request(folder: Path) -> TuningRequest:
    """Return a tuning of a few rows with a key of its own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    rows = [
        {
            "row_key": f"{number:03}",
            "system": None,
            "input_text_instruct": f"{QUESTION} ({number})",
            "output_text": ANSWER,
        }
        for number in range(EXAMPLES)
    ]
    schema = pa.schema([(name, pa.string()) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "train.parquet")
    return TuningRequest(
        train=folder / "train.parquet",
        validation=None,
        system=None,
        max_steps=None,
        epochs=1,
        max_examples=None,
        seed=1,
        output=folder / "out",
        scratch=folder / "scratch",
        key=uuid.uuid4().hex * 2,
    )


RUBRIC = Rubric("smoke", "1", "A good answer is right. 5: right. 1: wrong or empty.")


def judged(place: Place) -> str:
    """Let the evaluation service judge a right answer, alone and against a wrong one."""
    config = group("model", ["model=google_evaluation", *overrides(place.environment)])
    reference = ModelReference(provider="google_evaluation", base=config["base"])
    opened = adapter(
        "generator", config, reference, None, place.folder, environment=place.environment
    )
    found = []
    cases: dict[Method, str | None] = {"single": None, "pairwise": "I do not know."}
    for method, other in cases.items():
        chats = judging.chats(method, RUBRIC, Case(QUESTION, ANSWER, ANSWER, other))
        schema = judging.output(method, RUBRIC).for_provider()
        settings = GenerationSettings(max_new_tokens=100, output_schema=schema)
        said = list(opened.generate(chats, settings, quiet))
        assert not [one.error for one in said if one.error], said
        verdict = judging.read(method, RUBRIC, [one.text for one in said])
        assert verdict.score is not None, said
        found.append(f"{method} {verdict.score:g}")
    return ", ".join(found)


CHECKS = (
    Check("an answer comes with its token counts", answers, COSTS),
    Check("an answer comes with a rating and a severity of each category", ratings, COSTS),
    Check("tokens are counted", counts),
    Check("tuned models are listed", listed),
    Check("the evaluation service judges", judged, "three verdicts"),
    Check(
        "a tuning ends and its endpoint answers",
        tuned,
        f"tuning on {EXAMPLES} rows of thirty tokens, one epoch; about half an hour",
        needs=TUNE,
    ),
)
