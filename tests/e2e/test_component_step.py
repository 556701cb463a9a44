"""A compiled KFP component as a step of a pipeline."""

from __future__ import annotations

import json

import pytest

from tests.fakes.toy_project import ToyProject

SHOUT = """\
def shout(greeting: Input[Artifact], loud: Output[Artifact], marks: int = 1) -> str:
    import json
    text = json.load(open(greeting.path))["text"].upper() + "!" * marks
    json.dump({"text": text}, open(loud.path, "w"))
    return text
"""
PIPELINE = """\
# Says and shouts.
#   python -m llmops run +experiment=words
name: words
steps:
  s0:
    use: say
    with: {text: hi}
  s1:
    use: components/shout.yaml
    takes: {greeting: s0.out}
    with: {marks: 2}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = ToyProject(tmp_path_factory.mktemp("component"))
    made.chain("words", "say")
    made.component("shout", SHOUT)
    (made.root / "conf" / "pipeline" / "words.yaml").write_text(PIPELINE)
    return made


def test_a_component_runs_on_files_and_its_results_become_facts(project):
    done = project.llmops("run", "+experiment=words", "--json")
    assert done.returncode == 0, done.stderr
    step = project.record(done)["steps"][1]
    output = project.root / step["outputs"]["loud"]["uri"]
    assert json.loads(output.read_text()) == {"text": "HI!!"}
    assert step["facts"] == {"Output": "HI!!"}


def test_a_changed_parameter_runs_the_component_again(project):
    plan = json.loads(
        project.llmops(
            "plan", "+experiment=words", "pipeline.steps.s1.with.marks=3", "--json"
        ).stdout
    )
    assert [step["status"] for step in plan["steps"]][1] == "run"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "pipeline.steps.s1.use=components/shuot.yaml",
            "no component file 'components/shuot.yaml'",
        ),
        ("pipeline.steps.s1.use=pipeline/words.yaml", "is not a compiled KFP component"),
        ("+pipeline.steps.s1.takes.greting=s0.out", "has no input 'greting'"),
        ("~pipeline.steps.s1.takes.greeting", "the input 'greeting' (json) is missing"),
        ("pipeline.steps.s1.takes.greeting=s0.aut", "s0 (say) has no output 'aut'"),
    ],
)
def test_a_component_that_is_missing_or_does_not_fit_is_a_config_error(project, override, said):
    done = project.llmops("validate", "+experiment=words", override)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr


def test_an_unknown_parameter_is_named_with_the_nearest(project):
    done = project.llmops("run", "+experiment=words", "+pipeline.steps.s1.with.mark=2")
    assert done.returncode == 2
    assert "did you mean 'marks'?" in done.stdout + done.stderr
