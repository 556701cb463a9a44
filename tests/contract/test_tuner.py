"""What every tuner must do. A tuner joins by adding a harness to ADAPTERS."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, replace

import pytest

from llmops.adapters import catalog
from llmops.errors import ConfigError, DataError
from llmops.ports.model import TuningRequest
from tests.fakes.loopback import cloud_on_loopback, gemini_config
from tests.unit.model import tiny_llama


class LocalHarness:
    """The local tuner over a tiny model."""

    measures_loss = True
    too_long = 1_200  # characters of a system text that leaves no room for an answer

    def __init__(self, folder):
        self.cache = folder / "cache"
        tiny_llama.install(self.cache)

    def tuner(self):
        return catalog.adapter("tuner", tiny_llama.model_config(), self.cache)

    def close(self):
        """Nothing to end."""


class GeminiHarness:
    """Gemini's tuner over a cloud on loopback."""

    measures_loss = False
    too_long = 280_000

    def __init__(self, folder):
        self.serving = cloud_on_loopback(folder)
        self.cloud = self.serving.__enter__()

    def tuner(self):
        environment = self.cloud.environment
        return catalog.adapter("tuner", gemini_config(), None, environment=environment)

    def close(self):
        self.serving.__exit__(None, None, None)


ADAPTERS = {"local": LocalHarness, "gemini": GeminiHarness}


@pytest.fixture(scope="module", params=ADAPTERS.values(), ids=ADAPTERS.keys())
def harness(request, tmp_path_factory):
    harness = request.param(tmp_path_factory.mktemp("tuner"))
    yield harness
    harness.close()


@pytest.fixture
def tuner(harness):
    return harness.tuner()


@pytest.fixture
def measuring(harness):
    if not harness.measures_loss:
        pytest.skip("this provider tells no losses")


@pytest.fixture
def request_(tmp_path):
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    return TuningRequest(
        train=tiny_llama.write_examples(tmp_path / "train.parquet", 30),
        validation=tiny_llama.write_examples(tmp_path / "validation.parquet", 8, 100),
        system=None,
        max_steps=10,
        epochs=None,
        max_examples=None,
        seed=42,
        output=tmp_path / "out",
        scratch=tmp_path / "scratch",
        key=uuid.uuid4().hex * 2,
    )


def quiet(done, total, note="", *, loss=None):
    """Report progress to nobody."""


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_suite_covers_every_tuner_of_the_catalog():
    assert set(ADAPTERS) == set(catalog.ADAPTERS["tuner"])


@pytest.mark.usefixtures("measuring")
def test_tuning_lowers_the_held_out_loss(tuner, request_):
    measured = [
        point.validation_loss
        for point in tuner.tune(request_, quiet).curve
        if point.validation_loss is not None
    ]
    assert measured[-1] < measured[0]


@pytest.mark.usefixtures("measuring")
def test_the_curve_begins_before_the_first_step_and_ends_at_the_last(tuner, request_):
    curve = tuner.tune(request_, quiet).curve
    assert (curve[0].step, curve[-1].step) == (0, 10)
    assert curve[0].validation_loss is not None
    assert curve[-1].validation_loss is not None


def test_the_same_request_gives_the_same_files_and_figures(tuner, request_, tmp_path):
    (tmp_path / "again").mkdir()
    first = tuner.tune(request_, quiet)
    second = tuner.tune(replace(request_, output=tmp_path / "again"), quiet)
    assert asdict(first) == asdict(second)
    assert files(request_.output) == files(tmp_path / "again")


def test_another_seed_gives_another_model(tuner, request_, tmp_path):
    (tmp_path / "other").mkdir()
    first = tuner.tune(request_, quiet)
    key = uuid.uuid4().hex * 2  # the seed is part of a step's key
    other = tuner.tune(replace(request_, seed=43, key=key, output=tmp_path / "other"), quiet)
    assert first.tuned != other.tuned


def test_without_a_validation_split_the_curve_has_no_held_out_loss(tuner, request_):
    tuned = tuner.tune(replace(request_, validation=None), quiet)
    assert {point.validation_loss for point in tuned.curve} <= {None}


def test_an_empty_validation_split_is_like_none(tuner, request_, tmp_path):
    empty = tiny_llama.write_examples(tmp_path / "empty.parquet", 0)
    tuned = tuner.tune(replace(request_, validation=empty), quiet)
    assert {point.validation_loss for point in tuned.curve} <= {None}


def test_epochs_count_passes_over_the_rows(tuner, request_):
    tuned = tuner.tune(replace(request_, max_steps=None, epochs=2), quiet)
    assert tuned.facts["examples_seen"] == 60


def test_no_more_than_max_examples_are_used(tuner, request_):
    tuned = tuner.tune(replace(request_, max_examples=5), quiet)
    assert tuned.facts["examples_used"] == 5


def test_neither_steps_nor_epochs_is_a_config_error(tuner, request_):
    with pytest.raises(ConfigError, match="both null"):
        tuner.tune(replace(request_, max_steps=None), quiet)


def test_no_rows_are_refused_as_data(tuner, request_, tmp_path):
    empty = tiny_llama.write_examples(tmp_path / "empty.parquet", 0)
    with pytest.raises(DataError, match="no rows"):
        tuner.tune(replace(request_, train=empty), quiet)


def test_rows_without_room_for_an_answer_are_refused_as_data(harness, tuner, request_, tmp_path):
    text = "a " * (harness.too_long // 2)
    long = tiny_llama.write_examples(tmp_path / "long.parquet", 4, system=text)
    with pytest.raises(DataError, match="room for an answer"):
        tuner.tune(replace(request_, train=long), quiet)


def test_facts_are_plain_json_without_a_clock(tuner, request_):
    facts = tuner.tune(request_, quiet).facts
    assert json.loads(json.dumps(facts)) == facts
    assert not [name for name in facts if "second" in name or "time" in name]


def test_progress_reaches_its_total(tuner, request_):
    told = []
    tuner.tune(request_, lambda done, total, note="", *, loss=None: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
