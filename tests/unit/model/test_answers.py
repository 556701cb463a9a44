"""Answers kept by content: asked once, and again when anything that decides them changes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from llmops.adapters.model.answers import Journal, Kept, KeptGenerator, identity
from llmops.errors import BackendError
from llmops.ports.model import Citation, GenerationSettings, Message, ModelReference, Response
from tests.unit.steps.judging import Answerer

SETTINGS = GenerationSettings(max_new_tokens=8)
MODEL = {"kind": "local", "base": "small", "tuner": {"rank": 1}}
REFERENCE = ModelReference("local", "small")


def chats(*questions):
    return [(Message("user", question),) for question in questions]


def quiet(done, total, note=""):
    """Report progress to nobody."""


class World:
    def __init__(self, folder):
        self.folder, self.model, self.opened = folder, Answerer("base"), 0

    def _open(self):
        self.opened += 1
        return self.model

    def kept(self):
        return Kept(self.folder / "answers.sqlite")

    def generator(self, *, fresh=False, model=MODEL, reference=REFERENCE):
        kept = Kept(self.folder / "answers.sqlite", fresh)
        return KeptGenerator(kept, identity(model, reference), True, self._open)

    def ask(self, *questions, settings=SETTINGS, **options):
        found = self.generator(**options).generate(chats(*questions), settings, quiet)
        return [one.text for one in found]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_question_is_asked_once_and_a_model_with_nothing_to_do_is_not_opened(world):
    first = world.ask("a", "b")
    assert world.ask("b", "a") == first[::-1]
    assert (len(world.model.asked), world.opened) == (2, 1)


def test_only_what_is_new_is_asked(world):
    world.ask("a")
    assert world.ask("a", "c", "a") == ["base: a", "base: c", "base: a"]
    assert len(world.model.asked) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"settings": replace(SETTINGS, max_new_tokens=9)},
        {"settings": replace(SETTINGS, seed=1)},
        {"model": MODEL | {"precision": "fp32"}},
        {"reference": replace(REFERENCE, adapter="ad")},
        {"fresh": True},
    ],
)
def test_what_decides_an_answer_makes_it_another(world, change):
    world.ask("a")
    world.ask("a", **change)
    assert len(world.model.asked) == 2


@pytest.mark.parametrize(
    "same",
    [
        {"settings": replace(SETTINGS, batch_rows=3)},
        {"model": MODEL | {"tuner": {"rank": 2}, "timeout_s": 9}},
    ],
)
def test_what_decides_nothing_changes_nothing(world, same):
    world.ask("a")
    world.ask("a", **same)
    assert len(world.model.asked) == 1


def test_a_failed_request_is_asked_again(world):
    world.ask("FAIL", "a")
    world.ask("FAIL", "a")
    assert len(world.model.asked) == 3


def test_after_a_crash_what_was_answered_is_there(world):
    world.model.crash_after = 5
    with pytest.raises(KeyboardInterrupt):
        world.ask(*"abcdefgh")
    world.model.crash_after = None
    world.ask(*"abcdefgh")
    assert len(world.model.asked) == 8


class Breaks:
    """Answers three chats and then does what it is told."""

    can_score = False

    def __init__(self, then):
        self.then = then

    def generate(self, asked, settings, progress):
        for number, chat in enumerate(asked):
            if number == 3:
                self.then()
            yield Response(chat[-1].text, "stop", 1, 1)


def broken_off(world, then):
    kept = Kept(world.folder / "answers.sqlite")
    generator = KeptGenerator(kept, identity(MODEL, REFERENCE), False, lambda: Breaks(then))
    list(generator.generate(chats(*"abcdefgh"), SETTINGS, quiet))


def test_after_a_failure_of_the_service_only_the_rest_is_asked(world):
    def fail():
        raise BackendError("503", retryable=True)

    with pytest.raises(BackendError):
        broken_off(world, fail)
    world.ask(*"abcdefgh")
    assert [chat[-1].text for chat in world.model.asked] == list("defgh")


def test_a_killed_process_leaves_every_answer_that_it_had_time_to_keep(world, monkeypatch):
    monkeypatch.setattr("llmops.adapters.model.answers.KEEP_EVERY_S", 0.0)
    child = os.fork()
    if child == 0:
        broken_off(world, lambda: os._exit(9))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    world.ask(*"abcdefgh")
    assert [chat[-1].text for chat in world.model.asked] == list("defgh")


def test_an_answer_comes_back_whole(world):
    answer = Response(
        "half \ud800", "stop", 3, 4, citations=(Citation(0, 4, uri="urn:x"),), latency_s=0.5
    )
    world.model._answer = lambda question: answer
    (first,) = world.generator().generate(chats("a"), SETTINGS, quiet)
    (again,) = world.generator().generate(chats("a"), SETTINGS, quiet)
    assert first == again == answer


def test_a_likelihood_is_measured_once(world):
    pairs = [(chats("a")[0], "the answer"), (chats("b")[0], "the answer")]
    first = list(world.generator().score(pairs, quiet))
    assert list(world.generator().score(reversed(pairs), quiet)) == first[::-1]
    assert world.opened == 1


# ------------------------------------------------------------ finding and removing


def test_answers_about_a_text_are_found_and_removed_wherever_it_stands(world):
    private = 'my "private"\nquestion, naïve \ud83d\ude00'.encode("utf-16", "surrogatepass")
    private = private.decode("utf-16")
    example = Message("user", f"Before: {private}"), Message("assistant", "so")
    in_json = Message("user", json.dumps({"question": private}, ensure_ascii=False, indent=1))
    asked = [(Message("user", private),), (*example, Message("user", "other")), (in_json,)]
    list(world.generator().generate([*asked, *chats("other")], SETTINGS, quiet))
    list(world.generator().score([(chats("other")[0], f"{private}!")], quiet))
    kept = world.kept()
    assert kept.about([f" {private} "]) == 4
    assert kept.about([private], remove=True) == 4
    assert (kept.about([private]), kept.about(["other"])) == (0, 1)
    stored = (world.folder / "answers.sqlite").read_bytes()
    assert b"private" not in stored


def test_an_answer_that_says_the_text_is_about_it_too(world):
    world.model._answer = lambda question: Response("it is Ada's", "stop", 3, 4)
    world.ask("a", "b")
    assert world.kept().about(["Ada"]) == 2


def test_nothing_is_about_no_text(world):
    world.ask("a")
    assert world.kept().about(["", "  "], remove=True) == 0
    assert world.kept().about([]) == 0


def test_answers_of_no_use_for_long_can_go_and_use_renews_them(world):
    world.ask("a", "b")
    with closing(sqlite3.connect(world.folder / "answers.sqlite")) as connection, connection:
        connection.execute("UPDATE kept SET used = '2020-01-01'")
    world.ask("a")
    last_year = datetime.now(UTC) - timedelta(days=365)
    assert world.kept().unused(last_year) == 1
    assert world.kept().unused(last_year, remove=True) == 1
    world.ask("a", "b")
    assert len(world.model.asked) == 3  # b again
    assert world.kept().unused(datetime.now(UTC), remove=True) == 0


def test_a_workspace_without_answers_has_none_to_remove(world):
    assert world.kept().about(["x"], remove=True) == 0
    assert world.kept().unused(datetime.now(UTC), remove=True) == 0
    assert not (world.folder / "answers.sqlite").exists()


class Elsewhere:
    """A step's scratch folder on two machines in turn, and the bucket between them."""

    def __init__(self, folder):
        self.folder, self.bucket, self.machines = folder, folder / "bucket", 0
        self.bucket.mkdir()

    def worker(self, model):
        """Start a worker on a machine that has nothing, and let it take the step over."""
        self.machines += 1
        machine = self.folder / f"machine-{self.machines}"
        scratch = machine / "scratch"
        shutil.copytree(self.bucket, scratch)
        kept = Kept(machine / "answers.sqlite", journal=Journal())
        kept.take_over(scratch, lambda path: shutil.copy(path, self.bucket))
        return KeptGenerator(kept, identity(MODEL, REFERENCE), True, lambda: model)


def test_a_worker_on_another_machine_asks_only_what_a_killed_one_was_not_answered(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("llmops.adapters.model.answers.KEEP_EVERY_S", 0.0)
    elsewhere, asked = Elsewhere(tmp_path), chats(*"abcdefgh")
    first = elsewhere.worker(Breaks(lambda: os._exit(9)))
    child = os.fork()
    if child == 0:
        list(first.generate(asked, SETTINGS, quiet))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    model = Answerer("base")
    found = elsewhere.worker(model).generate(asked, SETTINGS, quiet)
    assert [one.text for one in found] == [*"abc", *(f"base: {name}" for name in "defgh")]
    assert [chat[-1].text for chat in model.asked] == list("defgh")


def test_what_no_step_is_in_work_on_leaves_no_journal(tmp_path):
    kept = Kept(tmp_path / "answers.sqlite", journal=Journal())
    generator = KeptGenerator(kept, identity(MODEL, REFERENCE), True, lambda: Answerer("base"))
    list(generator.generate(chats("a"), SETTINGS, quiet))
    assert [path.name for path in tmp_path.iterdir()] == ["answers.sqlite"]
