"""What every engine keeps: the same experiment leaves the same record, wherever it ran.

Vertex AI and the cluster are fakes on loopback that Google's and Kubeflow's real clients talk to;
they execute what is submitted.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from llmops import api
from llmops.plan.build import Selection
from tests.fakes.cloud_project import Elsewhere, elsewhere
from tests.fakes.container_component import IMAGE, SHOUT, STEPS

ENGINES = ("local", "vertex", "kubeflow")
# What says where and when a run was, not what it did.
MAY_DIFFER = {
    "run_id",
    "started",
    "finished",
    "seconds",
    "process",
    "overrides",
    "config_digest",  # of the whole config, the engine's section among it
    "pipeline_digest",  # of the tasks, which engines fuse and size differently
    "engine",
    "estimates",  # what an engine costs
}
STEPS_MAY_DIFFER = {"seconds", "log"}


@pytest.fixture(params=ENGINES)
def place(request, tmp_path, monkeypatch):
    with elsewhere(request.param, tmp_path) as made:
        made.enter(monkeypatch)
        yield made


def run(place: Elsewhere, name: str, *overrides: str, **options) -> dict:
    made = api.run([f"+experiment={name}", *place.overrides, *overrides], **options)
    return dict(made.record)


def comparable(record: dict) -> dict:
    kept = {name: value for name, value in record.items() if name not in MAY_DIFFER}
    kept["steps"] = [
        {name: value for name, value in step.items() if name not in STEPS_MAY_DIFFER}
        for step in record["steps"]
    ]
    return json.loads(json.dumps(kept))


def test_a_run_does_each_step_once_and_tells_of_it(place):
    place.project.chain("words", "say", "pass_on", "pass_on")
    told = []
    record = run(place, "words", on_event=told.append)
    assert record["status"] == "succeeded", record["error"]
    assert place.did() == ["s0 said", "s1 passed", "s2 passed"]
    ends = [(event["step"], event["status"]) for event in told if event["event"] == "end"]
    assert ends == [("s0", "done"), ("s1", "done"), ("s2", "done")]


def test_the_record_is_that_of_the_local_engine(place, tmp_path):
    if place.engine == "local":
        pytest.skip("the one that others are compared with")
    place.project.chain("words", "say", "pass_on")
    record = run(place, "words")
    Path("runs").rename("runs_elsewhere")
    beside = dict(api.run(["+experiment=words", *_beside(place, tmp_path)]).record)
    assert set(record) == set(beside)
    text = json.dumps(comparable(beside)).replace("another_store", "store")
    assert comparable(record) == json.loads(text)


def _beside(place: Elsewhere, tmp_path: Path) -> list[str]:
    """Return the overrides for this machine: the same environment, an empty store."""
    env = [override for override in place.overrides if override.lstrip("+").startswith("env")]
    return ["store=bucket", f"store.url=file://{tmp_path / 'another_store'}", *env]


def test_an_unchanged_rerun_starts_no_engine(place):
    place.project.chain("words", "say", "pass_on")
    run(place, "words")
    again = run(place, "words")
    assert not again["engine"]["started"]
    assert [step["status"] for step in again["steps"]] == ["cached", "cached"]
    assert place.did() == ["s0 said", "s1 passed"]


def test_known_steps_enter_as_importers(place):
    place.project.chain("words", "say", "pass_on", "pass_on")
    run(place, "words")
    made = api.run(["+experiment=words", *place.overrides, "pipeline.steps.s2.with.text=new"])
    assert [step["status"] for step in made.record["steps"]] == ["cached", "cached", "done"]
    pipeline = yaml.safe_load((made.folder / "pipeline.yaml").read_text("utf-8"))
    executors = pipeline["deploymentSpec"]["executors"].values()
    assert sorted(next(iter(found)) for found in executors) == ["container", "importer"]


def test_a_failed_step_says_why_and_what_follows_is_not_reached(place):
    place.project.chain("words", "say", "refuse", "pass_on")
    made = api.run(["+experiment=words", *place.overrides])
    assert [step["status"] for step in made.record["steps"]] == ["done", "failed", "not_reached"]
    assert made.exit_code == 4
    assert made.record["error"]["problem"] == "no row is good"
    assert "log" in made.record["error"]["hint"]


def test_a_step_that_dies_without_a_word_fails_the_run(place):
    place.project.chain("words", "say", "die")
    made = api.run(["+experiment=words", *place.overrides])
    assert made.exit_code == 5
    assert made.record["error"]["step"] == "s1"


def test_a_damaged_object_is_made_again_within_the_run(place):
    if place.engine == "local":
        pytest.skip("its tasks read the whole copy of this machine; tests/e2e has one in a folder")
    place.project.chain("words", "say", "pass_on")
    first = run(place, "words")
    damaged = Path(first["steps"][0]["outputs"]["out"]["uri"].removeprefix("file://"))
    size = damaged.stat().st_size
    damaged.chmod(0o644)
    damaged.write_bytes(b"x" * size)
    again = run(place, "words", "pipeline.steps.s1.with.text=new")
    assert again["status"] == "succeeded", again["error"]
    assert place.did().count("s0 said") == 2


def test_a_forced_step_runs_again(place):
    place.project.chain("words", "say", "pass_on")
    run(place, "words")
    record = run(place, "words", selection=Selection(force=("s1",)))
    assert record["error"] is None
    assert [step["status"] for step in record["steps"]] == ["cached", "done"]


COMPONENT = """\
def shout(greeting: Input[Artifact], out: Output[Artifact], marks: int = 1) -> str:
    import json
    text = json.load(open(greeting.path))["text"] + "!" * marks
    json.dump({"text": text}, open(out.path, "w"))
    return text
