"""What every generator must do. A generator joins by adding a harness to ADAPTERS."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmops.adapters import catalog
from llmops.config.knowledge import PROVIDERS
from llmops.ports.model import GenerationSettings, Message, ModelReference
from tests.fakes.loopback import cloud_on_loopback, gemini_config, palm_config
from tests.fakes.openai_server import openai_server
from tests.unit.model import tiny_llama


class LocalHarness:
    """The local generator over a tiny model."""

    def __init__(self, folder):
        self.cache = folder / "cache"
        tiny_llama.install(self.cache)

    def generator(self):
        reference = ModelReference(provider="local", base="tiny llama")
        config = tiny_llama.model_config()
        return catalog.adapter("generator", config, reference, None, self.cache)

    def close(self):
        """Nothing to end."""


class OpenAIHarness:
    """The OpenAI-compatible generator over an endpoint on loopback."""

    def __init__(self, folder):
        self.serving = openai_server()
        self.server = self.serving.__enter__()

    def generator(self):
        reference = ModelReference(provider="openai", base="some-model")
        config = self.server.config()
        return catalog.adapter("generator", config, reference, None, None)

    def close(self):
        self.serving.__exit__(None, None, None)


class CloudHarness:
    """A cloud on loopback, for the adapters that ask one."""

    def __init__(self, folder):
        self.serving = cloud_on_loopback(folder)
        self.cloud = self.serving.__enter__()

    def close(self):
        self.serving.__exit__(None, None, None)

    def open(self, config):
        reference = ModelReference(provider=config["kind"], base=config["base"])
        environment = self.cloud.environment
        return catalog.adapter("generator", config, reference, None, None, environment=environment)


class GeminiHarness(CloudHarness):
    """Gemini's base model."""

    def generator(self):
        return self.open(gemini_config())


class PalmHarness(CloudHarness):
    """text-bison."""

    def generator(self):
        return self.open(palm_config())


ADAPTERS = {
    "local": LocalHarness,
    "openai": OpenAIHarness,
    "gemini": GeminiHarness,
    "palm": PalmHarness,
}
GREEDY = GenerationSettings(max_new_tokens=12, batch_rows=4)
CHANCE = replace(GREEDY, temperature=1.0, top_p=0.9, seed=3)
CHATS = [(Message("user", tiny_llama.question(number)),) for number in range(10)]
PAIRS = [(chat, tiny_llama.answer(number)) for number, chat in enumerate(CHATS)]


@pytest.fixture(scope="module", params=ADAPTERS.values(), ids=ADAPTERS.keys())
def generator(request, tmp_path_factory):
    harness = request.param(tmp_path_factory.mktemp("generator"))
    yield harness.generator()
    harness.close()


def quiet(done, total, note=""):
    """Report progress to nobody."""


def texts(generator, chats, settings):
    return [response.text for response in generator.generate(chats, settings, quiet)]


def test_the_suite_covers_every_generator_of_the_catalog():
    judges = {name for name, able in PROVIDERS.items() if able.only_judges}
    assert set(ADAPTERS) | judges == set(catalog.ADAPTERS["generator"])
    assert not set(ADAPTERS) & judges


def test_every_chat_gets_its_own_answer_in_order(generator):
    together = texts(generator, CHATS, GREEDY)
    alone = [texts(generator, [chat], GREEDY)[0] for chat in CHATS]
    assert together == alone


def test_batches_of_any_size_give_the_same_answers(generator):
    assert texts(generator, CHATS, GREEDY) == texts(generator, CHATS, replace(GREEDY, batch_rows=3))


def test_greedy_answers_repeat(generator):
    assert texts(generator, CHATS, GREEDY) == texts(generator, CHATS, GREEDY)


def test_sampled_answers_repeat_with_their_seed(generator):
    assert texts(generator, CHATS, CHANCE) == texts(generator, CHATS, CHANCE)


def test_another_seed_samples_other_answers(generator):
    assert texts(generator, CHATS, CHANCE) != texts(generator, CHATS, replace(CHANCE, seed=4))


def test_no_answer_is_longer_than_asked(generator):
    assert all(r.output_tokens <= 12 for r in generator.generate(CHATS, GREEDY, quiet))


def test_a_cut_answer_says_length(generator):
    cut = generator.generate(CHATS, replace(GREEDY, max_new_tokens=1), quiet)
    assert all(r.finish_reason == "length" or not r.text for r in cut)


def test_prompt_tokens_grow_with_the_prompt(generator):
    chats = [CHATS[0], (Message("system", "answer in one line"), *CHATS[0])]
    short, long = generator.generate(chats, GREEDY, quiet)
    assert short.prompt_tokens < long.prompt_tokens


def test_a_prompt_that_is_too_long_becomes_an_error_row_among_answers(generator):
    chats = [CHATS[0], (Message("user", "word " * 100_000),), CHATS[1]]
    reasons = [r.finish_reason == "error" for r in generator.generate(chats, GREEDY, quiet)]
    assert reasons == [False, True, False]


def test_nothing_to_answer_gives_nothing(generator):
    assert texts(generator, [], GREEDY) == []


def test_a_stream_gives_the_pieces_and_at_last_the_answer_that_generate_gives(generator):
    whole = next(iter(generator.generate(CHATS[:1], GREEDY, quiet)))
    *pieces, last = generator.stream(CHATS[0], GREEDY)
    assert replace(last, latency_s=None, raw=None) == replace(whole, latency_s=None, raw=None)
    assert last.raw in (None, whole.raw)  # null where the provider sends no whole body
    assert "".join(pieces) == whole.text
    assert pieces


def test_a_stream_that_is_given_up_leaves_the_generator_at_work(generator):
    stream = generator.stream(CHATS[0], GREEDY)
    next(stream)
    stream.close()
    assert texts(generator, CHATS[:1], GREEDY) == texts(generator, CHATS[:1], GREEDY)


def test_a_prompt_that_is_too_long_streams_an_error_row(generator):
    (only,) = generator.stream((Message("user", "word " * 100_000),), GREEDY)
    assert only.finish_reason == "error"


def test_scores_come_in_order(generator):
    if not generator.can_score:
        pytest.skip("this provider cannot score")
    together = list(generator.score(PAIRS, quiet))
    alone = [next(iter(generator.score([pair], quiet))) for pair in PAIRS]
    assert [score.tokens for score in together] == [score.tokens for score in alone]
    assert [s.nll for s in together] == pytest.approx([s.nll for s in alone], rel=1e-5)


def test_scores_count_more_tokens_for_a_longer_answer(generator):
    if not generator.can_score:
        pytest.skip("this provider cannot score")
    short, long = generator.score([(CHATS[0], "use"), (CHATS[0], "use the list method")], quiet)
    assert 0 < short.tokens < long.tokens


def test_progress_reaches_its_total(generator):
    told = []
    list(generator.generate(CHATS, GREEDY, lambda done, total, note="": told.append((done, total))))
    assert told[-1] == (10, 10)