"""


def test_a_component_file_of_the_users_own_runs_as_a_step(place):
    place.project.component("shout", COMPONENT)
    place.project.chain("words", "say", "pass_on")
    record = run(
        place,
        "words",
        "pipeline.steps.s1.use=components/shout.yaml",
        "~pipeline.steps.s1.takes.in",
        "+pipeline.steps.s1.takes.greeting=s0.out",
        "~pipeline.steps.s1.with.text",
        "+pipeline.steps.s1.with.marks=3",
    )
    assert record["status"] == "succeeded", record["error"]
    assert record["steps"][1]["facts"] == {"Output": "say0!!!"}


def test_fused_steps_share_a_task_and_stay_steps(place):
    if place.engine == "local":
        pytest.skip("a process costs little: the local engine fuses nothing")
    place.project.chain("words", "say", "pass_on", "pass_on")
    made = api.run(
        ["+experiment=words", *place.overrides, "++engine.fuse={first:[say],rest:[pass_on]}"]
    )
    assert made.record["status"] == "succeeded", made.record["error"]
    assert list(place.service.execution().tasks) == ["s0", "rest"]
    assert place.did() == ["s0 said", "s1 passed", "s2 passed"]


class TestAContainerImageOfAStepsOwn:
    """A user's KFP component that is no Python function; engines elsewhere start any image."""

    @pytest.fixture
    def away(self, place):
        if place.engine == "local":
            pytest.skip("one machine starts no containers; tests/unit/engines/test_fitting.py")
        place.project.container("shout", SHOUT)
        place.project.pipeline("loud", STEPS)
        return place

    def test_it_gets_files_and_parameters_and_what_it_makes_goes_on(self, away):
        record = run(away, "loud")
        assert record["status"] == "succeeded", record["error"]
        assert [step["status"] for step in record["steps"]] == ["done", "done", "done"]
        assert record["steps"][1]["facts"] == {"length": 15}
        assert text_of(record["steps"][1]["outputs"]["loud"]) == "HI!"
        assert text_of(record["steps"][2]["outputs"]["out"]) == "HI! there"
        self.check_what_arrived(away)

    def check_what_arrived(self, away):
        """The service got the container as the user's file has it."""
        container = away.service.execution().container("s1")
        assert container["image"] == IMAGE
        assert container["command"] == ["sh", "-ec"]
        assert container["args"][1] == "{{$.inputs.artifacts['greeting'].path}}"
        assert "resources" in container

    def test_a_known_result_starts_no_container(self, away):
        run(away, "loud")
        again = run(away, "loud", "pipeline.steps.s2.with.text=new")
        assert [step["status"] for step in again["steps"]] == ["cached", "cached", "done"]
        assert IMAGE not in away.service.execution().images

    def test_one_that_fails_is_the_step_that_failed(self, away):
        made = api.run(["+experiment=loud", *away.overrides, "+pipeline.steps.s1.with.times=9"])
        assert made.exit_code == 5
        assert made.record["error"]["step"] == "s1"
        assert [step["status"] for step in made.record["steps"]] == [
            "done",
            "failed",
            "not_reached",
        ]


def text_of(output: dict) -> str:
    return json.loads(Path(output["uri"].removeprefix("file://")).read_text("utf-8"))["text"]
